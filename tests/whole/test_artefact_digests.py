"""The content of artefacts does not change while the version in their key stays.

Other numbers under an old key would be reused as if nothing had happened. ``tiny_artefacts.json``
holds an outline of a tiny artefact of each kind with its version, compared within a tolerance that
other processors stay in. Another release of a library may give other numbers, as keys allow for.
"""

import json
import re

import numpy as np
import pytest
from paths import ROOT
from tiny_artefacts import KINDS, TABLE, made, outline, same, same_outline, same_windows

AGAIN = "PYTHONPATH=. python tests/helpers/tiny_artefacts.py"


@pytest.mark.parametrize("name", KINDS)
def test_a_version_is_raised_when_numbers_change(name):
    kind, noted = KINDS[name], json.loads(TABLE.read_text())[name]
    assert kind.current == noted["version"], (
        f"{kind.version} is {kind.current}, the table has {noted['version']}: {AGAIN}"
    )
    if same(made(name), noted["arrays"]):
        return
    if kind.made_with != noted["made_with"]:
        pytest.skip(f"other numbers with {kind.made_with} than with {noted['made_with']}")
    pytest.fail(
        f"the same inputs give other numbers for '{name}', whose files would be reused: raise "
        f"{kind.version} above {kind.current}, then {AGAIN}"
    )


def test_every_version_has_its_artefact():
    constant = re.compile(r"^((?:\w+_)?VERSION|TRUNCATION) = \d", re.MULTILINE)
    found = {
        f"{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}.{name}"
        for folder in ("detection", "files", "proposals")
        for path in (ROOT / folder).rglob("*.py")
        for name in constant.findall(path.read_text(encoding="utf-8"))
    }
    assert found == {kind.version for kind in KINDS.values()}


def test_last_bits_pass_and_another_order_does_not(rng):
    rows = rng.standard_normal((40, 50))
    noted = outline(rows)
    assert same_outline(outline(rows * (1 + 1e-4 * rng.standard_normal(rows.shape))), noted)
    assert same_outline(outline(rows.astype(np.float16).astype(float)), noted)
    other = rows.copy()
    other[3] = rows[7]
    for changed in (rows[::-1], rows * 1.01, rows[:-1], other):
        assert not same_outline(outline(changed), noted)
    windows = rows[:, :4].tolist()
    assert same_windows(windows[:20] + windows[21:], windows)
    assert not same_windows(windows[::-1], windows)
