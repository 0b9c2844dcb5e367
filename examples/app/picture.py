"""
Draw README's picture: a migration that fails, and the start that comes back.

    python -m examples.app.picture docs/failed-run.svg

The commands in it are typed in a terminal, in a directory that plays the root of a container,
and what is drawn is what that terminal shows. Two pictures differ in times, in the name of the
backup and in the application's port.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from shlex import quote

from examples.app.demo import APP, FAILING, MIGRATIONS, environment, make_old_database

BROKEN = "migrations/010_archive_old_loans.sql"
START = "entrypoint python3 app.py"
TYPED = (f"cat {BROKEN}", START, "echo $?", f"sed -i '$d' {BROKEN}  # mended", START)
"""What is typed, in this order."""
RUNNING = b"listening on "
"""The application's first words, upon which the session ends."""

COLUMNS, CELL, LINE, EDGE, BAR = 100, 8.43, 20, 18, 34
"""Characters in a line; in pixels a character, a line, the margin and the title bar."""
CLASSES = {"": "", "0": "", "2": "dim", "33": "warning", "1;31": "error"}
"""What each of ANSI's colours that the program uses is called in the picture."""
STYLE = """\
  text { font: 14px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
         white-space: pre; fill: #24292f }
  rect { fill: #f6f8fa; stroke: #d0d7de } circle { fill: #d0d7de }
  .prompt { font-weight: bold; fill: #0550ae }
  .dim { fill: #57606a } .warning { fill: #7d4e00 } .error { font-weight: bold; fill: #cf222e }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } rect { fill: #161b22; stroke: #30363d } circle { fill: #484f58 }
    .prompt { fill: #79c0ff }
    .dim { fill: #8b949e } .warning { fill: #d29922 } .error { fill: #ff7b72 }
  }"""


def main() -> int:
    """Write the picture to the path that is given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("path", type=Path, help="the picture, such as docs/failed-run.svg")
    path: Path = parser.parse_args().path
    with tempfile.TemporaryDirectory() as directory:
        shown = session(Path(directory).resolve())
    path.write_text(drawing(shown), encoding="utf-8")
    return 0


def session(root: Path) -> str:
    """
    Type everything in a terminal, and return what it shows.

    The last release's database is made first, with all that the example had to migrate.
    """
    env = prepare(root)
    steps = [
        f"printf '%s\\n' {quote(f'$ {line}')}\n(exit $code)\n{line}\ncode=$?" for line in TYPED
    ]
    shown = in_terminal(["sh", "-c", "\n".join(["code=0", *steps])], root, env)
    return shown.replace(f"{root}/", "/")


def prepare(root: Path) -> dict[str, str]:
    """Make the directory as an image with a volume has it, and return the environment there."""
    database = root / "data" / "library.db"
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        make_old_database(database)
    shutil.copytree(MIGRATIONS, root / "migrations")
    shutil.copy(APP, root)
    programs = root / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(sys.executable)
    (programs / "entrypoint").symlink_to(Path(sys.executable).with_name("entrypoint"))
    given = {name: text for name, text in environment().items() if name != "NO_COLOR"}
    env = given | {
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "TERM": "xterm",
        "MIGRATOR_DATABASE": str(database),
        "MIGRATOR_MIGRATIONS": "migrations",
        "MIGRATOR_MOUNT": "ignore",
        "MIGRATOR_LOG_FORMAT": "console",
        "APP_DATABASE": str(database),
        "APP_PORT": "0",
    }
    subprocess.run(
        [programs / "entrypoint"], cwd=root, env=env, stderr=subprocess.DEVNULL, check=True
    )
    (root / BROKEN).write_text(FAILING, encoding="utf-8")
    return env


def in_terminal(command: list[str], directory: Path, env: dict[str, str]) -> str:
    """Run a command in a terminal of its own until the application listens; return the text."""
    ours, theirs = pty.openpty()
    shown = b""
    with subprocess.Popen(
        command,
        cwd=directory,
        env=env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        ended = False
        # Linux answers EIO once nobody has the other side of a terminal open (pty(7)).
        with contextlib.suppress(OSError), open(ours, "rb", buffering=0) as terminal:
            while part := terminal.read(4096):
                shown += part
                if not ended and RUNNING in shown and shown.endswith(b"\n"):
                    ended = True
                    os.killpg(process.pid, signal.SIGTERM)
    return shown.decode().replace("\r\n", "\n")


def drawing(shown: str) -> str:
    """Return the picture of a terminal that shows a text, each line an element of its own."""
    elements, row = [], 0
    for line in shown.splitlines():
        rows = list(wrapped(parts(line)))
        spans = "".join(
            f'<tspan x="{EDGE}" dy="{LINE if number else 0}">{"".join(map(span, each))}</tspan>'
            for number, each in enumerate(rows)
        )
        elements.append(f'<text y="{BAR + EDGE + row * LINE}">{spans}</text>')
        row += len(rows)
    width, height = round(2 * EDGE + COLUMNS * CELL), BAR + EDGE + row * LINE
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    dots = "".join(f'<circle cx="{EDGE + 20 * n}" cy="18" r="6"/>' for n in range(3))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" xml:space="preserve">',
            "<title>A run that fails, and the start that comes back</title>",
            f"<style>\n{STYLE}\n</style>",
            f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>{dots}',
            *elements,
            "</svg>\n",
        ]
    )


def parts(line: str) -> Iterator[tuple[str, str]]:
    """Yield the pieces of a line, as a terminal shows it in the end, with the class of each."""
    line = line.rpartition("\r\x1b[K")[2]
    if line.startswith("$ "):
        yield "prompt", line
        return
    kind = ""
    for number, text in enumerate(re.split(r"\x1b\[([0-9;]*)m", line)):
        if number % 2:
            kind = CLASSES[text]
        elif text:
            yield kind, text


def wrapped(pieces: Iterator[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Yield the rows that a line takes, broken between words before the width ends."""
    row: list[tuple[str, str]] = []
    left = COLUMNS
    for kind, text in pieces:
        rest = text
        while len(rest) > left:
            end = rest.rfind(" ", 0, left) + 1 or left
            yield [*row, (kind, rest[:end])]
            row, rest, left = [], rest[end:], COLUMNS
        row.append((kind, rest))
        left -= len(rest)
    yield row


def span(piece: tuple[str, str]) -> str:
    """Return one piece of a row."""
    kind, text = piece
    return f'<tspan class="{kind}">{escape(text)}</tspan>' if kind else escape(text)


if __name__ == "__main__":
    sys.exit(main())
