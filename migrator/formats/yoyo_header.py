"""Read what a yoyo migration in Python says of itself, from its syntax tree: nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from migrator.errors import MisfitError
from migrator.formats.yoyo import Header
from migrator.model import Entry
from migrator.parsing.directory import misfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WANTED = {
    "__depends__": '`__depends__ = {"0001.create-users"}`',
    "__transactional__": "`__transactional__ = False`",
    "allow_row_loss": '`allow_row_loss = ("users",)`',
}
_COLLECTIONS = ("set", "frozenset", "list", "tuple", "dict")


def of_python(entry: Entry, text: str) -> Header:
    """
    Return what the file says.

    Raises:
        MisfitError: It is no Python, or only running it would tell.
    """
    if not any(name in text for name in _WANTED):
        return Header()
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        raise misfit(
            entry,
            f"this is not Python that can be read: {error}.",
            hint="Correct the file.",
            reason="migrations.syntax",
            line=line,
        ) from error
    found = dict(_assigned(entry, module))
    depends, line = found.get("__depends__", ((), None))
    transactional, _ = found.get("__transactional__", (True, None))
    losses, _ = found.get("allow_row_loss", ((), None))
    return Header(depends, transactional, frozenset(losses), line)


def _assigned(entry: Entry, module: ast.Module) -> Iterator[tuple[str, tuple[Any, int]]]:
    """Yield each of the names that is assigned, with its value and line."""
    plain: set[ast.AST] = set()
    for node in module.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and target.id in _WANTED:
                plain.add(target)
                value = node.value  # type: ignore[attr-defined]
                yield target.id, (_value(entry, target.id, value), node.lineno)
    for each in ast.walk(module):
        if not (isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)):
            continue
        if each.id in _WANTED and each not in plain and not _is_local(module, each):
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
        hint=f"Write it as a literal at the top level: {_WANTED[name]}.",
        reason="migrations.literal",
        line=line,
    )
