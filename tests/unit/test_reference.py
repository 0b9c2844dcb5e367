"""The tables of the documentation that come from the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrypoint import man_pages, reference
from entrypoint.exit_codes import EXIT_CODES
from entrypoint.options import OPTIONS
from migrator import errors
from migrator.commands.table import COMMANDS

ROOT = Path(__file__).parents[2]
PAGE = "Before.\n\n<!-- settings:begin -->\nold\n<!-- settings:end -->\n\nAfter.\n"


def test_the_settings_table_has_a_row_for_every_option_in_order() -> None:
    """Flag, variable, default and meaning of every option, four cells a row."""
    head, line, *rows = reference.settings_table().splitlines()
    assert head == "| flag | variable | default | meaning |"
    assert line == "| --- | --- | --- | --- |"
    assert len(rows) == len(OPTIONS)
    for row, option in zip(rows, OPTIONS, strict=True):
        cells = row.replace("\\|", "/").strip("| ").split(" | ")
        assert len(cells) == 4
        assert cells[0].strip("`").split()[0] == option.flag
        assert f"`{option.variable}`" in cells[1]


@pytest.mark.parametrize(
    "cells",
    [
        "| `MIGRATOR_DATABASE` | none; `/data/app.db` in the image |",
        "| `MIGRATOR_MIGRATIONS` | `migrations`; `/migrations` in the image |",
        "| `MIGRATOR_MOUNT` | `warn`; `require` in the image |",
        "| `MIGRATOR_BACKUP_DIR` | `backups` beside the database |",
        "| `MIGRATOR_BACKUP_KEEP` | 5 |",
        "| `MIGRATOR_WAIT_TIMEOUT` | 60 |",
        "| `MIGRATOR_LOCK_TIMEOUT` | 600 |",
        "| `MIGRATOR_RUN_AS`, else `PUID` and `PGID` | as started |",
        "| `MIGRATOR_LOG_FORMAT` | json unless stderr is a terminal |",
    ],
)
def test_the_defaults_read_as_in_the_contract(cells: str) -> None:
    """Defaults that a single word does not say are spelled out."""
    assert cells in reference.settings_table()


def test_every_exit_code_of_the_code_has_a_row() -> None:
    """No class of error has a code that the table lacks."""
    codes = {
        number for code, _, _ in EXIT_CODES for number in code.split(" / ") if number.isdigit()
    }
    classes = [errors.MigratorError]
    for each in classes:
        classes += each.__subclasses__()
    raised = {str(each.exit_code) for each in classes if each.__module__ == "migrator.errors"}
    assert raised | {"0", "1"} == codes
    assert len(reference.exit_code_table().splitlines()) == len(EXIT_CODES) + 2


def test_the_commands_part_has_every_help_text() -> None:
    """Both programs and every command, as the terminal shows them."""
    text = reference.commands_text()
    for line in ("entrypoint", "migrator", *(f"migrator {each.name}" for each in COMMANDS)):
        assert f"```console\n$ {line} --help\nUsage: {line.split()[0]} " in text


def test_what_stands_between_the_markers_is_replaced() -> None:
    """The rest of the page stays as it is, and doing it twice changes nothing."""
    once = reference.replace_between_markers(PAGE, "settings", "new")
    expected = "Before.\n\n<!-- settings:begin -->\n\nnew\n\n<!-- settings:end -->\n\nAfter.\n"
    assert once == expected
    assert reference.replace_between_markers(once, "settings", "new") == expected


@pytest.mark.parametrize(
    "page",
    [
        "",
        "<!-- x:begin -->",
        "<!-- x:end --><!-- x:begin -->",
        "<!-- x:begin --><!-- x:end -->" * 2,
    ],
)
def test_a_page_without_one_pair_of_markers_is_refused(page: str) -> None:
    """A marker lost in an edit does not make a part vanish in silence."""
    with pytest.raises(ValueError, match="exactly once"):
        reference.replace_between_markers(page, "x", "new")


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "docs/settings.md",
        "docs/moving-over.md",
        *(f"docs/man/{name}" for name in man_pages.PAGES),
    ],
)
def test_the_pages_are_in_date(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the documentation says of settings, codes and commands is what the code does."""
    assert reference.main([str(ROOT / name), "--check"]) == 0, capsys.readouterr().out


def test_a_stale_page_is_found_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--check fails on a stale page and leaves it, --write brings it up to date."""
    page = tmp_path / "settings.md"
    page.write_text(PAGE)
    assert reference.main([str(page), "--check"]) == 1
    assert "out of date" in capsys.readouterr().out
    assert page.read_text() == PAGE
    assert reference.main([str(page), "--write"]) == 0
    assert reference.settings_table() in page.read_text()
    assert reference.main(["--check", str(page)]) == 0


@pytest.mark.parametrize(
    "words", [[], ["--check"], ["x.md"], ["x.md", "--check", "--write"], ["--x"]]
)
def test_a_wrong_command_line_is_64(words: list[str]) -> None:
    """One mode and one page at least."""
    assert reference.main(words) == 64
