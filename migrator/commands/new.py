"""`migrator new`: make the file of a new migration."""

from __future__ import annotations

from migrator.commands.kinds import Make
from migrator.options.model import Argument, Arguments, Option
from migrator.terminal import printable


def _new(source: str, given: Arguments) -> str:
    from pathlib import Path

    from migrator.formats import template

    return printable(str(template.create(Path(source), given["name"], given["sql"])))


COMMAND = Make(
    "new NAME [--sql]",
    "make the file of a new migration and print its path",
    "migrator new add_email --sql",
    argument=Argument("name", "NAME", "what the migration does, in words"),
    options=(Option("--sql", "sql", "an .sql file instead of a .py file", switch=True),),
    elsewhere=("create", "generate", "make", "revision", "add"),
    make=_new,
)
