"""docs/security.md: each thing that an attacker cannot do has a test, and that is there."""

from __future__ import annotations

import re

from tests.conftest import ROOT

_ROW = re.compile(r"^\| (?!---|not possible)(.+?) \| (.+) \|$", re.MULTILINE)
_TEST = re.compile(r"`([\w/]+\.py)::(\w+)(?:\[[^`]*\])?`")


def test_each_thing_that_is_not_possible_has_its_test() -> None:
    """Every row of the page names a test, by the whole path or the last file of that directory."""
    text = (ROOT / "docs/security.md").read_text()
    rows = _ROW.findall(text)
    assert len(rows) > 10
    for what, tests in rows:
        named = _TEST.findall(tests)
        assert named, what
        assert len(named) == tests.count(".py"), f"{what}: a file is no test."
        for file, name in named:
            path = ROOT / file if "/" in file else ROOT / "tests/hostile" / file
            found = re.search(rf"^def {name}\(", path.read_text(), re.MULTILINE)
            assert found, (what, file, name)
