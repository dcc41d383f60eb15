# Commands for a newcomer: make quickstart, make test; make quickstart_classify for classification.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: quickstart quickstart_classify test pytest lint torture clean

# A portrait that comes with matplotlib.
PORTRAIT := .venv/lib/python3*/site-packages/matplotlib/mpl-data/sample_data/grace_hopper.jpg

# Draw a small data set, train every stage, test at five scales; then detect in a photograph with the shipped detector.
quickstart: .venv/installed
	$(PY) tools/get_data.py synthetic
	$(PY) tools/train_det.py --config configs/quickstart.yaml
	$(PY) tools/test_det.py --config configs/quickstart.yaml --scales 5
	$(PY) tools/detect.py $(PORTRAIT) --out runs/portrait

# Draw objects, train a classifier with the pyramid on two image sizes, test it on full images.
quickstart_classify: .venv/installed
	$(PY) tools/get_data.py synthetic --folder data/synthetic_240 --train 240 --test 60
	$(PY) tools/get_data.py voc_crops --data.root data/synthetic_240 --data.test_split test --folder data/synthetic_objects
	$(PY) tools/train_cls.py --config configs/quickstart_classify.yaml
	$(PY) tools/test_cls.py --run runs/quickstart_classify --views full

test: lint pytest

pytest: .venv/installed
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder tests/whole tests

# Half an hour of kills, full disks, cut links, trainings at once and hostile files; counts at its end.
torture: .venv/installed
	$(PY) tests/torture

lint: .venv/installed
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

# Without --no-compile, pip compiles 12,000 modules for a minute, most of which are never imported.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --no-compile --editable . --group dev
	touch $@

clean:
	rm -rf .venv runs/quickstart runs/quickstart_classify data/synthetic data/synthetic_240 data/synthetic_objects
