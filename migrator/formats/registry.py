"""
Take migrations from a registry: a Python file that registers them in code.

The file is run as it is, so that one that defines its own `Migration` and
`MigrationRunner` works unedited. Everything in it is the user's code, the
factory and the constructors that it calls included: some open the database
and create their history table there and then. `load` is therefore for the
worker, and whoever calls it decides which database path the factory sees.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from migrator.errors import MisfitError, UsageError
from migrator.model import Entry, Script
from migrator.parsing import python_file
from migrator.parsing.directory import misfit
from migrator.parsing.scripts import checked_function

DEFAULT_FACTORY = "create_migration_runner"

_SOURCE = re.compile(r"(.+\.py)(?::([^/]*))?", re.DOTALL)


def parse_source(text: str) -> tuple[Path, str] | None:
    """
    Tell a registry from a directory of migrations.

    Args:
        text: `FILE.py`, `FILE.py:FACTORY` or a directory; one that exists and
            is called `x.py` is a directory.

    Returns:
        The file and the factory's name, None for a directory.

    Raises:
        UsageError: The text after the colon is not a function name.
    """
    match = _SOURCE.fullmatch(text)
    if match is None or Path(text).is_dir():
        return None
    factory = DEFAULT_FACTORY if match[2] is None else match[2]
    if not factory.isidentifier():
        msg = f"{factory!r} in the migrations {text!r} is not the name of a function."
        raise UsageError(msg, hint="Write FILE.py or FILE.py:FACTORY.")
    return Path(match[1]), factory


def load(path: Path, factory: str, database: Path) -> tuple[Script, ...]:
    """
    Run a registry's file and its factory, and take what it registers.

    Args:
        path: The registry's file.
        factory: The function that returns the runner.
        database: What the factory is called with, where it takes an argument.

    Returns:
        The migrations in the order of their registration.

    Raises:
        MisfitError: The file or the factory fails, or does not return a runner
            with a list `migrations` of the right shape.
    """
    path = path.absolute()  # the file may change the working directory
    if not path.is_file():
        msg = f"The registry {str(path)!r} does not exist or is not a file."
        raise MisfitError(
            msg,
            hint="Name it with --migrations FILE.py[:FACTORY] (MIGRATOR_MIGRATIONS).",
            reason="migrations.registry_missing",
            data={"file": path.name},
        )
    module = python_file.load_module(path, python_file.read_bytes(path))
    runner = _make_runner(module, path, factory, database)
    return scripts_of(_items(runner, path, factory), path)


def scripts_of(items: Iterable[Any], path: Path | None = None) -> tuple[Script, ...]:
    """
    Take all registered migrations by their shape.

    Args:
        items: What `script_of` takes, in their order.
        path: The registry's file, None for those registered through the API.

    Raises:
        MisfitError: One has not the right shape, or the name of another.
    """
    scripts = tuple(script_of(item, path) for item in items)
    _refuse_duplicates(scripts)
    return scripts


def script_of(item: Any, path: Path | None = None) -> Script:
    """
    Take one registered migration by its shape.

    Args:
        item: Anything with `name`, `version`, `description` and `up_func`, and
            perhaps `down_func`, `transactional` and `allow_row_loss`.
        path: The registry's file, None for one registered through the API.

    Raises:
        MisfitError: An attribute is missing or of the wrong type.
    """
    entry = _entry(item, path)
    for name in ("description", "up_func"):
        if not hasattr(item, name):
            raise _misshapen(entry, f"it has no attribute `{name}`")
    up = checked_function(entry, item.up_func, "up_func", "cursor")
    down = getattr(item, "down_func", None)
    transactional = getattr(item, "transactional", True)
    if not isinstance(transactional, bool):
        raise _misshapen(entry, f"its `transactional` is {transactional!r}, not True or False")
    description = item.description
    return Script(
        entry,
        description=None if description is None else str(description),
        transactional=transactional,
        down_transactional=transactional,
        has_down=down is not None,
        allow_row_loss=_tables(entry, getattr(item, "allow_row_loss", ())),
        up=up,
        down=None if down is None else checked_function(entry, down, "down_func", "cursor"),
        wants_cursor=True,
    )


def _make_runner(module: ModuleType, path: Path, factory: str, database: Path) -> Any:
    """Call the factory, with the database's path where it accepts one."""
    function = getattr(module, factory, None)
    if not callable(function) or inspect.iscoroutinefunction(function):
        msg = f"{path.name}: there is no plain function `{factory}`."
        raise MisfitError(
            msg,
            hint=f"Define `def {factory}(db_path):`, or name another as FILE.py:FACTORY."
            f" Functions in it: {', '.join(_functions(module)) or 'none'}.",
            reason="migrations.registry",
            data={"file": path.name},
        )
    arguments, named = _arguments(function, path, factory, str(database))
    try:
        return function(*arguments, **named)
    except BaseException as error:
        if python_file.is_stop(error):
            raise
        doing = f"`{factory}` failed"
        raise python_file.failure(path, error, doing=doing) from error


