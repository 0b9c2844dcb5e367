"""The README and the pages below docs/: what they say is what the programs do."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from entrypoint.options import OPTIONS
from entrypoint.reference import up_to_date
from migrator._version import __version__
from migrator.commands.table import COMMANDS
from migrator.options.table import ENGINE_OPTIONS
from tests.conftest import ROOT
from tests.support import logs
from tests.support.digest import logical_digest
from tests.support.files import history, make_database, rows, tables, write_migrations
from tests.support.others import leave_wal
from tests.support.processes import (
    clean_environment,
    run_entrypoint,
    run_migrator,
    running,
)

README = ROOT / "README.md"
WHY = ROOT / "docs" / "why.md"
LOGS = ROOT / "docs" / "logs.md"
COMPOSE = ROOT / "docs" / "compose.md"
PICTURE = ROOT / "docs" / "failed-run.svg"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

FIRST = (
    "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/python examples/app/demo.py"
)
SECOND = ".venv/bin/pip install -e '.[test]' && .venv/bin/pytest -n auto"
THIRD = ".venv/bin/python examples/app/demo.py --fail"

FOREIGN_FLAGS = {
    "--rm", "--entrypoint", "--no-cache-dir", "--no-deps", "--read-only", "--cap-drop",
    "--security-opt", "--user", "--from", "--check", "--write", "--help", "--version", "--fail",
    "--platform", "--env", "--port", "--build-arg", "--network", "--format",
    "--minutes", "--only", "--seed", "--jobs", "--replicas", "--force", "--for", "--container",
    "--selector", "--date", "--no-cache", "--start-period", "--filter", "--case", "--containers", "--timeout",
    "--tmpfs", "--url", "--no-config-file", "--noinput", "--batch", "--check-heads", "--no-dump-schema",
    "--load", "--runs", "--list", "--large", "--quick", "--group", "--init", "--stop-timeout", "--unit",
}  # fmt: skip
"""Flags on the pages that are docker's, kubectl's, pip's, or those of scripts of this repository."""

VOLATILE = {"timestamp", "run_id", "seconds", "bytes", "path", "name", "database"}


def text(page: Path) -> str:
    """Return a page."""
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text(page), re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", text(page), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings of a page."""
    heads = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


# --- the pages ---------------------------------------------------------------


def test_the_first_screen_has_what_why_and_how_with_the_commands():
    """The description comes first, then the reasons, then three commands that can be copied."""
    screen = text(README).split("\n## ", 1)[0]
    assert len(screen.splitlines()) <= 50
    assert screen.index("A container entrypoint") < screen.index("**Why.**")
    assert screen.index("**Why.**") < screen.index("**How.**")
    assert [FIRST, SECOND, THIRD] == [code.strip() for code in blocks(README, "sh")[:3]]


def test_it_is_read_to_its_end():
    """Under 250 lines: what is longer has a page of its own."""
    assert len(text(README).splitlines()) < 250


def test_the_first_command_installs_no_tools_of_the_tests():
    """What the demonstration needs is the program; the second command installs the rest."""
    assert "[test]" not in FIRST
    for option in ("-m", "-n"):
        assert option not in shlex.split(FIRST.rpartition("&& ")[2])
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    assert len(project["dependencies"]) == 2
    assert "pytest" in SECOND
    assert any(each.startswith("pytest-xdist") for each in project["optional-dependencies"]["test"])


