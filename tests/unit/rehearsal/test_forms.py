"""The report of a rehearsal as text, Markdown and a page, whatever stands in names and texts."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from migrator.rehearsal import report as values
from migrator.rehearsal.html import as_page
from migrator.rehearsal.markdown import as_markdown, escaped
from migrator.rehearsal.report import (
    ColumnGone,
    Comparison,
    Expected,
    Loss,
    MigrationReport,
    Orphans,
    QueryChange,
    QueryResult,
    Rehearsal,
    SchemaChange,
    StatementRun,
    TableRows,
)
from migrator.rehearsal.text import as_text

HOSTILE = (
    '<script>alert("1")</script> "><img src=x onerror=alert(1)> &amp; | `` ``` ````\n'
    "## a [link](http://x) ![i](http://x) *b* @everyone $x$ \x1b[31m \u202egnp.exe \udcff end"
)


def everything(text: str = HOSTILE, *, failed: bool = False) -> Rehearsal:
    """Return a report with every field filled, and a text in each that other people write."""
    migration = MigrationReport(
        text,
        text,
        text,
        "failed" if failed else "applied",
        1.25,
        (text,),
        (Loss(text, 3, said=not failed, before=5),),
        (
            TableRows(text, text, 5, 3, 1, 2, 3, "key"),
            TableRows(text, None, 0, 7, 7, 0, 0, "table"),
            TableRows(text, text, why=text),
            TableRows(text, text, 4, 0, 0, 0, 4, "table", gone=True),
        ),
        (StatementRun(text, 7, 2, 0.5, (f"SCAN {text}",), (text,)),),
        12,
        4096,
        8192,
        512,
        1024,
        error=text if failed else None,
    )
    comparison = Comparison(
        (SchemaChange("removed", "table", text, text, text, None),),
        (f"-{text}", f"+{text}", f" {text}"),
        (text,),
        (text,),
        (ColumnGone(text, text, 9),),
        (Orphans(text, text, 0, 2),),
        (
            QueryChange(
                text,
                3,
                QueryResult((text,), 4, 0.1),
                QueryResult(error=text),
                plan_changed=True,
                rows_changed=True,
                changed=True,
            ),
        ),
    )
    return Rehearsal(
        1,
        "0.1.0",
        "r1",
        f"/data/{text.replace('/', '')}.db",
        "2026-03-01T09:30:12+00:00",
        80 if failed else 0,
        text if failed else None,
        "migration.failed" if failed else None,
        text if failed else None,
        "in-place",
        2,
        (migration, MigrationReport("9", text, text, "not_reached")),
        4096,
        None if failed else 8192,
        0.1,
        0.2,
        None if failed else comparison,
        Expected(1.5, 1 << 26, 1 << 20, 1 << 25, enough=False),
        text,
    )


class Reader(HTMLParser):
    """Reads a page as a browser does: elements with their attributes, and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.text += data


@pytest.mark.parametrize("failed", [False, True], ids=["ends well", "fails"])
def test_no_text_of_others_is_html(failed: bool) -> None:
    """The elements and attributes of a page are those of one with harmless texts."""
    hostile, harmless = (
        Reader(as_page(everything(text, failed=failed))) for text in (HOSTILE, "harmless")
    )
    tags = [
        [(tag, sorted(set(found) - {"aria-label"})) for tag, found in page.elements]
        for page in (hostile, harmless)
    ]
    # Lines of a plan and of a statement are text; nothing else depends on what is written.
    assert tags[0] == tags[1]
    assert '<script>alert("1")</script>' in hostile.text
    assert "script" not in {tag for tag, _ in hostile.elements}
    assert "\u202e" not in hostile.text
    assert "\x1b" not in hostile.text


@pytest.mark.parametrize("failed", [False, True], ids=["ends well", "fails"])
def test_a_page_needs_nothing_from_elsewhere(failed: bool) -> None:
    """No script, no address but places within it, and a policy that forbids all else."""
    page = Reader(as_page(everything("harmless", failed=failed)))
    addresses = {
        value
        for _, found in page.elements
        for name, value in found.items()
        if name in ("href", "src")
    }
    assert addresses <= {"#report", "#m1", "#m2", "data:,"}
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]
    policies = [found["content"] for tag, found in page.elements if "http-equiv" in found]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert "$" not in page.text


def test_the_address_of_each_part_is_there() -> None:
    """What the timeline leads to has that name, and no name is there twice."""
    page = Reader(as_page(everything("harmless")))
    names = [found["id"] for _, found in page.elements if "id" in found]
    assert len(names) == len(set(names))
    leads = {found["href"] for tag, found in page.elements if tag == "a"}
    assert {str(each).removeprefix("#") for each in leads} <= set(names)


def test_what_is_lost_stands_before_anything_else() -> None:
    """Losses come first on a page and in Markdown, and one that was not said stands out."""
    lost = everything("harmless", failed=True)
    forms = ((as_page, "Timeline"), (as_markdown, "### Migrations"), (as_text, ": failed in"))
    for form, after in forms:
        text = form(lost)
        assert text.index("WITHOUT SAYING SO") < text.index(after)
    calm = dataclasses.replace(everything("x"), migrations=(), comparison=None)
    assert "Nothing is lost" in as_page(calm)
    assert "Lost" not in as_text(calm)


def test_no_text_of_others_is_markdown() -> None:
    """Outside of code nothing of them is left that means something; code cannot be left."""
    text = as_markdown(everything())
    fences = re.findall(r"^(`{3,})(?:diff|sql|text)$(.*?)^\1$", text, re.MULTILINE | re.DOTALL)
    assert len(fences) >= 2
    for fence, inside in fences:
        assert not re.search(rf"^{fence}`*$", inside, re.MULTILINE)
    outside = re.sub(r"^(`{3,})(?:diff|sql|text)$.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    for bad in ("<script", "<img", "](http", "@everyone", "\x1b", "\u202e", "| `"):
        assert bad not in outside
    for line in outside.splitlines():
        if line.startswith("| "):
            cells = re.split(r"(?<!\\)\|", line.strip("|"))
            assert len(cells) in (2, 4, 5), line


def test_markdown_of_names_reads_as_names() -> None:
    """A name of a file is shown as it is: only what Markdown would take is escaped."""
    assert escaped("002_add email") == "002\\_add email"
    assert escaped("a|b<c>&d@e") == "a\\|b&lt;c\\>&amp;d&#64;e"


def test_text_for_a_terminal_has_no_control_characters() -> None:
    """What a terminal would obey is shown."""
    assert "".join(as_text(everything()).splitlines()).isprintable()


def test_the_numbers_of_a_page_are_those_of_the_report() -> None:
    """Rows, sizes and times stand on it as they are in the values."""
    page = Reader(as_page(everything("harmless"))).text
    for shown in (
        "1.250 s",
        "4.0 KiB",
        "8.0 KiB",
        "64.0 MiB",
        "32.0 MiB free: not enough",
        "1.5 s",
    ):
        assert shown in page
    assert f"{1 + 2 + 3 + 7 + 4:,}" in page
    assert values.as_plain(everything("harmless"))["migrations"][0]["rows"][0]["changed"] == 2
