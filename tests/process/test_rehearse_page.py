"""The page of `migrator rehearse --html`, looked at in a real browser."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Page, browsing
from tests.support.files import make_database, write_migrations
from tests.support.processes import Result, run_migrator

HOSTILE = '"<img src=x onerror=document.title=1>"'
SCHEMA = f"""
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, legacy TEXT);
    CREATE TABLE {HOSTILE} (id INTEGER PRIMARY KEY, v TEXT);
    INSERT INTO users VALUES (1, 'a', 'b'), (2, 'c', 'd');
    INSERT INTO {HOSTILE} VALUES (1, 'x');
"""
WELL = {
    "001_change.sql": f"""
        UPDATE users SET name = upper(name);
        UPDATE {HOSTILE} SET v = 'y';
        CREATE INDEX users_name ON users(name);
        ALTER TABLE users DROP COLUMN legacy;
    """,
    "002_more.sql": "CREATE TABLE more (id INTEGER PRIMARY KEY, a_rather_long_name_of_a_column TEXT"
    " DEFAULT 'and a rather long default, so that the line is wider than a telephone');",
}
BADLY = {**WELL, "003_fails.sql": "DELETE FROM users;\nSELECT * FROM nowhere;"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Return a page of a browser that is started once."""
    with browsing(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the page of a rehearsal that ends well, and of one that does not."""
    directory = tmp_path_factory.mktemp("reports")
    (directory / "q.sql").write_text("SELECT * FROM users WHERE name = 'a';\nSELECT 1;")
    found = {}
    for name, files in (("well", WELL), ("badly", BADLY)):
        (directory / name).mkdir()
        found[name] = directory / f"{name}.html"
        made(directory / name, files, found[name], directory / "q.sql")
    return found


def made(directory: Path, files: dict[str, str], page: Path, queries: Path) -> Result:
    """Rehearse migrations and write the page."""
    database = make_database(directory / "app.db", SCHEMA)
    migrations = write_migrations(directory / "m", files)
    options = ("--database", database, "--migrations", migrations, "--queries", queries)
    result = run_migrator("rehearse", *options, "--html", page)
    assert page.exists(), result.stderr
    return result


SIZES = {"wide": 1280, "narrow": 360}


def pixels(picture: Path) -> tuple[int, int, tuple[int, ...]]:
    """Return width and height of a PNG, and the colour of its first pixel."""
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    at, packed = 8, b""
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += 12 + length
    # The first pixel has no neighbours that it could be told by, whichever filter its line has.
    return width, height, tuple(zlib.decompress(packed)[1:4])


@pytest.mark.parametrize("width", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["well", "badly"])
def test_it_is_readable_everywhere(
    page: Page, reports: dict[str, Path], tmp_path: Path, name: str, dark: bool, width: int
) -> None:
    """It takes the colours of the reader and the width of the window, and complains of nothing."""
    page.complaints.clear()
    page.show(reports[name], dark=dark, width=width)
    wide, high, first = pixels(page.picture(tmp_path / "page.png"))
    assert wide == width
    assert high > 900
    assert all(part < 64 for part in first) if dark else all(part > 192 for part in first)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.complaints == []


def test_it_asks_for_nothing_else(page: Page, reports: dict[str, Path]) -> None:
    """The file is all that is loaded."""
    page.requests.clear()
    page.show(reports["well"])
    assert page.requests == [reports["well"].resolve().as_uri()]


def text_of(page: Page) -> str:
    """Return what is to be read on a page."""
    return str(page.evaluate("document.body.innerText"))


def test_what_is_on_it_when_all_goes_well(page: Page, reports: dict[str, Path]) -> None:
    """Losses first, then figures, timeline, sizes, schema, queries, and each migration."""
    page.show(reports["well"])
    text = text_of(page)
    places = [
        text.index(each)
        for each in (
            "2 migrations would be applied to app.db.",
            "column users.legacy (values: 2)",
            "Timeline",
            "Size of the database",
            "+CREATE INDEX users_name ON users(name);",
            "Queries",
            "What each migration does",
            "reads all of users",
        )
    ]
    assert places == sorted(places)
    assert "<img src=x onerror=document.title=1>" in text
    assert page.evaluate("document.title") == "Rehearsal of app.db"
    assert page.evaluate("document.images.length") == 0


def test_what_is_on_it_when_it_fails(page: Page, reports: dict[str, Path]) -> None:
    """What went wrong and what to do stand at the top."""
    page.show(reports["badly"])
    text = text_of(page)
    assert text.index("no such table: nowhere") < text.index("Timeline")
    assert "What to do: Mend 003_fails.sql" in text
    assert "003_fails.sql" in text.split("What each migration does")[1]


def contrast(page: Page, selector: str) -> float:
    """Return the contrast of an element's text with what is behind it (WCAG 2.1, 1.4.3)."""
    return float(
        page.evaluate(
            """(selector => {
              const light = color => {
                const [r, g, b] = color.match(/[\\d.]+/g).map(Number).map(v => v / 255)
                  .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
              };
              const element = document.querySelector(selector);
              let behind = element;
              while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)')
                behind = behind.parentElement;
              const [a, b] = [light(getComputedStyle(element).color),
                              light(getComputedStyle(behind).backgroundColor)].sort();
              return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            })("""
            + repr(selector)
            + ")"
        )
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["well", "badly"])
def test_its_colours_can_be_read(
    page: Page, reports: dict[str, Path], name: str, dark: bool
) -> None:
    """Each kind of text has the contrast that WCAG asks for (4.5 to 1)."""
    page.show(reports[name], dark=dark)
    kinds = ["h1", ".facts", ".card h2", ".timeline a", "td", "th", "pre", ".tag", "footer"]
    kinds += [".plus", ".minus"] if name == "well" else [".bad-text", ".tag.failed"]
    assert {each: contrast(page, each) for each in kinds if contrast(page, each) < 4.5} == {}


def test_it_is_usable_by_keyboard(page: Page, reports: dict[str, Path]) -> None:
    """Tab leads over the page in order, Enter opens and closes, and where one is can be seen."""
    page.show(reports["well"])
    page.press("Tab", 9)
    assert page.evaluate("document.activeElement.textContent") == "To the report"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.press("Tab", 9)
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#m1"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("Enter", 13, "\r")
    assert str(page.evaluate("location.hash")) == "#m1"
    page.evaluate("document.querySelector('#m1 summary').focus()")
    assert page.evaluate("document.querySelector('#m1').open") is True
    page.press("Enter", 13, "\r")
    assert page.evaluate("document.querySelector('#m1').open") is False
    # What scrolls can be reached, and says what it is.
    hidden = "[...document.querySelectorAll('.scroll, pre')].filter(e => e.tabIndex !== 0).length"
    assert page.evaluate(hidden) == 0
    nameless = "[...document.querySelectorAll('[role=region]')].filter(e => !e.ariaLabel).length"
    assert page.evaluate(nameless) == 0


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """The rehearsal is told on stdout all the same, and no half of a page is left."""
    database = make_database(tmp_path / "app.db", SCHEMA)
    migrations = write_migrations(tmp_path / "m", WELL)
    page = tmp_path / "nowhere" / "page.html"
    options = ("--database", database, "--migrations", migrations, "--html", page)
    result = run_migrator("rehearse", *options)
    assert (result.code, result.finished["reason"]) == (74, "disk.failed")
    assert "2 migrations would be applied" in result.stdout


def test_the_page_replaces_an_older_one(tmp_path: Path) -> None:
    """The same file again has the new report, and nothing is left beside it."""
    page, queries = tmp_path / "page.html", tmp_path / "q.sql"
    page.write_text("old")
    queries.write_text("SELECT 1;")
    made(tmp_path, WELL, page, queries)
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert [each.name for each in tmp_path.glob(".*")] == []
