"""The manual pages: all of the tables, in a form that no reader complains of."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from entrypoint import man_pages
from entrypoint.exit_codes import EXIT_CODES
from entrypoint.options import OPTIONS
from migrator.commands.table import COMMANDS
from migrator.options.model import Option
from migrator.options.table import ENGINE_OPTIONS
from tests.support.machine import tool

PAGES = Path(__file__).parents[2] / "docs" / "man"


def shown(name: str) -> str:
    """Return what a reader sees of a page, its words apart by one blank."""
    done = subprocess.run(
        [tool("groff"), "-man", "-ww", "-Tutf8", "-P-c", "-rLL=400n", PAGES / f"{name}.1"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert done.stderr == ""
    plain = re.sub(r".\x08|\x1b\[[0-9;]*m", "", done.stdout)
    # groff writes hyphens where a page has not said that it means the minus of a command.
    assert "\u2010" not in plain
    return " ".join(plain.replace("\u2212", "-").replace("\u2019", "'").split())


@pytest.mark.parametrize("name", ["migrator", "entrypoint"])
def test_man_shows_a_page_without_a_warning(name: str) -> None:
    """`man --warnings` is silent, and there is something to read."""
    done = subprocess.run(
        [tool("man"), "--warnings", "-l", PAGES / f"{name}.1"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "PAGER": "cat"},
    )
    assert done.stderr == ""
    assert "EXIT STATUS" in done.stdout


@pytest.mark.parametrize("name", ["migrator", "entrypoint"])
def test_mandoc_finds_no_error(name: str) -> None:
    """The other implementation, of Alpine and the BSDs, takes them too."""
    words = [tool("mandoc"), "-T", "lint", "-W", "error", PAGES / f"{name}.1"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("name", "options"), [("migrator", ENGINE_OPTIONS), ("entrypoint", OPTIONS)]
)
def test_a_page_has_every_option_and_exit_code(name: str, options: tuple[Option, ...]) -> None:
    """Flag, value and variable of each, and each code with what it means."""
    text = shown(name)
    for option in options:
        assert f"{option.flag} {option.value_name}" in text
        assert str(option.variable) in text
    for code, outcome, _ in EXIT_CODES:
        assert f"{code} {outcome.replace('`', '')}" in text


def test_the_migrators_page_has_every_command() -> None:
    """Usage, what it does, its own options and its example."""
    text = shown("migrator")
    for command in COMMANDS:
        summary = f"{command.summary[0].upper()}{command.summary[1:]}.".replace("`", "")
        assert f"{command.usage} {summary}" in text
        assert f"$ {command.example}" in text
        for option in command.options:
            assert f"{option.flag} {option.value_name}".strip() in text


def test_the_other_name_leads_to_the_same_page() -> None:
    """`man sqlite-entrypoint` is entrypoint(1)."""
    assert (PAGES / "sqlite-entrypoint.1").read_text() == ".so man1/entrypoint.1\n"


def test_no_text_is_taken_for_a_request() -> None:
    """A dot at the start of a line, a backslash and a quote of a help text are words."""
    text = man_pages._text('.so x\n\'br\na\\b "c" `--d` …')
    assert text == "\\&.so x\n\\&'br\na\\eb \\(dqc\\(dq \\fB\\-\\-d\\fR \\[u2026]"