def test_ci_types_both_commands():
    """Each part of each command, as the page has it, and the demonstration of a failure."""
    ci = text(ROOT / ".ci" / "run")
    (found,) = re.findall(r"^readme\(\) \{.*?^first_parts\(\)[^\n]*", ci, re.DOTALL | re.MULTILINE)
    script = f"{found}\nreadme 1; readme 2 | first_parts; readme 2 | last_part; readme 3"
    done = subprocess.run(
        ["bash", "-euc", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [FIRST, *SECOND.split(" && "), THIRD] == done.stdout.splitlines()


def test_the_sections_come_in_the_order_that_a_reader_needs():
    """From use to settings, codes, writing, failure, backups and limits."""
    heads = re.findall(r"^## (.*)$", prose(README), re.MULTILINE)
    wanted = [
        "In your image",
        "Three ways to use it",
        "Settings",
        "Exit codes",
        "How a migration is written",
        "When something fails",
        "Backups and restore by hand",
        "More",
    ]
    assert wanted == [head for head in heads if head in wanted]


def test_the_generated_tables_are_in_date():
    """Settings, codes and commands are those of the code."""
    for part in ("settings", "exit-codes"):
        assert f"<!-- {part}:begin -->" in text(README)
    for page in PAGES:
        assert up_to_date(text(page)) == text(page), page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path):
    """Files exist, and so do the headings that are linked to."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.is_file(), target
        if anchor:
            assert anchor in anchors(found), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_that_is_mentioned_exists(page: Path):
    """A flag on a page is an option of one of the programs, or known to be somebody else's."""
    ours = {option.flag for option in (*OPTIONS, *ENGINE_OPTIONS) if option.flag}
    ours |= {option.flag for command in COMMANDS for option in command.options}
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text(page)))
    assert set() == used - ours - FOREIGN_FLAGS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_variable_that_is_mentioned_exists(page: Path):
    """But for the one that shows a misspelling, and those that Kubernetes makes."""
    ours = {option.variable for option in OPTIONS}
    used = set(re.findall(r"\bMIGRATOR_[A-Z_]+", text(page)))
    others = {"MIGRATOR_DATABSE", "MIGRATOR_"}
    assert set() == {name for name in used - ours - others if "PORT" not in name}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_migrator_that_is_mentioned_exists(page: Path):
    """`migrator WORD` on a page is one of its commands."""
    known = {command.name for command in COMMANDS}
    used = re.findall(r"(?:`|^|&& |app |entrypoint )migrator ([a-z]+)", text(page), re.MULTILINE)
    assert set() == set(used) - known


def test_every_test_that_is_named_exists():
    """The table of what cannot happen names tests that are there."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text(WHY))
    assert len(named) >= 12
    for path, name in named:
        tree = ast.parse(text(ROOT / path))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_every_row_of_that_table_names_a_test():
    """A claim without a test does not stand in it."""
    table = [line for line in text(WHY).splitlines() if line.startswith("|")][2:]
    assert len(table) >= 14
    assert all("`tests/" in line.rstrip("| ").split(" | ")[-1] for line in table)


def test_what_does_not_exist_yet_is_said():
    """The page promises no registry and no package index, and says what the COPY line needs."""
    section = text(README).split("\n## In your image", 1)[1].split("\n## ", 1)[0]
    assert "published in no registry yet" in section
    assert "not on PyPI yet" in section
    for line in ("MIGRATOR_DATABASE", "MIGRATOR_MIGRATIONS", "ENTRYPOINT"):
        assert f"`{line}`" in section


# --- what is cut out of a file that is tested by itself ------------------------


def holds(whole: object, part: object) -> bool:
    """Tell whether one YAML value has all that the other one says, further keys and items aside."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(key in whole and holds(whole[key], value) for key, value in part.items())
    if isinstance(whole, list) and isinstance(part, list):
        return all(any(holds(each, value) for each in whole) for value in part)
    return type(whole) is type(part) and whole == part


def in_order(whole: list[str], part: list[str]) -> bool:
    """Tell whether lines stand in a text in this order, others between them aside."""
    rest = iter(whole)
    return all(line in rest for line in part)


def dockerfile(name: str) -> list[str]:
    """Return the lines of an example with the ARG lines' defaults put in."""
    found = text(ROOT / "examples" / name / "Dockerfile")
    for variable, default in re.findall(r"^ARG (\w+)=(.*)$", found, re.MULTILINE):
        found = found.replace(f"${{{variable}}}", default)
    return found.splitlines()


def test_its_dockerfiles_are_the_examples_shortened():
    """Every line stands in the example, in this order."""
    shown = blocks(README, "dockerfile")
    assert len(shown) == 2
    for name, code in zip(("node", "wheel"), shown, strict=True):
        assert in_order(dockerfile(name), [line for line in code.splitlines() if line]), name


