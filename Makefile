# Two commands for a newcomer: make quickstart, make test.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: quickstart test lint torture clean

# Draw a small data set, train every stage, test at five scales.
quickstart: .venv/installed
	$(PY) tools/get_data.py synthetic
	$(PY) tools/train_det.py --config configs/quickstart.yaml
	$(PY) tools/test_det.py --config configs/quickstart.yaml --scales 5

test: lint
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder tests/whole tests

# Half an hour of kills, full disks, trainings at once and hostile files; counts at its end.
torture: .venv/installed
	$(PY) tests/torture

lint: .venv/installed
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --editable . --group dev
	touch $@

clean:
	rm -rf .venv runs/quickstart data/synthetic
