"""The tables of docs/own-images.md."""

from commands.own_images_tables import few, own, peers


def test_a_line_a_method_by_minutes(tmp_path):
    table = tmp_path / "peers.csv"
    table.write_text(
        "set,method,minutes_allowed,images,seed,minutes,ap,ap_area,test_seconds_an_image,peak_memory_mb\n"
        "racoon,b,10,160,0,10.0,0.9,0.95,0.25,3663\n"
        "racoon,b,3,160,0,3.0,0.8,0.85,0.25,3600\n"
        "deer,a,3,90,0,3.4,0.7,0.75,0.80,2160\n"
    )
    lines = peers(table).splitlines()[2:]
    assert lines[0] == "| deer | a | 3.4 | 0.7 | 0.75 | 0.80 | 2.2 |"
    assert [line.split(" | ")[2] for line in lines] == ["3.4", "3.0", "10.0"]


def test_our_own_trainings_stand_alone(tmp_path):
    table = tmp_path / "peers.csv"
    table.write_text(
        "set,method,minutes_allowed,images,seed,minutes,ap,ap_area,test_seconds_an_image,peak_memory_mb\n"
        '"racoon","SPP-net, long.yaml",10,160,0,10.0,0.9,0.95,0.25,3663\n'
        "racoon,another,3,160,0,3.0,0.8,0.85,0.25,3600\n"
        '"racoon","SPP-net, quick.yaml",3,160,0,3.4,0.7,0.75,0.80,2160\n'
    )
    assert own(table).splitlines()[2:] == [
        "| racoon | 160 | `quick.yaml` | 3.4 | 0.7 | 0.75 |",
        "| racoon | 160 | `long.yaml` | 10.0 | 0.9 | 0.95 |",
    ]


def test_draws_are_averaged(tmp_path):
    table = tmp_path / "few.csv"
    table.write_text(
        "set,config,images,draw,ap,ap_area\n"
        "racoon,quick,10,0,0.50,0.5\nracoon,quick,10,1,0.70,0.7\nracoon,quick,160,0,0.90,0.9\n"
        "deer,quick,10,0,0.40,0.4\n"
    )
    head, _, racoon, deer = few(table).splitlines()
    assert head == "| set | 10 images | 160 images |"
    assert racoon == "| racoon | 60.0 (50.0 to 70.0) | 90.0 |"
    assert deer == "| deer | 40.0 | - |"