def test_its_yaml_is_the_files_shortened():
    """Every key and value of the three ways stands in compose.example.yml or in the Deployment."""
    shown = [yaml.safe_load(code) for code in blocks(README, "yaml")]
    shown.append(yaml.safe_load(blocks(COMPOSE, "yaml")[0]))
    compose = yaml.safe_load(text(ROOT / "compose.example.yml"))
    deployment = yaml.safe_load(text(ROOT / "deploy/kubernetes/deployment.yaml"))
    assert len(shown) == 3
    for whole, part in zip((compose, deployment, compose), shown, strict=True):
        assert holds(whole, part), part


def test_its_compose_files_can_be_used_as_they_are():
    """A volume that a service names is declared, without which compose refuses the file."""
    shown = [yaml.safe_load(code) for code in [*blocks(README, "yaml"), blocks(COMPOSE, "yaml")[0]]]
    services = [part for part in shown if "services" in part]
    assert len(services) == 2
    for part in services:
        mounts = [each for service in part["services"].values() for each in service["volumes"]]
        named = {each.split(":")[0] for each in mounts if not each.startswith(".")}
        assert named == part["volumes"].keys()


def test_a_cut_that_says_something_else_is_noticed():
    """A value, an item or a line that the file does not have makes it no cut."""
    whole = {"a": {"b": [1, {"c": "x"}]}, "d": True}
    assert holds(whole, {"a": {"b": [{"c": "x"}]}})
    for part in ({"a": {"b": [2]}}, {"a": {"b": [{"c": "y"}]}}, {"d": 1}, {"e": None}, {"a": []}):
        assert not holds(whole, part)
    assert in_order(["a", "b", "c"], ["a", "c"])
    assert not in_order(["a", "b", "c"], ["c", "a"])


# --- what can be run of it ----------------------------------------------------


def demo(directory: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the demonstration's part of a command of the first screen."""
    command = [sys.executable, "examples/app/demo.py", *args, "--directory", str(directory)]
    return subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False
    )


def normalised(value: Any) -> Any:
    """Return a field without what differs from run to run."""
    return re.sub(r"\d{8}T\d{6}Z", "TIME", value) if isinstance(value, str) else value


