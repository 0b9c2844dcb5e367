"""`migrator rehearse`: what the pending migrations would do to the data, tried on a copy."""

from __future__ import annotations

from migrator.commands.kinds import JSON, Done, Run, as_json
from migrator.options.model import Arguments, Option
from migrator.options.types import path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from migrator.engine.parent import Parent
    from migrator.rehearsal.rehearse import Wanted
    from migrator.statement import Statement


def _rehearse(parent: Parent, given: Arguments) -> Done:
    from migrator.model import Outcome
    from migrator.rehearsal.rehearse import rehearse

    report, error = rehearse(parent, _wanted(given))
    if given["json"]:
        from migrator.rehearsal.report import as_plain

        text = as_json(as_plain(report))
    elif given["markdown"]:
        from migrator.rehearsal.markdown import as_markdown

        text = as_markdown(report)
    else:
        from migrator.rehearsal.text import as_text

        text = as_text(report)
    if given["html"] is not None:
        from migrator.errors import DiskError
        from migrator.rehearsal.html import as_page, write_page

        try:
            if str(given["html"]) == "-":
                text = as_page(report)
            else:
                write_page(report, given["html"])
        except DiskError as unwritten:
            error = error or unwritten
    applied = tuple(each.version for each in report.migrations if each.state == "applied")
    return error or Outcome("rehearsed", applied), text


def _wanted(given: Arguments) -> Wanted:
    from migrator.files import realpath
    from migrator.rehearsal.rehearse import Wanted

    directory = given["in_dir"]
    return Wanted(
        None if directory is None else realpath(directory),
        bool(given["keep"]),
        () if given["queries"] is None else _queries(given["queries"]),
    )


def _queries(file: Path) -> tuple[Statement, ...]:
    """
    Read the statements of `--queries`.

    Raises:
        UsageError: It cannot be read, or has something else than queries.
    """
    from migrator.errors import UsageError
    from migrator.parsing import sql

    hint = "Name a file of SQL with SELECT statements, each with its `;`."
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        msg = f"--queries is {str(file)!r}, which cannot be read: {why}."
        raise UsageError(msg, hint=hint, data={"option": "--queries"}) from error
    statements = sql.split_lenient(text)
    for each in statements:
        if each.keyword not in {"SELECT", "WITH", "VALUES"}:
            msg = f"--queries: line {each.line} of {str(file)!r} is not a query."
            raise UsageError(msg, hint=hint, data={"option": "--queries"})
    return statements


COMMAND = Run(
    "rehearse [--json | --markdown | --html FILE] [--in DIR] [--keep] [--queries FILE.sql]",
    "run what is pending on a copy of the data, and say what it does there",
    "migrator rehearse --html report.html",
    options=(
        JSON,
        Option("--markdown", "markdown", "print it as Markdown, for a pull request", switch=True),
        Option(
            "--html",
            "html",
            "write an HTML page to FILE as well, or only to stdout if FILE is `-`",
            metavar="FILE",
            parse=path,
            allowed="a file, or - for stdout",
        ),
        Option(
            "--in",
            "in_dir",
            "make the copy in DIR instead of beside the database",
            metavar="DIR",
            parse=path,
            allowed="a directory",
        ),
        Option(
            "--keep", "keep", "keep both copies, in `rehearsed` below that directory", switch=True
        ),
        Option(
            "--queries",
            "queries",
            "compare the plan and the result's size of these queries, before and after",
            metavar="FILE.sql",
            parse=path,
            allowed="a file of SQL",
        ),
    ),
    one_of=("json", "markdown", "html"),
    elsewhere=("dry-run", "try", "simulate"),
    work=_rehearse,
)
