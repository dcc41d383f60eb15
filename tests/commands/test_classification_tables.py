"""The tables of the classification half."""

import json

import pytest

from commands.classification_tables import differences, scratch, speed, transfer

COLUMNS = "task,network,features,view,size,train,test,seed"
PYRAMID = 'pets,alexnet,"pyramid, 3 epochs",full,64,train,val'


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"

    def write(header, *rows):
        path.write_text("\n".join([header, *rows, ""]))
        return path

    return write


def test_rows_from_before_there_were_settings_are_read(table):
    path = table(
        f"{COLUMNS},metric,value",
        f"{PYRAMID},0,top1,0.5",
        f"{PYRAMID},1,top1,0.7",
        "voc07,alexnet,conv5,full,64,train,val,0,mAP,0.25",
    )
    assert scratch(path, "pets").splitlines()[2:] == ["| pyramid, 3 epochs | 60.0 (50.0 to 70.0) |"]
    assert transfer(path, "voc07").splitlines()[2] == "| alexnet | conv5 | 25.0 |"


def test_only_seeds_of_the_same_settings_are_averaged(table):
    path = table(
        f"{COLUMNS},settings,metric,value",
        f"{PYRAMID},0,,top1,0.5",
        f"{PYRAMID},0,aaaa,top1,0.6",
        f"{PYRAMID},1,aaaa,top1,0.8",
        f"{PYRAMID},0,bbbb,top1,0.9".replace("alexnet", "zf5"),
        'pets,zf5,"6x6, 3 epochs",centre,64,train,val,0,cccc,top1,0.4',
    )
    assert scratch(path, "pets").splitlines()[2:] == [
        "| pyramid, 3 epochs, network alexnet | - | 50.0 |",
        "| pyramid, 3 epochs, network alexnet, settings aaaa | - | 70.0 (60.0 to 80.0) |",
        "| pyramid, 3 epochs, network zf5, settings bbbb | - | 90.0 |",
        "| 6x6, 3 epochs | 40.0 | - |",
    ]


def test_other_splits_and_settings_are_lines_of_their_own(table):
    start = "voc07,alexnet,pool5_6x6,crop,224"
    path = table(
        f"{COLUMNS},settings,metric,value",
        f"{start},train,minival,0,,mAP,0.5",
        f"{start},trainval,test,0,aaaa,mAP,0.6",
        f"{start},trainval,test,0,bbbb,mAP,0.7",
    )
    assert transfer(path, "voc07").splitlines()[2:5] == [
        "| alexnet | pool5 6x6, train train, test minival | 50.0 |",
        "| alexnet | pool5 6x6, train trainval, test test, settings aaaa | 60.0 |",
        "| alexnet | pool5 6x6, train trainval, test test, settings bbbb | 70.0 |",
    ]


def test_comparisons_of_other_settings(table):
    ends = "3 3,9,0.0016,-0.0090,0.0126,0.7967"
    path = table(
        "task,test,first,second,settings,seeds,images,difference,low,high,p",
        f"pets,val,a,b,,{ends}",
        f"pets,val,a,b,cccc,{ends}",
        f"pets,val,a,c,dddd,{ends}",
    )
    numbers = "+0.2 (-0.9 to +1.3) | 0.7967 |"
    assert differences(path, "pets").splitlines()[2:] == [
        f"| a | b | {numbers}",
        f"| a, settings cccc | b | {numbers}",
        f"| a | c | {numbers}",
    ]


def test_speed(tmp_path):
    path = tmp_path / "benchmark.json"
    rates = {
        "ours": {"first epoch": 80.0, "other epochs": 120.04},
        "torchvision": {"first epoch": 100.0, "other epochs": 100.0},
    }
    views = {"maps": 0.2, "crops together": 0.25, "crops one by one": 1.0}
    path.write_text(json.dumps({"images_per_second": rates, "views": views}))
    assert speed(path).splitlines()[2:] == [
        "| training, first epoch: images/s | 80.0 | torchvision's loop: 100.0 | 0.80 |",
        "| training, other epochs: images/s | 120.0 | torchvision's loop: 100.0 | 1.20 |",
        "| 96 views from maps: s an image | 0.200 | 96 crops together: 0.250 | 0.80 |",
        "| 96 views from maps: s an image | 0.200 | 96 crops one by one: 1.000 | 0.20 |",
    ]
