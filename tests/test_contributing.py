"""CONTRIBUTING.md, the files beside it and docs/: what they name is there, and is what CI runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from migrator.database.run_state import PHASES
from tests.conftest import ROOT

PAGE = ROOT / "CONTRIBUTING.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
STORY = ROOT / "docs" / "how-it-works.md"
CI = ROOT / ".ci" / "run"


def test_every_path_on_the_page_exists():
    """Files and directories in backquotes, and the rows of the layout, are in the repository."""
    text = PAGE.read_text()
    named = re.findall(r"`((?:tests|migrator|entrypoint|docs|benchmarks|\.ci)[\w./-]*)`", text)
    assert len(named) >= 15
    assert [] == [path for path in named if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_on_a_page_exists(page: Path):
    """What a page names of the code, the tests and the examples is in the repository."""
    places = "benchmarks|deploy|docker|docs|entrypoint|examples|migrator|tests"
    named = re.findall(rf"`((?:{places})/[\w./-]+)", page.read_text())
    assert [] == [path for path in named if not (ROOT / path).exists()]


def test_every_function_of_the_story_is_where_it_says():
    """A step that is "`function` in `file`" is defined in that file."""
    named = re.findall(r"`(\w+)` in\s+`([\w/]+\.py)`", STORY.read_text())
    assert len(named) >= 30
    missing = [
        (name, path)
        for name, path in named
        if not re.search(rf"^ *def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_the_table_of_failures_is_whole():
    """It has each phase that a run notes, and outcomes and codes as the other pages have them."""
    (table,) = re.findall(
        r"^\| phase \| failure \|.*?\n\n", STORY.read_text(), re.DOTALL | re.MULTILINE
    )
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:] if line]
    assert set(PHASES) == set(re.findall(r"`(\w+)`", " ".join(row[0] for row in rows))) & set(
        PHASES
    )
    last = [row[-1] for row in rows]
    logs = (ROOT / "docs" / "logs.md").read_text()
    outcomes = set(re.findall(r"`(\w+)`", " ".join(last)))
    assert outcomes <= set(re.findall(r"^\| `(\w+)` \|", logs, re.MULTILINE))
    assert outcomes >= {"refused", "failed_restored", "restore_failed", "unknown", "migrated"}
    codes = set(re.findall(r"\b\d+(?!\+)\b", " ".join(last))) - {"128"}
    known = set(re.findall(r"^\| (\d+) \|", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert codes <= known


def test_the_picture_of_the_layout_is_the_layout():
    """Each line of it is a file or a directory, and no directory of the engine is left out."""
    (picture,) = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    package, shown = Path(), set()
    for line in picture.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            package = ROOT / name
        path = package if not line.startswith(" ") else package / name
        assert path.exists(), line
        shown.add(path)
    engine = {each.parent for each in (ROOT / "migrator").glob("*/__init__.py")}
    assert engine <= {path if path.is_dir() else path.parent for path in shown}


def test_every_directory_of_tests_stands_in_the_table():
    """A newcomer finds what each of them is for."""
    there = {each.name for each in (ROOT / "tests").iterdir() if list(each.glob("test_*.py"))}
    assert there == set(re.findall(r"`tests/(\w+)`", PAGE.read_text())) - {"support"}


def hooks() -> dict[str, list[str]]:
    """Return the words of each hook's command, by its name."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    found = [hook for repo in config["repos"] for hook in repo["hooks"]]
    return {hook["id"]: shlex.split(hook["entry"]) for hook in found}


@pytest.mark.parametrize("name", sorted(hooks()))
def test_ci_runs_what_each_hook_runs(name: str):
    """A hook's program and its first argument stand in the function of CI that checks them."""
    lint = CI.read_text().split("\nlint() {")[1].split("\n}")[0]
    program, *words = hooks()[name]
    words = [word for word in words if word != "--force-exclude"]
    wanted = " ".join([program.removeprefix(".venv/bin/"), *words[:2]])
    assert f'"$work/lint/bin/{wanted.split()[0]}"' in lint
    assert all(word in lint for word in wanted.split()[1:])


def test_the_hooks_are_all_that_ci_checks_before_the_tests():
    """Each program that CI's lint starts has its hook."""
    lint = CI.read_text().split("\nlint() {")[1].split("\n}")[0]
    started = set(re.findall(r'^  "\$work/lint/bin/(\w+)"', lint, re.MULTILINE)) - {"pip"}
    assert started == {words[0].removeprefix(".venv/bin/") for words in hooks().values()}


def test_the_tests_that_ci_runs_on_other_pythons_exist():
    """A test file, or a directory of them, that moves takes its place in the list along."""
    (listed,) = re.findall(r"VERSION_TESTS=\((.*?)\)", CI.read_text(), re.DOTALL)
    assert len(listed.split()) >= 10
    found = {path: [ROOT / path, *(ROOT / path).glob("test_*.py")] for path in listed.split()}
    lacking = [path for path, files in found.items() if not any(map(Path.is_file, files))]
    assert [] == lacking


def test_each_form_for_an_issue_is_one():
    """A form has a name, a description and fields with labels, as its host requires."""
    forms = [
        each
        for each in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")
        if each.name != "config.yml"
    ]
    assert len(forms) == 2
    for form in forms:
        content = yaml.safe_load(form.read_text())
        assert {"name", "description", "body"} <= set(content), form.name
        fields = [part for part in content["body"] if part["type"] != "markdown"]
        assert len({part["id"] for part in fields}) == len(fields) > 0
        assert all(part["attributes"]["label"] for part in fields)
