"""The packages and what may import what: the imports between the engine's rooms run one way."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import PACKAGES

FLOORS = (
    {"statement", "value"},
    {"errors", "model", "_version", "terminal", "sqlite", "app_version"},
    {"file_errors"},
    {"files", "columns", "options", "wait"},
    {"access", "process"},
    {"parsing"},
    {"formats", "log", "database"},
    {"session", "backups", "plan"},
    {"context"},
    {"exclusive", "verify"},
    {"inspect"},
    {"recovery"},
    {"backup_step"},
    {"change"},
    {"prepare"},
    {"strategy", "engine"},
    {"takeover"},
    {"run"},
    {"down", "before_start", "rehearsal"},
    {"api", "commands"},
    {"cli"},
)
"""Of `migrator`, from the ground up: a room imports from the floors below it, and from itself."""

FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
SOURCES = sorted((PACKAGES / "migrator").rglob("*.py"))


def room_of(path: Path) -> str:
    """Return the room that a module of the engine lies in: its directory, or itself."""
    return path.relative_to(PACKAGES / "migrator").parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted names of what a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


def test_every_room_has_a_floor() -> None:
    """No room of the engine is missing from the list, and none is listed that is not there."""
    rooms = {room_of(path) for path in SOURCES} - {"__init__", "__main__"}
    assert rooms == set(FLOOR)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGES)))
def test_imports_run_downwards(path: Path) -> None:
    """A module imports from rooms below its own and never from the entrypoint."""
    room = room_of(path)
    if room in {"__init__", "__main__"}:
        return
    names = [name.split(".") for name in imported(path)]
    assert not [name for name in names if name[0] == "entrypoint"]
    others = {name[1] for name in names if name[0] == "migrator"} - {room}
    assert not {other for other in others if FLOOR[other] >= FLOOR[room]}


def executed_imports(path: Path) -> Iterator[str]:
    """Yield what a module imports when it runs, also late; not what only the type checker reads."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    aside = {each for node in typing for part in node.body for each in ast.walk(part)}
    for node in ast.walk(tree):
        if node not in aside and isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{each.name}" for each in node.names)


def test_no_modules_import_one_another_in_a_circle() -> None:
    """Of any two modules at most one needs the other, late imports in functions included."""
    paths = {
        ".".join(path.relative_to(PACKAGES).with_suffix("").parts).removesuffix(".__init__"): path
        for package in ("migrator", "entrypoint")
        for path in (PACKAGES / package).rglob("*.py")
    }
    graph = {
        module: {
            name if name in paths else name.rpartition(".")[0] for name in executed_imports(path)
        }
        & set(paths) - {module}
        for module, path in paths.items()
    }
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(paths)