def _arguments(
    function: Callable[..., Any], path: Path, factory: str, database: str
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return what the factory is called with: the path by its place or its name, or nothing."""
    by_place: tuple[tuple[str, ...], dict[str, str]] = ((database,), {})
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return by_place
    by_name: dict[str, str] = {"db_path": database} if "db_path" in signature.parameters else {}
    for arguments, named in (by_place, ((), by_name)):
        with contextlib.suppress(TypeError):
            signature.bind(*arguments, **named)
            return arguments, named
    msg = f"{path.name}: `{factory}{signature}` cannot be called with the database's path alone."
    raise MisfitError(
        msg,
        hint=f"Give all parameters of `{factory}` but the first a default.",
        reason="migrations.registry",
        data={"file": path.name},
    )


def _functions(module: ModuleType) -> list[str]:
    return sorted(
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
    )


def _items(runner: Any, path: Path, factory: str) -> list[Any]:
    migrations = getattr(runner, "migrations", None)
    if isinstance(migrations, dict):
        return list(migrations.values())
    if isinstance(migrations, list | tuple):
        return list(migrations)
    what = "no attribute `migrations`"
    if migrations is not None:
        what = f"`migrations` of type {type(migrations).__name__}"
    msg = f"{path.name}: `{factory}` returned {type(runner).__name__} with {what}."
    raise MisfitError(
        msg,
        hint="Return an object with a list `migrations`, in the order in which they are to run.",
        reason="migrations.registry",
        data={"file": path.name},
    )


def _entry(item: Any, path: Path | None) -> Entry:
    name = getattr(item, "name", None)
    version = getattr(item, "version", None)
    known = name if isinstance(name, str) and name else type(item).__name__
    entry = Entry(known, str(version), known, path)
    if not isinstance(name, str) or not name.strip():
        raise _misshapen(entry, f"its `name` is {name!r}, not a text")
    if version is None or isinstance(version, bool) or not isinstance(version, str | int | float):
        raise _misshapen(entry, f"its `version` is {version!r}, not a text")
    return entry


def _tables(entry: Entry, value: Any) -> frozenset[str]:
    tables = (value,) if isinstance(value, str) else value
    if tables is None:
        return frozenset()
    if isinstance(tables, Iterable):
        found = list(tables)
        if all(isinstance(table, str) and table for table in found):
            return frozenset(found)
    raise _misshapen(entry, f"its `allow_row_loss` is {value!r}, not a tuple of tables")


def _misshapen(entry: Entry, what: str) -> MisfitError:
    return misfit(
        entry,
        f"the migration {entry.name!r} cannot be used: {what}.",
        hint="A registered migration has `name`, `version`, `description` and `up_func(cursor)`.",
        reason="migrations.registry",
    )


def _refuse_duplicates(scripts: Iterable[Script]) -> None:
    seen: set[str] = set()
    for script in scripts:
        name = script.entry.name
        if name in seen:
            raise misfit(
                script.entry,
                f"two migrations are called {name!r}, and the name is what tells them apart.",
                hint="Rename the one that has not been applied anywhere yet.",
                reason="migrations.duplicate",
            )
        seen.add(name)
