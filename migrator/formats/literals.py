"""Read what a migration in Python says of itself from its syntax tree: nothing of it is run."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from migrator.errors import MisfitError
from migrator.model import Entry
from migrator.parsing.directory import misfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WRITTEN = {
    "__depends__": '`__depends__ = {"0001.create-users"}`',
    "__transactional__": "`__transactional__ = False`",
    "allow_row_loss": '`allow_row_loss = ("users",)`',
}
_COLLECTIONS = ("set", "frozenset", "list", "tuple", "dict")


class Literals:
    """
    The names that a file assigns at its top level, among those asked for.

    Args:
        entry: The migration, for messages.
        text: Its text.
        wanted: The names.

    Raises:
        MisfitError: It is no Python, or only running it would tell.
    """

    def __init__(self, entry: Entry, text: str, wanted: Collection[str]) -> None:
        self._found: dict[str, tuple[Any, int]] = {}
        if any(name in text for name in wanted):
            self._found.update(_assigned(entry, _parsed(entry, text), wanted))

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the strings assigned to a name; empty if it is not assigned."""
        return tuple(self._found.get(name, ((),))[0])

    def flag(self, name: str) -> bool:
        """Return the value of a switch that is on unless it is assigned."""
        return bool(self._found.get(name, (True,))[0])

    def line(self, name: str) -> int | None:
        """Return the line on which a name is assigned."""
        return self._found[name][1] if name in self._found else None


def _parsed(entry: Entry, text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        raise misfit(
            entry,
            f"this is not Python that can be read: {error}.",
            hint="Correct the file.",
            reason="migrations.syntax",
            line=line,
        ) from error


def _assigned(
    entry: Entry, module: ast.Module, wanted: Collection[str]
) -> Iterator[tuple[str, tuple[Any, int]]]:
    """Yield each of the names that is assigned, with its value and line."""
    plain: set[ast.AST] = set()
    for node in module.body:
        targets: list[ast.expr] = []
        value = None
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign):
            targets, value = [node.target], node.value
        for target in targets:
            if isinstance(target, ast.Name) and target.id in wanted and value is not None:
                plain.add(target)
                yield target.id, (_value(entry, target.id, value), node.lineno)
    for each in ast.walk(module):
        if not (isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)):
            continue
        if each.id in wanted and each not in plain and not _is_local(module, each):
            raise _unreadable(entry, each.id, each.lineno)


def _is_local(module: ast.Module, name: ast.Name) -> bool:
    """Tell whether a name is assigned in a function or a class, which sets nothing of the file."""
    scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    return any(name in ast.walk(scope) for scope in ast.walk(module) if isinstance(scope, scopes))


def _value(entry: Entry, name: str, node: ast.expr) -> Any:
    """Return a literal, or a collection of literals made by its name."""
    try:
        value = ast.literal_eval(_unwrapped(node))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise _unreadable(entry, name, node.lineno) from error
    if name == "__transactional__":
        if isinstance(value, bool):
            return value
        raise _unreadable(entry, name, node.lineno)
    texts = (value,) if isinstance(value, str) else value
    if isinstance(texts, set | frozenset | list | tuple | dict) and all(
        isinstance(each, str) and each for each in texts
    ):
        return tuple(sorted(texts))
    raise _unreadable(entry, name, node.lineno)


def _unwrapped(node: ast.expr) -> ast.expr:
    """Return what `set([...])` and its kind are made of."""
    if not (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in _COLLECTIONS
        and not node.keywords
    ):
        return node
    if not node.args:
        return ast.Tuple([], ast.Load())
    return node.args[0] if len(node.args) == 1 else node


def _unreadable(entry: Entry, name: str, line: int) -> MisfitError:
    return misfit(
        entry,
        f"`{name}` cannot be read without running the file.",
        hint=f"Write it as a literal at the top level: {_WRITTEN[name]}.",
        reason="migrations.literal",
        line=line,
    )
