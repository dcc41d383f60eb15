"""The README's table from rows of results."""

import json
import sys

import pytest

HEADER = (
    "network,features,scales,layer,bbox,proposals,train_split,test_split,seed,map,map_area,cat\n"
)


@pytest.fixture
def readme_table(monkeypatch):
    monkeypatch.syspath_prepend("tools")
    monkeypatch.delitem(sys.modules, "readme_table", raising=False)
    import readme_table

    return readme_table


def test_layers_stand_side_by_side_and_seeds_are_averaged(readme_table, tmp_path):
    table = tmp_path / "table.csv"
    rows = (
        "alexnet,spp,5,fc7,false,ss,train,minival,0,0.48,0.4,0.5\n"
        "alexnet,spp,5,fc7,true,ss,train,minival,0,0.501,0.4,0.5\n"
        "alexnet,spp,5,fc7,true,ss,train,minival,1,0.507,0.4,0.5\n"
        "alexnet,spp,1,softmax,false,ss,train,minival,0,0.45,0.4,0.5\n"
        "alexnet,rcnn,5,pool5,false,ss,train,minival,0,0.4,0.4,0.5\n"
    )
    table.write_text(HEADER + rows)
    lines = readme_table.markdown(table).splitlines()
    assert len(lines) == 5
    start = "ss | train | minival |"
    fc7 = "48.0 / 50.4 (50.1 to 50.7)"
    assert lines[2] == f"| alexnet | spp | {start} 5 | - | - | {fc7} | - |"
    assert lines[3] == f"| alexnet | spp | {start} 1 | - | - | - | 45.0 / - |"
    assert lines[4] == f"| alexnet | rcnn | {start} - | 40.0 / - | - | - | - |"
    assert len({line.count("|") for line in lines}) == 1


def test_recall_of_windows(readme_table, tmp_path):
    table = tmp_path / "recall.csv"
    table.write_text(
        "method,split,windows,recall_50,recall_70,recall_80,recall_90,abo,mabo,seconds\n"
        "ss,minival,200,0.7194,0.4,0.3,0.1,0.6,0.7,0.786\n"
        "ss,minival,2403,0.9501,0.7361,0.3,0.1,0.6,0.7,0.786\n"
        "file,minival,500,1.0000,0.5000,0.3,0.1,0.6,0.7,-\n"
    )
    lines = readme_table.windows(table).splitlines()
    assert lines[2:] == [
        "| ss | minival | 0.719 / 0.400 | - | - | 2,403: 0.950 / 0.736 | 0.79 |",
        "| file | minival | - | 1.000 / 0.500 | - | 500: 1.000 / 0.500 | - |",
    ]
    assert len({line.count("|") for line in lines}) == 1


def test_seconds_and_ratios(readme_table, tmp_path):
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
        "pictures": 6,
    }
    facts["seconds"]["proposals"] = {"total": 1.1}
    path.write_text(json.dumps(facts))
    text = readme_table.speed(path)
    assert "| spp | 0.100 | 0.200 | 0.300 | 0.400 | 1.000 |\n" in text
    assert "| proposals | - | - | - | - | 1.100 |\n" in text
    assert "| spp, file to boxes | - | - | - | - | 0.850 |\n" in text
    assert "| ratios | 12.3 | 2.0 |\n" in text
    assert "| ratios_paper | 49 | 24 to 38 |\n" in text
