"""Tables of results from the files that tools write."""

import importlib
import json

import pytest
from paths import ROOT

from commands import cost_tables, tables

HEADER = (
    "network,train_from,boxes,precision,fc_rank,vote_iou,bbox_passes,flip,features,scales,layer,"
    "bbox,proposals,train_split,test_split,seed,map,map_area,cat\n"
)


@pytest.fixture
def result_tables(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    return importlib.import_module("result_tables")


def test_layers_stand_side_by_side_and_seeds_are_averaged(tmp_path):
    table = tmp_path / "table.csv"
    rows = (
        "alexnet,fc,,,,,,,spp,5,fc7,false,ss,train,minival,0,0.48,0.4,0.5\n"
        "alexnet,fc,,,,,,,spp,5,fc7,true,ss,train,minival,0,0.501,0.4,0.5\n"
        "alexnet,fc,,,,,,,spp,5,fc7,true,ss,train,minival,1,0.507,0.4,0.5\n"
        "alexnet,fc,,,,,,,spp,1,softmax,false,ss,train,minival,0,0.45,0.4,0.5\n"
        "alexnet,fc,,,,,,,rcnn,5,pool5,false,ss,train,minival,0,0.4,0.4,0.5\n"
    )
    table.write_text(HEADER + rows)
    lines = tables.tests(table).splitlines()
    assert len(lines) == 5
    start = "ss | train | minival |"
    fc7 = "48.0 / 50.4 (50.1 to 50.7)"
    assert lines[2] == f"| alexnet | spp | {start} 5 | - | - | {fc7} | - | - |"
    assert lines[3] == f"| alexnet | spp | {start} 1 | - | - | - | - | 45.0 / - |"
    assert lines[4] == f"| alexnet | rcnn | {start} - | 40.0 / - | - | - | - | - |"
    assert len({line.count("|") for line in lines}) == 1


def test_recall_of_windows(tmp_path):
    table = tmp_path / "recall.csv"
    table.write_text(
        "method,split,windows,recall_50,recall_70,recall_80,recall_90,abo,mabo,seconds\n"
        "ss,minival,200,0.7194,0.4,0.3,0.1,0.6,0.7,0.786\n"
        "ss,minival,2403,0.9501,0.7361,0.3,0.1,0.6,0.7,0.786\n"
        "file,minival,500,1.0000,0.5000,0.3,0.1,0.6,0.7,-\n"
    )
    lines = cost_tables.windows(table).splitlines()
    assert lines[2:] == [
        "| ss | minival | 0.719 / 0.400 | - | - | 2,403: 0.950 / 0.736 | 0.79 |",
        "| file | minival | - | 1.000 / 0.500 | - | 500: 1.000 / 0.500 | - |",
    ]
    assert len({line.count("|") for line in lines}) == 1


def test_the_best_of_each_network(tmp_path):
    table, combination = tmp_path / "table.csv", tmp_path / "combination.csv"
    table.write_text(
        "network,train_from,boxes,precision,fc_rank,vote_iou,bbox_passes,flip,scales,layer,bbox,"
        "proposals,map\n"
        "alexnet,fc,,,,,,,5,fc7,false,ss,0.4\n"
        "alexnet,conv3,ridge,,,0.5,,,5,fc6,true,ss > eb,0.5\n"
        "alexnet,conv3,,,256,,,,1,softmax,true,ss,0.45\n"
        "resnet50_caffe,fc,,,,0.5,,,1,fc7,true,ss,0.55\n"
    )
    combination.write_text("runs,map\na@1,0.9\n")
    alone = (
        "| resnet50_caffe | 55.0 | resnet50_caffe, box voting at 0.5, fc7 + bb, one scale, "
        "windows of ss |\n"
        "| alexnet | 50.0 | alexnet, from conv3, box loss, box voting at 0.5, fc6 + bb, "
        "five scales, windows of ss > eb |\n"
    )
    head = "| network | best mAP | how |\n|---|---|---|\n"
    assert tables.best(table, combination) == head + alone
    combination.write_text(
        "runs,map\n"
        "a@1,0.9\n"
        "a@1 + b@5,0.55\n"
        '"a@1 + b@5, averaged 1:1",0.6\n'
        '"a@1 + b@5, averaged 3:1",0.7\n'
        '"a@1 + b@5 + c@1, voting at 0.5",0.58\n'
    )
    two = "| 2 models together | 60.0 | a@1 + b@5, averaged 1:1 |\n"
    three = "| 3 models together | 58.0 | a@1 + b@5 + c@1, voting at 0.5 |\n"
    assert tables.best(table, combination) == head + two + three + alone


def test_the_papers_table(tmp_path):
    table = tmp_path / "table.csv"
    facts = "ss,train,minival"
    rows = (
        "alexnet,fc,,,,,,,spp,5,fc7,true,selective_search,train,minival,0,0.46,0.4,0.5\n"
        "alexnet,fc,,,,,,,spp,5,fc7,true,selective_search,train,minival,1,0.48,0.4,0.5\n"
        "alexnet,fc,,,,,,,spp,5,fc7,true,selective_search,train:500,minival:250,0,0.3,0.4,0.5\n"
        "alexnet,conv3,,,,,,,spp,1,softmax,false,selective_search,train,minival,0,0.45,0.4,0.5\n"
        f"alexnet,fc,,,,,,,spp,5,fc6,true,{facts},0,0.49,0.4,0.5\n"
    )
    table.write_text(HEADER + rows)
    lines = tables.paper(table).splitlines()
    assert lines[2] == "| pool5 SVM | - | - | - | - | 43.0 | 44.9 |"
    ours = "| - | 47.0 (46.0 to 48.0) | - | - |"
    assert lines[5] == f"| fc7 SVM + box regression {ours} 58.0 | 59.2 |"
    assert lines[6:] == ["| softmax | - | - | 45.0 | - | - | - |"]


def test_beside_rcnn(tmp_path):
    table = tmp_path / "table.csv"
    rows = (
        "alexnet,fc,,,,,,,spp,5,pool5,false,ss,train:9,minival:9,0,0.31,0.4,0.5\n"
        "alexnet,fc,,,,,,,spp,5,pool5,true,ss,train:9,minival:9,0,0.32,0.4,0.5\n"
        "alexnet,fc,,,,,,,rcnn,5,pool5,false,ss,train:9,minival:9,0,0.30,0.4,0.5\n"
        "alexnet,fc,,,,,,,spp,5,pool5,false,ss,train,minival,0,0.4,0.4,0.5\n"
    )
    table.write_text(HEADER + rows)
    same = "alexnet | pool5 SVM | train:9 | minival:9"
    assert tables.rcnn(table).splitlines()[2:] == [
        f"| R-CNN | {same} | 30.0 / - | 44.2 |",
        f"| SPP-net, five scales | {same} | 31.0 / 32.0 | 44.9 |",
    ]


def test_tables_stand_between_their_marks(result_tables):
    page = "a\n<!-- table: one -->\nold\n<!-- end of table -->\nb\n"
    new = page.replace("old", "new")
    makers = {"one": lambda: "new\n", "two": lambda: "never\n"}
    assert result_tables.filled("p.md", page, makers) == new
    assert result_tables.filled("p.md", new, makers) == new
    two = page + page
    assert result_tables.filled("p.md", two, makers) == new + new
    for wrong in ("no mark", page.replace("one", "three")):
        with pytest.raises(ValueError, match=r"p\.md needs marks .* one, two"):
            result_tables.filled("p.md", wrong, makers)


def test_seconds_and_ratios(tmp_path):
    path = tmp_path / "benchmark.json"
    ratios = {"conv_5_scales": 12.34, "total_5_scales": 2.0}
    facts = {
        "seconds": {"spp": {"conv": 0.1, "pool": 0.2, "fc": 0.3, "rest": 0.4, "total": 1.0}},
        "end_to_end": {"spp": 0.85},
        "ratios": ratios,
        "ratios_same_precision": ratios,
        "ratios_like_for_like": ratios,
        "ratios_paper": {"conv_5_scales": 49, "total_5_scales": "24 to 38"},
        "environment": {"processor": "a machine"},
        "command": "tools/benchmark.py",
        "date": "2026-11-25",
        "images": 6,
    }
    facts["seconds"]["proposals"] = {"total": 1.1}
    path.write_text(json.dumps(facts))
    gpu = tmp_path / "benchmark_cuda.json"
    beside = {"environment": {"cuda": "H1"}, "seconds": {"spp": {"total": 0.05}}}
    gpu.write_text(json.dumps(facts | beside | {"end_to_end": {"spp": 0.5}, "images": 4}))
    text = cost_tables.seconds(path, gpu)
    assert "| seconds an image | conv | pool | fc | rest | total | total on an H1 |\n" in text
    assert "| spp | 0.100 | 0.200 | 0.300 | 0.400 | 1.000 | 0.050 |\n" in text
    assert "| proposals | - | - | - | - | 1.100 | - |\n" in text
    assert "| spp, file to boxes | - | - | - | - | 0.850 | 0.500 |\n" in text
    assert text.endswith("6 images, a machine\n\n`tools/benchmark.py`, 2026-11-25, 4 images, H1\n")
    laptop = tmp_path / "benchmark_float32.json"
    laptop.write_text(json.dumps(facts | {"ratios": {"conv_5_scales": 7.0, "total_5_scales": 3.0}}))
    assert cost_tables.ratios(path, laptop).splitlines() == [
        "| times faster than R-CNN | convolutions, 5 scales | in all, 5 scales |",
        "|---|---|---|",
        "| like for like: float32, no shortcuts | 12.3 | 2.0 |",
        "| both bfloat16 | 12.3 | 2.0 |",
        "| SPP-net bfloat16, fc6 of rank 256; R-CNN float32 | 12.3 | 2.0 |",
        "| no bfloat16 instructions: like for like | 12.3 | 2.0 |",
        "| no bfloat16 instructions: fc6 of rank 256 | 7.0 | 3.0 |",
        "| the paper, on a GPU | 49 | 24 to 38 |",
    ]


def test_models_alone_and_together(tmp_path):
    table = tmp_path / "combination.csv"
    table.write_text(
        "runs,test_split,map,best_single_map,cat,dog\n"
        '"a@5, voting at 0.5",minival,0.5,0.5,0.4,0.6\n'
        '"b@1, voting at 0.5",minival,0.45,0.45,0.5,0.4\n'
        '"a@5 + b@1, voting at 0.5",minival,0.52,0.5,0.45,0.65\n'
        '"a@5 + b@1, voting at 0.5, averaged 1:2",minival,0.53,0.5,0.55,0.65\n'
        "a@5 + b@1,minival,0.51,0.49,0.4,0.6\n"
    )
    assert tables.combinations(table).splitlines()[2:] == [
        "| a@5 + b@1, voting at 0.5, averaged 1:2 | 53.0 | +3.0 | 2 of 2 |",
        "| a@5 + b@1, voting at 0.5 | 52.0 | +2.0 | 1 of 2 |",
        "| a@5 + b@1 | 51.0 | +2.0 | - |",
        "| a@5, voting at 0.5 | 50.0 | - | - |",
        "| b@1, voting at 0.5 | 45.0 | - | - |",
    ]


def test_classes_without_objects_are_not_to_be_won(tmp_path):
    table = tmp_path / "combination.csv"
    table.write_bytes(
        "runs,test_split,map,best_single_map,cat,dog\n"
        "a@5,few,0.4,0.4,0.4,-\n"
        "b@1,few,0.5,0.5,0.5,-\n"
        "a@5 + b@1,few,0.6,0.5,0.6,-\n".encode("utf-8-sig")
    )
    assert tables.combinations(table).splitlines()[2] == "| a@5 + b@1 | 60.0 | +10.0 | 1 of 1 |"


def test_half_a_json_file_is_named(tmp_path):
    path = tmp_path / "voc07_minival_a.json"
    path.write_text('{"map": 0.4')
    with pytest.raises(ValueError, match=r"voc07_minival_a\.json is not JSON"):
        cost_tables.cost([path])


def test_time_and_memory_without_windows(tmp_path):
    path = tmp_path / "voc07_minival_a.json"
    stages = {
        "windows of train by selective_search": {"seconds": 600.0, "peak_memory_mb": 9000},
        "fine-tuning": {"seconds": 90.0, "peak_memory_mb": 1500},
        "SVMs": {"seconds": 30.0, "peak_memory_mb": 2500, "workers": 1},
        "detection at 5 scales, edge_boxes_learned": {"seconds": 99.0, "peak_memory_mb": 9000},
    }
    result = {"map": 0.4567, "stages": stages}
    test = {"seconds": 5.0, "images": 10, "peak_memory_mb": 1, "workers": 2}
    path.write_text(json.dumps(result | {"detection": test}))
    lines = cost_tables.cost([path]).splitlines()
    assert lines[2] == f"| [voc07_minival_a](results/{path.name}) | 45.7 | 2 | 0.50 | 2 | 2.5 |"
    assert len({line.count("|") for line in lines}) == 1
    # The time of a test that was stopped and resumed is not known.
    path.write_text(json.dumps(result | {"detection": None}))
    assert cost_tables.cost([path]).splitlines()[2].endswith("| 45.7 | 2 | - | - | 2.5 |")
