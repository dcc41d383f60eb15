"""Settings: their ranges, and how YAML, flags and a trained run give them."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from paths import ROOT

from detection.config import COMMON, Config
from detection.settings.testing import Detection, Report
from detection.settings.training import BoxRegression, Finetune, Network, Svm


def test_defaults_are_the_papers():
    config = Config()
    assert config.scales == 5
    assert (config.finetune.hidden, config.finetune.positive_share) == (4096, 0.25)
    assert (config.finetune.train_from, config.finetune.dropout) == ("fc", 0.5)
    assert config.features == "spp"
    assert config.svm.layers == ("fc7",)
    assert (config.detection.layer, config.detection.bbox) == (None, True)
    assert (config.svm.C, config.svm.bias, config.svm.positive_weight) == (1e-3, 10, 2)
    assert config.svm.negative_iou == 0.3
    assert (config.bbox.min_iou, config.bbox.ridge) == (0.5, 4000)
    assert (config.detection.score_threshold, config.detection.nms_iou) == (-1.5, 0.3)
    assert config.data.train_split == "trainval"
    assert config.data.test_split == "test"
    assert config.network.scale_rule == "paper"


@pytest.mark.parametrize(
    ("settings", "name", "value", "words"),
    [
        (Finetune, "steps", -1, "from 0 to 1e+07, got -1"),
        (Finetune, "positive_share", 1.0, "from 0.01 to 0.99, got 1.0"),
        (Config, "held_back", 0.6, "from 0 to 0.5, got 0.6"),
        (Finetune, "learning_rate", float("nan"), "from 0 to 10, got nan"),
        (Finetune, "dropout", -0.1, "from 0 to 0.95, got -0.1"),
        (Finetune, "conv_rate", -1, "from 0 to 10, got -1"),
        (Finetune, "images", 0, "from 1 to 65536, got 0"),
        (Svm, "C", 0, "from 1e-09 to 1e+09, got 0"),
        (Svm, "negative_iou", 2, "from 0.01 to 1, got 2"),
        (BoxRegression, "min_iou", 0.2, "from 0.5 to 1, got 0.2"),
        (BoxRegression, "ridge", float("inf"), "from 1e-06 to 1e+12, got inf"),
        (Detection, "nms_iou", 1.1, "from 0 to 1, got 1.1"),
        (Report, "images", -1, "from 0 to 100000, got -1"),
        (Config, "seed", 2**31, "from 0 to 2.14748e+09, got 2147483648"),
        (Config, "workers", -1, "from 0 to 1024, got -1"),
        (Config, "limit", 0, "from 1 to 1e+09, got 0"),
    ],
)
def test_ranges(settings, name, value, words):
    with pytest.raises(ValueError, match=name) as refusal:
        settings(**{name: value})
    assert str(refusal.value) == f"{settings.__name__}.{name} must be {words}"


def test_limits_are_allowed():
    Finetune(positive_share=0.99, momentum=0, dropout=0, learning_rate=0)
    Detection(nms_iou=1)
    assert Config(limit=None, held_back=0, seed=2**31 - 1).seed == 2147483647
    with pytest.raises(AttributeError):
        Config().seed = 1


def test_flags_over_file_over_defaults(configured, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 3\nfinetune:\n  steps: 5\n  batch: 64\n")
    config = configured("--config", path, "--finetune.steps", 7, "--scales", 1, "--limit", 9)
    expected = Config(seed=3, scales=1, limit=9, finetune=Finetune(steps=7, batch=64))
    assert config == expected


def test_nothing_given(configured, tmp_path, caplog):
    assert configured() == Config()
    (said,) = caplog.messages
    place = f"no {Path('configs/voc07_alexnet.yaml')} in {tmp_path} or {tmp_path / 'home'}: "
    assert said == f"{place}settings have the defaults of --help"


def test_layers_are_a_tuple_wherever_they_come_from(configured, tmp_path):
    expected = Config(svm=Svm(layers=("pool5", "fc6")))
    assert configured("--svm.layers", "[pool5,fc6]") == expected
    assert configured("--svm.layers=[pool5, fc6]") == expected
    path = tmp_path / "mine.yaml"
    for text in ("[pool5, fc6]", "\n  - pool5\n  - fc6"):
        path.write_text(f"svm:\n  layers: {text}\n")
        assert configured("--config", path) == expected
    alone = configured("--config", path, "--svm.layers", "[pool5]")
    assert alone == Config(svm=Svm(layers=("pool5",)))


def test_what_is_trained_and_what_scores(configured):
    flags = ("--features", "rcnn", "--finetune.train_from", "conv3", "--finetune.conv_rate", 0.5)
    flags += ("--finetune.images", 2, "--detection.layer", "softmax")
    expected = Config(
        features="rcnn",
        finetune=Finetune(train_from="conv3", conv_rate=0.5, images=2),
        detection=Detection(layer="softmax"),
    )
    assert configured(*flags) == expected


def test_strictness(configured, tmp_path):
    """Strictness is off by default, because one bad image is no reason to lose a run."""
    assert not configured().strict
    (tmp_path / "mine.yaml").write_text("strict: true\n")
    for words in (("--strict",), ("--strict", "true"), ("--config", "mine.yaml")):
        assert configured(*words) == Config(strict=True)


def test_no_box_regression(configured):
    expected = Config(seed=3, detection=Detection(bbox=False))
    for words in (("--detection.bbox=false",), ("--detection.bbox", "false")):
        assert configured(*words, "--seed", 3) == expected
        assert configured(*words, "--detection.bbox") == Config()


@pytest.mark.parametrize("channels", [-2, 0, 1, 7, 65537])
def test_channels_are_two_for_each_direction(channels):
    """A wrong number is refused at once, not after hundreds of images went through the network."""
    with pytest.raises(ValueError, match=rf"Network.pca_channels must be .* got {channels}$"):
        Network(pca_channels=channels)
    assert Network(pca_channels=2).pca_channels == 2


def test_batches_of_the_second_phase_are_shared_out_evenly():
    Finetune(conv_images=7)
    with pytest.raises(ValueError, match=r"times Finetune.conv_images .* got 256 and 7"):
        Finetune(train_from="conv3", conv_images=7)


def test_batches_are_shared_out_evenly():
    assert Finetune(batch=12, images=6).batch == 12
    for batch, images, words in (
        (
            18,
            4,
            "Finetune.batch must be .* times Finetune.images and a multiple of it, .* got 18 and 4",
        ),
        (6, 6, "Finetune.batch must be two or more times Finetune.images .* got 6 and 6"),
    ):
        with pytest.raises(ValueError, match=words):
            Finetune(batch=batch, images=images)


@pytest.mark.parametrize("number", ["1e-3", "1.0e-3", "0.001", ".001"])
def test_numbers_with_an_exponent(configured, tmp_path, number):
    path = tmp_path / "mine.yaml"
    path.write_text(f"finetune:\n  learning_rate: {number}\n")
    assert configured("--config", path).finetune.learning_rate == 0.001
    assert configured("--finetune.learning_rate", number).finetune.learning_rate == 0.001


SHIPPED = [
    path
    for path in sorted((ROOT / "configs").glob("*.yaml"))
    if "train_cls" not in path.read_text()
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files(configured, path):
    text = path.read_text()
    config = configured("--config", path)
    assert config.run == f"runs/{path.stem}"
    assert text.startswith("#")  # a comment states its purpose and the command


def test_the_quick_own_images_are_the_others_with_fewer_batches_and_no_mirror_images(configured):
    quick, whole = (
        configured("--config", ROOT / f"configs/{name}.yaml")
        for name in ("own_images_quick", "own_images")
    )
    assert quick.finetune.steps < whole.finetune.steps
    assert whole.finetune.checkpoint_every < whole.finetune.steps  # a killed training can resume
    steps, every = whole.finetune.steps, whole.finetune.checkpoint_every
    finetune = replace(quick.finetune, steps=steps, checkpoint_every=every)
    assert replace(quick, run=whole.run, finetune=finetune, mirrored=True) == whole


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--finetune.stepz", "3"], ["--finetune.stepz"]),
        (["--stepz", "3"], ["--stepz"]),
        (["--finetune.steps", "many"], ["finetune.steps", "many", "int"]),
        (["--svm.C", "soft"], ["svm.C", "soft", "float"]),
        (["--scales", "3"], ["scales", "3", "[1, 5]"]),
        (["--device", "tpu"], ["device", "tpu", "cpu"]),
        (["--finetune.steps", "0"], ["Finetune.steps 0", "give one with --start"]),
        (
            ["--start", "voc07", "--finetune.steps", "0", "--finetune.train_from", "conv4"],
            ["Finetune.steps 0 trains no layer", "train_from must be fc, got conv4"],
        ),
        (["--start", "voc07", "--features", "rcnn"], ["--start needs --features spp, got rcnn"]),
        (["--bbox.min_iou", "0.2"], ["min_iou", "0.2", "from 0.5 to 1"]),
        (["--limit", "0"], ["limit", "0", "from 1"]),
        (["--proposals.selective_search.min_side", "0"], ["min_side", "0", "1 or more"]),
        (["--features", "cnn"], ["features", "cnn", "spp", "rcnn"]),
        (["--finetune.train_from", "conv1"], ["finetune.train_from", "conv1", "conv2"]),
        (["--finetune.conv_rate", "11"], ["Finetune.conv_rate", "11", "from 0 to 10"]),
        (["--finetune.batch", "30"], ["Finetune.batch", "multiple", "30 and 4"]),
        (["--finetune.batch", "4"], ["Finetune.batch", "two or more times", "4 and 4"]),
        (["--svm.layers", "[fc6,fc8]"], ["svm.layers", "fc8", "pool5"]),
        (["--svm.layers", "fc6"], ["svm.layers", "fc6"]),
        (["--detection.layer", "conv5"], ["detection.layer", "conv5", "softmax"]),
        (["--detection.bbox", "perhaps"], ["detection.bbox", "perhaps", "bool"]),
        (["--bbox", "false"], ["bbox", "false"]),
        (["--config", "none.yaml"], ["none.yaml", "not exist"]),
    ],
)
def test_flags_that_are_refused(refused, flags, words):
    message = refused(*flags)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stepz: 3", ["stepz"]),
        ("finetune:\n  stepz: 3", ["finetune", "stepz"]),
        ("finetune:\n  steps: many", ["finetune.steps", "many", "int"]),
        ("finetune:\n  steps: 1.5", ["finetune.steps", "1.5", "int"]),
        ("finetune:\n  dropout: 2", ["Finetune.dropout", "2", "from 0 to 0.95"]),
        ("data:\n  difficult: perhaps", ["data.difficult", "perhaps", "bool"]),
        (
            "svm: 3",
            ["configuration cannot be used", "svm", "int", "a group such as svm needs keys"],
        ),
    ],
)
def test_files_that_are_refused(refused, tmp_path, text, words):
    (tmp_path / "mine.yaml").write_text(f"{text}\n")
    message = refused("--config", tmp_path / "mine.yaml")
    for word in words:
        assert word in message


def help_of(configured, capsys, flag):
    with pytest.raises(SystemExit) as ended:
        configured(flag)
    assert ended.value.code in (0, None)
    return capsys.readouterr().out


def settings_in(text):
    return set(re.findall(r"^  --([\w.]+)", text, re.MULTILINE))


def test_help_fits_in_two_screens(configured, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = help_of(configured, capsys, "--help")
    assert len(text.splitlines()) <= 80
    assert max(map(len, text.splitlines())) <= 100
    shown = settings_in(text)
    assert {name for name in shown if "." in name} == set(COMMON) - {"data.split"}
    assert {"run", "seed", "scales", "config"} < shown
    whole = help_of(configured, capsys, "--help=all")
    more = int(re.search(r"--help=all shows (\d+) more settings", text)[1])
    assert whole.count("(type:") == len(shown - {"config", "print_config"}) + more


def test_the_dry_run(configured, capsys):
    with pytest.raises(SystemExit) as ended:
        configured("--finetune.steps", 7, "--print_config")
    assert ended.value.code in (0, None)
    assert yaml.safe_load(capsys.readouterr().out)["finetune"]["steps"] == 7


@pytest.mark.parametrize("on_trained", [False, True])
def test_flags_before_the_file_count_too(configured, tmp_path, on_trained):
    (tmp_path / "mine.yaml").write_text("run: runs/new\nseed: 1\nscales: 1\n")
    words = ("--seed", 7, "--config", "mine.yaml", "--run=runs/other")
    assert configured(*words, on_trained=on_trained) == Config(run="runs/other", seed=7, scales=1)
