"""
Write the documentation's tables from the code.

``python -m entrypoint.reference README.md docs/settings.md --check`` fails when
a page is out of date, ``--write`` updates it. A page has each part between two
markers::

    <!-- settings:begin -->
    <!-- settings:end -->

A manual page (``docs/man/migrator.1``) is written as a whole.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from entrypoint.exit_codes import EXIT_CODES
from entrypoint.options import OPTIONS, PROGRAM, help_text
from migrator.commands.table import all_help
from migrator.formats.tools import TOOLS, tool
from migrator.options.model import Option

# What the image's ENV lines set; a copied tree has the plain defaults.
_IMAGE = {
    "database": "none; `/data/app.db` in the image",
    "migrations": "`migrations`; `/migrations` in the image",
    "mount": "`warn`; `require` in the image",
}


def settings_table() -> str:
    """Return the table of flags, variables, defaults and meanings."""
    rows = [
        (_code(option), _variable(option), _default(option), _cell(option.help))
        for option in OPTIONS
    ]
    return _table(("flag", "variable", "default", "meaning"), rows)


def exit_code_table() -> str:
    """Return the table of exit codes."""
    return _table(("code", "outcome", "database"), EXIT_CODES)


def commands_text() -> str:
    """Return the `--help` texts of both programs and of every command."""
    texts = [(f"{PROGRAM} --help", help_text()), *all_help()]
    return "\n\n".join(f"```console\n$ {line}\n{text}```" for line, text in texts)


def formats_table() -> str:
    """Return the table of other tools: their files, their history, and what shows that it holds."""
    rows = []
    for name in TOOLS:
        each = tool(name, Path(), Path())
        rows.append(
            (each.title, f"`{name}`", _cell(each.form), f"`{each.table}`", each.undoes, each.proven)
        )
    head = ("tool", "`--format`", "files, unchanged", "its own table, kept", "`down` runs")
    return _table((*head, "tested against"), rows)


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "exit-codes": exit_code_table,
    "commands": commands_text,
    "formats": formats_table,
}


def _code(option: Option) -> str:
    words = (option.flag, _cell(option.value_name))
    return f"`{' '.join(filter(None, words))}`"


def _variable(option: Option) -> str:
    return re.sub(r"[A-Z_]{2,}", r"`\g<0>`", option.source)


def _default(option: Option) -> str:
    if option.field in _IMAGE:
        return _IMAGE[option.field]
    if option.default_text:
        return option.default_text
    shown = option.default
    return f"{shown:g}" if isinstance(shown, int | float) else f"`{shown}`"


def _cell(text: str) -> str:
    """Escape the character that would end a cell."""
    return text.replace("|", "\\|")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def replace_between_markers(text: str, name: str, content: str) -> str:
    """
    Return a page with the content between two markers replaced.

    Args:
        text: The page.
        name: The part's name: `settings`, `exit-codes` or `commands`.
        content: The new content.

    Raises:
        ValueError: The page does not have exactly one pair of these markers.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        msg = f"The page needs {begin} and {end} exactly once, in this order."
        raise ValueError(msg)
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def up_to_date(text: str) -> str:
    """Return a page with each of its parts up to date."""
    for name in re.findall(r"<!-- ([a-z-]+):begin -->", text):
        if name in PARTS:
            text = replace_between_markers(text, name, PARTS[name]())
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Check pages, or write them; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    modes = [word for word in words if word in {"--check", "--write"}]
    paths = [Path(word) for word in words if not word.startswith("--")]
    if len(modes) != 1 or not paths or len(modes) + len(paths) != len(words):
        print("Usage: python -m entrypoint.reference PAGE... --check|--write", file=sys.stderr)
        return 64
    stale = [path for path in paths if _refresh(path, write=modes == ["--write"])]
    for path in stale:
        print(f"{path} {'was brought up to date' if modes == ['--write'] else 'is out of date'}.")
    return 1 if stale and modes == ["--check"] else 0


def _refresh(path: Path, *, write: bool) -> bool:
    """Tell whether a page was out of date, and update it with `write`."""
    text = path.read_text(encoding="utf-8")
    fresh = _manual(path) if path.suffix == ".1" else up_to_date(text)
    if write and fresh != text:
        path.write_text(fresh, encoding="utf-8")
    return fresh != text


def _manual(path: Path) -> str:
    from entrypoint.man_pages import PAGES

    return PAGES[path.name]()


if __name__ == "__main__":
    sys.exit(main())
