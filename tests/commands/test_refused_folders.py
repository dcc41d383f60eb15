"""A folder given for a file of results is refused before the work, not after it."""

from pathlib import Path

import pytest

from commands import benchmark, benchmark_cls, compare_cls, export_det, train_edges


@pytest.mark.parametrize(
    "called",
    [
        lambda folder: benchmark.main(out=folder),
        lambda folder: benchmark_cls.main(folder / "none", out=folder),
        lambda folder: compare_cls.main([str(folder)], [str(folder)], csv=str(folder)),
        lambda folder: export_det.main(str(folder / "none"), str(folder)),
        lambda folder: train_edges.main(voc=folder / "none", out=folder),
    ],
    ids=["benchmark", "benchmark_cls", "compare_cls", "export_det", "train_edges"],
)
def test_before_anything_is_read(tmp_path: Path, called) -> None:
    """The other inputs do not exist; the error about the folder comes first."""
    with pytest.raises(ValueError, match="is a folder; name a file"):
        called(tmp_path)