def test_the_log_of_the_failed_run_is_as_printed(tmp_path: Path):
    """Events, their order and every field that stands on the page are what the run prints."""
    part = text(LOGS).split("<!-- failed-run:begin -->")[1].split("<!-- failed-run:end -->")[0]
    lines = [line for line in part.splitlines() if line.startswith("{")]
    shown = [json.loads(line.replace("{…, ", "{")) for line in lines]
    assert demo(tmp_path).returncode == 0
    result = demo(tmp_path, *shlex.split(THIRD)[2:], "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    printed, _ = logs.split(result.stderr)
    assert [line["event"] for line in shown] == [line["event"] for line in printed]
    assert set(shown[0]) == set(printed[0])
    for ours, theirs in zip(shown, printed, strict=True):
        stable = {key: normalised(value) for key, value in ours.items() if key not in VOLATILE}
        assert stable == {key: normalised(theirs[key]) for key in stable}
        hidden = {"timestamp", "logger", "run_id", "database"}
        assert set(ours) | hidden == set(theirs)
    tail = blocks(LOGS, "text")[-1]
    assert re.sub(r"[0-9a-f]{64}", "DIGEST", tail.strip()) in re.sub(
        r"[0-9a-f]{64}", "DIGEST", result.stdout
    )


def test_the_migration_that_fails_is_the_one_on_the_page(tmp_path: Path):
    """The page shows the file that the demonstration writes."""
    tree = ast.parse(text(ROOT / "examples" / "app" / "demo.py"))
    (failing,) = [
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "FAILING"
        and isinstance(node.value, ast.Constant)
    ]
    assert failing in blocks(LOGS, "sql")


def named_files(page: Path) -> Iterator[tuple[str, str]]:
    """Return the migrations on a page that say their file's name in the first line."""
    for language in ("python", "sql"):
        for code in blocks(page, language):
            first, _, rest = code.partition("\n")
            if match := re.fullmatch(r"(?:#|--) migrations/(\S+)", first):
                yield match[1], rest


@pytest.mark.parametrize(
    ("page", "versions"), [("README.md", ["001"]), ("docs/migrations.md", ["001", "002"])]
)
def test_the_migrations_on_a_page_run_and_can_be_undone(
    page: str, versions: list[str], volume: Path, tmp_path: Path
):
    """What a page shows as a file of its own works as it stands there."""
    directory = write_migrations(tmp_path / "migrations", dict(named_files(ROOT / page)))
    options = ("--database", volume / "app.db", "--migrations", directory)
    assert run_entrypoint(*options).finished["outcome"] == "created"
    assert history(volume / "app.db") == versions
    assert run_migrator("down", "--steps", str(len(versions)), *options).code == 0
    assert tables(volume / "app.db") == {"migrations"}


def test_the_python_example_of_the_guide_runs(database: Path, tmp_path: Path):
    """The example with checks, a description and a requirement runs as it stands there."""
    (example,) = [
        code for code in blocks(ROOT / "docs" / "migrations.md", "python") if "check_before" in code
    ]
    files = {
        "001_add_email.sql": """
            ALTER TABLE users ADD COLUMN email TEXT;
            UPDATE users SET email = name;
            """,
        "002_lower.py": example,
    }
    directory = write_migrations(tmp_path / "migrations", files)
    result = run_entrypoint("--database", database, "--migrations", directory)
    assert result.finished["applied"] == 2
    assert rows(database, "SELECT email FROM users LIMIT 1") == [("ada",)]
    query = "SELECT description FROM migrations WHERE version = '002'"
    assert rows(database, query) == [("addresses in lower case",)]


def test_the_rebuild_of_the_guide_keeps_the_children(volume: Path, tmp_path: Path):
    """The recipe keeps every row of the table and of what refers to it."""
    (recipe,) = [
        code for code in blocks(ROOT / "docs" / "migrations.md", "sql") if "books_new" in code
    ]
    database = make_database(
        volume / "app.db",
        """
        CREATE TABLE authors (id INTEGER PRIMARY KEY);
        CREATE TABLE books (id INTEGER PRIMARY KEY, title TEXT, author_id INTEGER);
        CREATE TABLE loans (id INTEGER PRIMARY KEY, book REFERENCES books ON DELETE CASCADE);
        INSERT INTO authors VALUES (1);
        INSERT INTO books VALUES (1, 'one', 1), (2, 'two', 1);
        INSERT INTO loans VALUES (1, 1), (2, 2);
        """,
    )
    directory = write_migrations(tmp_path / "migrations", {"001_rebuild.sql": recipe})
    assert run_entrypoint("--database", database, "--migrations", directory).code == 0
    assert rows(database, "SELECT (SELECT count(*) FROM books), (SELECT count(*) FROM loans)") == [
        (2, 2)
    ]


def test_the_commands_for_backups_run(database: Path, migrations: Path):
    """Make one, list, restore the latest, restore by version, and verify, as they stand on the page."""
    (block,) = [code for code in blocks(README, "sh") if "migrator restore latest" in code]
    settings = {"MIGRATOR_DATABASE": str(database), "MIGRATOR_MIGRATIONS": str(migrations)}
    before = logical_digest(database)
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert ["backup", "backups", "restore", "restore", "verify"] == [words[1] for words in lines]
    for words in lines:
        assert run_migrator("up", env=settings).code == 0
        known = ["002" if word == "006" else word for word in words[1:]]
        assert run_migrator(*known, env=settings).code == 0, words
        if words[1] == "restore":
            assert before == logical_digest(database)


def test_the_one_off_creates_no_database_beside_the_one_that_is_meant(tmp_path: Path):
    """Its variables, for a volume whose file is called otherwise, and with the right name."""
    (block,) = [code for code in blocks(README, "sh") if "MIGRATOR_CREATE=never" in code]
    words = shlex.split(block)
    given = dict(word.split("=", 1) for at, word in enumerate(words) if words[at - 1] == "-e")
    assert words[-1] == "sqlite-entrypoint"
    assert given["MIGRATOR_DATABASE"] == "/data/app.db"
    volume = tmp_path / "data"
    volume.mkdir()
    database = make_database(volume / "library.sqlite3", "CREATE TABLE books (id INTEGER)")
    migrations = write_migrations(
        tmp_path / "m", {"001_more.sql": "CREATE TABLE more (id INTEGER);"}
    )
    given |= {"MIGRATOR_MIGRATIONS": str(migrations), "MIGRATOR_WAIT_TIMEOUT": "0"}
    wrong = run_entrypoint(
        env=given | {"MIGRATOR_DATABASE": str(volume / "app.db")}, check_log=False
    )
    assert wrong.code == 69
    assert "library.sqlite3" in wrong.stderr
    assert [path.name for path in volume.iterdir()] == ["library.sqlite3"]
    right = run_entrypoint(env=given | {"MIGRATOR_DATABASE": str(database)}, check_log=False)
    assert right.code == 0, right.stderr
    assert "more" in tables(database)


def test_two_databases_chain_in_one_line(tmp_path: Path):
    """The line of the operations page migrates both and ends as the application."""
    (line,) = [code for code in blocks(ROOT / "docs" / "operations.md", "sh") if "a.db" in code]
    for name in ("a", "b"):
        write_migrations(tmp_path / name, {f"001_{name}.sql": f"CREATE TABLE {name} (x);"})
    app = tmp_path / "app"
    app.write_text("#!/bin/sh\necho it runs\n")
    app.chmod(0o755)
    again = f"{sys.executable} -m entrypoint"
    words = shlex.split(line.replace("-- entrypoint", f"-- {again}"))
    result = run_entrypoint(*words[1:], cwd=tmp_path, check_log=False)
    assert (result.code, result.stdout) == (0, "it runs\n"), result.stderr
    assert "a" in tables(tmp_path / "a.db")
    assert "b" in tables(tmp_path / "b.db")


def test_migrator_as_the_command_works_while_a_start_is_refused(database: Path, migrations: Path):
    """An old image on a newer database is refused, and leads back with `migrator restore`."""
    options = ("--database", database, "--migrations", migrations)
    before = logical_digest(database)
    assert run_entrypoint(*options).code == 0
    (migrations / "002_create_tags.sql").unlink()
    (migrations / "001_add_email.py").unlink()
    write_migrations(migrations, {"000_old.sql": "CREATE TABLE old (x);"})
    refused = run_entrypoint(*options, "--", "echo", "never reached")
    assert (refused.code, refused.stdout) == (78, "")
    result = run_entrypoint(*options, "--", "migrator", "restore", "latest")
    assert result.code == 0
    assert before == logical_digest(database)


# --- the picture --------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the picture, drawn once more by the command that its module names."""
    path = tmp_path_factory.mktemp("picture") / "again.svg"
    command = text(ROOT / "examples" / "app" / "picture.py").split("\n\n")[1].split()
    assert command == ["python", "-m", "examples.app.picture", "docs/failed-run.svg"]
    subprocess.run(
        [sys.executable, *command[1:-1], path], cwd=ROOT, env=clean_environment(), check=True
    )
    return path


def shown_in(picture: Path) -> list[str]:
    """Return the lines of a picture's terminal, times and what else differs from run to run aside."""
    found = ET.parse(picture).iter("{http://www.w3.org/2000/svg}text")
    return [steady("".join(line.itertext())) for line in found]


def steady(line: str) -> str:
    """Return a line of the console without what differs from run to run."""
    line = re.sub(r"^(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d(Z?)", "TIME", line)
    line = re.sub(r" (\(\d+\.\d s\)|in \d+\.\d+ s)(?=\.)", "", line)
    line = re.sub(r"\d{6}-\d{8}T\d{6}Z", "NUMBER-TIME", line)
    return re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", line)


def test_the_picture_is_drawn_again_by_its_command(drawn: Path):
    """Line by line, with the same elements and the same width: only times differ."""
    assert shown_in(drawn) == shown_in(PICTURE)
    tags = [
        [(each.tag, each.attrib.get("class")) for each in ET.parse(path).iter()]
        for path in (drawn, PICTURE)
    ]
    assert tags[0] == tags[1]
    assert f"]({PICTURE.relative_to(ROOT)})" in text(README)


def test_the_picture_shows_what_the_console_format_prints(tmp_path: Path):
    """The failing run of the demonstration prints every line that its run in the picture has."""
    lines = shown_in(PICTURE)
    starts = [number for number, line in enumerate(lines) if line.startswith("$ entrypoint ")]
    assert len(starts) == 2
    run = lines[starts[0] + 1 : lines.index("$ echo $?")]
    assert lines[lines.index("$ echo $?") + 1] == "80"
    assert demo(tmp_path).returncode == 0
    printed = demo(tmp_path, "--fail").stderr
    said = [steady(line) for line in printed.splitlines()]
    where = tmp_path / "failing"
    assert run == [line.replace(str(where.resolve()), "") for line in said]
    assert "duplicate column name: name" in "".join(run)
    assert lines[-1] == "listening on http://ADDRESS"


def test_the_picture_is_read_on_light_and_on_dark_pages():
    """It brings its own background, and both sets of colours; nothing is fetched from elsewhere."""
    drawing = text(PICTURE)
    assert "@media (prefers-color-scheme: dark)" in drawing
    assert "<rect " in drawing
    assert "href" not in drawing
    assert "url(" not in drawing
    for line in ET.parse(PICTURE).iter("{http://www.w3.org/2000/svg}text"):
        for row in line:
            assert len("".join(row.itertext())) <= 100


# --- where PyPI shows it ------------------------------------------------------


def on_pypi(page: str) -> str:
    """Return README as the build hands it to PyPI."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        hatch = tomllib.load(file)["tool"]["hatch"]
    hook = hatch["metadata"]["hooks"]["fancy-pypi-readme"]
    assert hook["fragments"] == [{"path": "README.md"}]
    assert "/README.md" in hatch["build"]["targets"]["sdist"]["include"]
    for each in hook["substitutions"]:
        page = re.sub(each["pattern"], each["replacement"], page)
    return page.replace("$HFPR_VERSION", __version__)


def test_every_link_works_where_pypi_shows_the_page():
    """A link into the repository leads to the release's tag; the picture is the file itself."""
    links = re.findall(r"(!?)\[[^\]]+\]\(([^)\s]+)\)", on_pypi(text(README)))
    assert len(links) >= 20
    where = "sqlite-entrypoint/sqlite-entrypoint"
    for image, target in links:
        raw = f"https://raw.githubusercontent.com/{where}/v{__version__}/"
        base = raw if image else f"https://github.com/{where}/blob/v{__version__}/"
        assert target.startswith(base), target
        path, _, anchor = target.removeprefix(base).partition("#")
        assert (ROOT / path).is_file(), target
        assert not anchor or anchor in anchors(ROOT / path)


def test_the_project_is_at_one_address():
    """The package's links and the image's labels name the same repository."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    home = project["urls"]["Homepage"]
    assert {"Homepage", "Documentation", "Repository", "Issues", "Changelog"} == set(
        project["urls"]
    )
    assert all(url.startswith(home) for url in project["urls"].values())
    labels = dict(
        re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]+)"', text(ROOT / "Dockerfile"))
    )
    assert (home, home) == (labels["url"], labels["source"])
    assert labels["documentation"] == project["urls"]["Documentation"]


# --- what cannot happen here -----------------------------------------------------


def test_a_killed_run_needs_nobody(database: Path, tmp_path: Path):
    """After a SIGKILL in the middle the next start goes on by itself: no dirty state."""
    slow = """
        import time

        def up(conn):
            conn.execute("CREATE TABLE half (x)")
            conn.commit()
            print("in the middle", flush=True)
            time.sleep(60)
        """
    directory = write_migrations(tmp_path / "m", {"001_slow.py": slow})
    options = ("--database", database, "--migrations", directory)
    before = logical_digest(database)
    with running("entrypoint", *options, directory=tmp_path) as process:
        process.wait_for("migration.output")
        process.send(signal.SIGKILL)
        process.process.wait(10)
    assert before == logical_digest(database)
    text_of_slow = (directory / "001_slow.py").read_text()
    (directory / "001_slow.py").write_text(text_of_slow.replace("sleep(60)", "sleep(0)"))
    result = run_entrypoint(*options)
    assert (result.code, result.finished["applied"]) == (0, 1)
    assert history(database) == ["001"]


def test_of_several_starts_at_once_one_migrates(database: Path, migrations: Path, tmp_path: Path):
    """Six starts on one volume: one applies both migrations, all become their application."""
    options = ("--database", database, "--migrations", migrations, "--", "echo", "it runs")
    with contextlib.ExitStack() as stack:
        starts = [
            stack.enter_context(running("entrypoint", *options, directory=tmp_path))
            for _ in range(6)
        ]
        results = [start.finish() for start in starts]
    assert [(0, "it runs\n")] * 6 == [(result.code, result.stdout) for result in results]
    assert [0, 0, 0, 0, 0, 2] == sorted(result.finished["applied"] for result in results)
    assert history(database) == ["001", "002"]


def test_a_wal_left_behind_does_not_undo_a_restore(volume: Path, migrations: Path):
    """What a killed application left in its `-wal` is not played into the restored pages."""
    script = "CREATE TABLE users (name TEXT); INSERT INTO users VALUES ('Ada');"
    database = make_database(volume / "app.db", script, wal=True)
    options = ("--database", database, "--migrations", migrations)
    before = logical_digest(database)
    assert run_entrypoint(*options).code == 0
    leave_wal(database)
    assert Path(f"{database}-wal").stat().st_size > 0
    assert run_migrator("restore", "latest", *options).code == 0
    assert before == logical_digest(database)
    assert tables(database) == {"users"}


def test_a_migration_that_ends_its_process_is_no_success(database: Path, tmp_path: Path):
    """`os._exit(0)` is 80: what stayed is the old database, and the migration is pending."""
    ends = """
        import os

        def up(conn):
            conn.execute("DELETE FROM notes")
            conn.commit()
            os._exit(0)
        """
    directory = write_migrations(tmp_path / "m", {"001_ends.py": ends})
    options = ("--database", database, "--migrations", directory)
    before = logical_digest(database)
    result = run_entrypoint(*options, "--", "echo", "never reached")
    assert (result.code, result.stdout) == (80, "")
    assert before == logical_digest(database)
    status = json.loads(run_migrator("status", "--json", *options).stdout)
    assert [entry["version"] for entry in status["pending"]] == ["001"]


def test_the_hole_in_the_guard_ends_with_the_old_database(database: Path, tmp_path: Path):
    """The one way around the guard that is known is noticed, and the backup is put back."""
    hole = """
        import sqlite3

        def up(conn):
            def parameters():
                yield (5, "five")
                try:
                    sqlite3.Cursor(conn).execute("INSERT OR ROLLBACK INTO users VALUES (1, 'x')")
                except sqlite3.Error:
                    pass
                yield (6, "six")
                yield (7, "seven")

            sqlite3.Cursor(conn).executemany("INSERT INTO users VALUES (?, ?)", parameters())
        """
    directory = write_migrations(tmp_path / "m", {"001_hole.py": hole})
    before = logical_digest(database)
    result = run_entrypoint("--database", database, "--migrations", directory)
    assert result.code == 80
    assert before == logical_digest(database)


def test_a_failing_line_is_named_below_a_relative_directory(database: Path, tmp_path: Path):
    """A relative `--migrations` hides neither the line of a `.py` file nor what it printed."""
    fails = """
        import os

        def up(conn):
            os.chdir("/")
            print("about to fail")
            conn.execute("SELECT nothing")
        """
    write_migrations(tmp_path / "migrations", {"001_fails.py": fails})
    result = run_entrypoint("--database", database, cwd=tmp_path)
    assert (result.code, result.finished["line"]) == (80, 6)
    (output,) = result.named("migration.output")
    assert (output["version"], output["text"]) == ("001", "about to fail")
