"""Files of settings: the default one, those of the package, a trained run's, and wrong ones."""

import sys
from dataclasses import replace

import pytest

from commands import settings_files
from detection.config import Config
from detection.run import Run
from detection.settings.testing import Detection
from detection.settings.training import Finetune, Svm


def test_the_default_file_is_read(configured, tmp_path):
    """The tools' own folder has a default file; one in the working folder comes first."""
    for folder, seed in (("home/configs", 4), ("configs", 5)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "voc07_alexnet.yaml").write_text(f"seed: {seed}\n")
        assert configured() == Config(seed=seed)
    # Another file stands alone: nothing is taken from the default one.
    (tmp_path / "mine.yaml").write_text("scales: 1\n")
    for words in (("--config", "mine.yaml"), ("--config=mine.yaml",)):
        assert configured(*words) == Config(scales=1)


def test_a_file_of_the_package_is_found_in_any_folder(configured, refused, cli, tmp_path, caplog):
    caplog.set_level("INFO")
    packaged = tmp_path / "home/configs/small.yaml"
    packaged.parent.mkdir(parents=True)
    packaged.write_text("seed: 4\nrun: runs/small\n")
    assert settings_files.packaged_configs(["--seed", "configs/small.yaml"]) == [
        "--seed",
        "configs/small.yaml",
    ]
    for words in (("--config", "configs/small.yaml"), ("--config=configs/small.yaml",)):
        caplog.clear()
        assert configured(*words) == Config(seed=4, run="runs/small")
        assert f"configs/small.yaml is not in {tmp_path}: reading {packaged}" in caplog.text
    assert "configs/other.yaml" in refused("--config", "configs/other.yaml")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/small.yaml").write_text("seed: 5\n")
    assert configured("--config", "configs/small.yaml") == Config(seed=5)


TRAINED = Config(
    run="runs/mine",
    seed=4,
    scales=1,
    limit=10,
    finetune=Finetune(train_from="conv4", steps=7, learning_rate=1e-5),
    svm=Svm(layers=("pool5", "fc7")),
    detection=Detection(top_k=20),
)


def test_a_trained_runs_settings_are_taken_over_but_for_its_limit(configured, cli):
    Run(TRAINED).describe()
    expected = replace(TRAINED, limit=None)
    assert configured("--run", "runs/mine", on_trained=True) == expected
    assert configured("--run=runs/mine", on_trained=True) == expected
    settings = settings_files.trained_settings(["--run", "runs/mine", "--seed", "9"])
    assert settings["seed"] == 4
    assert settings["finetune.learning_rate"] == 1e-5
    assert "limit" not in settings


def test_flags_change_a_trained_runs_settings(configured):
    Run(TRAINED).describe()
    flags = ("--run", "runs/mine", "--scales", 5, "--limit", 2, "--detection.nms_iou", 0.5)
    config = configured(*flags, on_trained=True)
    changed = replace(TRAINED.detection, nms_iou=0.5)
    assert config == replace(TRAINED, scales=5, limit=2, detection=changed)
    flags = ("--run", "runs/mine", "--detection.layer", "pool5", "--detection.bbox=false")
    changed = replace(TRAINED.detection, layer="pool5", bbox=False)
    assert configured(*flags, on_trained=True) == replace(TRAINED, limit=None, detection=changed)


def test_the_run_that_a_file_names(configured, tmp_path):
    Run(TRAINED).describe()
    (tmp_path / "mine.yaml").write_text("run: runs/mine\n")
    assert configured("--config", tmp_path / "mine.yaml", on_trained=True).finetune.steps == 7
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/voc07_alexnet.yaml").write_text("run: runs/mine\n")
    assert configured(on_trained=True).finetune.steps == 7


def test_a_file_that_names_a_run_does_not_change_its_settings(configured, tmp_path):
    """The run has its own settings; the settings of the file that names it are not used."""
    Run(TRAINED).describe()
    (tmp_path / "mine.yaml").write_text("run: runs/mine\nseed: 1\nfinetune:\n  steps: 600\n")
    named = configured("--config", "mine.yaml", "--limit", 2, on_trained=True)
    assert named == replace(TRAINED, limit=2)
    (tmp_path / "runs/mine").rename(tmp_path / "runs/moved")
    both = configured("--config=mine.yaml", "--run", "runs/moved", on_trained=True)
    assert both == replace(TRAINED, limit=None, run="runs/moved")
    (tmp_path / "mine.yaml").write_text("run: runs/moved\n")
    moved = configured("--config", "mine.yaml", on_trained=True)
    assert moved == replace(TRAINED, limit=None, run="runs/moved")


def test_a_run_that_was_not_trained(configured, cli, tmp_path):
    assert settings_files.trained_settings([]) == {}
    assert settings_files.trained_settings(["--run", "nowhere"]) == {}
    assert configured("--run", "nowhere", on_trained=True) == Config(run="nowhere")
    (tmp_path / "empty.yaml").write_text("")
    assert settings_files.trained_settings(["--config", "empty.yaml"]) == {}


def test_settings_of_an_older_run_are_one_sentence(tmp_path, cli, monkeypatch, capsys):
    (tmp_path / "config.yaml").write_text("seed: 3\nfinetune:\n  layers: fc\n")
    monkeypatch.setattr(sys, "argv", ["tool.py", "--run", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.run_on_trained(lambda config: None)
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'config.yaml'} was written by another version: its settings "
        "finetune.layers do not exist in this one; train the run again\n"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"seed: [3\nrun: x", "is not valid YAML in UTF-8 (while parsing a flow sequence"),
        (b"run: \xff", "is not valid YAML in UTF-8 ('utf-8' codec can't decode byte 0xff"),
        (b"\xff\xfes\0e\0e\0d\0", "is not valid YAML in UTF-8"),
        (b"hello", "has no settings: expected lines such as 'seed: 3', got a str"),
        (b"- a\n- b\n", "has no settings: expected lines such as 'seed: 3', got a list"),
    ],
    ids=["half", "bytes", "UTF-16", "word", "list"],
)
def test_a_file_of_settings_that_cannot_be_read_is_one_sentence(
    cli, monkeypatch, capsys, tmp_path, content, words
):
    (tmp_path / "runs").mkdir()
    for path in (tmp_path / "mine.yaml", tmp_path / "runs/config.yaml"):
        path.write_bytes(content)
    for name, call, flags in (
        ("mine.yaml", cli.run_configured, ["--config", "mine.yaml"]),
        ("mine.yaml", cli.run_configured, ["--seed", "3", "--config=mine.yaml"]),
        ("mine.yaml", cli.run_on_trained, ["--config", "mine.yaml"]),
        ("mine.yaml", cli.run_tool, ["--config", "mine.yaml"]),
        ("runs/config.yaml", cli.run_on_trained, ["--run", "runs"]),
    ):
        monkeypatch.setattr(sys, "argv", ["tool.py", *flags])
        with pytest.raises(SystemExit) as ended:
            call(lambda config: None)
        assert ended.value.code == 1
        err = capsys.readouterr().err
        # The error has the whole path of a relative name.
        assert err.startswith(f"error: {tmp_path / name} {words}")
        assert err.count("\n") == 1


def test_a_byte_order_mark_is_passed_over(cli, monkeypatch, tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"\xef\xbb\xbfseed: 3\n")
    found = []
    for call in (cli.run_configured, cli.run_on_trained):
        monkeypatch.setattr(sys, "argv", ["tool.py", "--config", "mine.yaml"])
        call(found.append)
    assert [config.seed for config in found] == [3, 3]
