"""
Read what a `.py` migration says about itself, from its syntax tree.

The code is not run: the process that becomes the application never imports a
migration.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from migrator.errors import MisfitError
from migrator.model import Entry
from migrator.parsing.directory import misfit

_WANTED = {
    "description": 'a string, such as description = "Adds the users"',
    "transactional": "True or False",
    "requires": 'a tuple of versions, such as requires = ("001",)',
    "allow_row_loss": 'a tuple of tables, such as allow_row_loss = ("sessions",)',
}

_SCOPES = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)


@dataclass(frozen=True, slots=True)
class Outline:
    """The top level of a `.py` file."""

    description: str | None = None
    transactional: bool = True
    requires: tuple[str, ...] = ()
    allow_row_loss: frozenset[str] = frozenset()
    has_down: bool = False


@dataclass(slots=True)
class _Bindings:
    """
    The names that a module binds, with the nodes that bind them.

    `plain` has the value of each name's last simple assignment at the top level; `dynamic`
    the names that are also bound in another way.
    """

    nodes: dict[str, ast.AST] = field(default_factory=dict)
    plain: dict[str, ast.expr] = field(default_factory=dict)
    dynamic: dict[str, ast.AST] = field(default_factory=dict)
    star: bool = False


def read(entry: Entry, text: str) -> Outline:
    """
    Read the outline of a `.py` migration.

    Args:
        entry: The migration, for messages.
        text: The file's text.

    Raises:
        MisfitError: The text is not Python, has no `up`, or a name such as
            `requires` is not a literal of the right type.
    """
    tree = _parse(entry, text)
    found = _bindings(tree)
    _require_up(entry, found)
    values = {name: _literal(entry, found, name) for name in _WANTED}
    losses = values["allow_row_loss"]
    return Outline(
        description=values["description"] or _first_line(ast.get_docstring(tree)),
        transactional=values["transactional"] is not False,
        requires=tuple(values["requires"] or ()),
        allow_row_loss=frozenset([losses] if isinstance(losses, str) else losses or ()),
        has_down="down" in found.nodes and not _is_none(found, "down"),
    )


def _parse(entry: Entry, text: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            # `"\d"` makes the parser write a warning on stderr, where only log
            # lines belong; the import in the worker shows it.
            warnings.simplefilter("ignore")
            tree = ast.parse(text, str(entry.path))
            compile(tree, str(entry.path), "exec", dont_inherit=True)
    except SyntaxError as error:
        msg = f"this is not valid Python: {error.msg}."
        raise _unparsable(entry, msg, error.lineno) from error
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        msg = f"Python cannot parse this: {type(error).__name__}: {str(error)[:500]}."
        raise _unparsable(entry, msg, None) from error
    return tree


def _unparsable(entry: Entry, message: str, line: int | None) -> MisfitError:
    return misfit(
        entry,
        message,
        hint="Correct the file. It has to be valid for the Python that runs the migrations.",
        reason="migrations.syntax",
        line=line,
    )


def _bindings(tree: ast.Module) -> _Bindings:
    """Collect what a module binds, also inside `if`, `try`, `with` and loops."""
    found = _Bindings()
    plain: set[int] = set()
    for statement in tree.body:
        for name, value in _plain_targets(statement):
            found.plain[name.id] = value
            found.nodes[name.id] = statement
            plain.add(id(name))
    for node in _module_scope(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in plain:
            found.nodes[node.id] = found.dynamic[node.id] = node
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.nodes[node.name] = found.dynamic[node.name] = node
        elif isinstance(node, ast.alias):
            found.star |= node.name == "*"
            name_bound = node.asname or node.name.split(".")[0]
            found.nodes[name_bound] = found.dynamic[name_bound] = node
    return found


def _plain_targets(node: ast.stmt) -> Iterator[tuple[ast.Name, ast.expr]]:
    """Yield the names of `a = VALUE`, `a = b = VALUE` and `a: type = VALUE`."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target, node.value
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        yield node.target, node.value


def _module_scope(tree: ast.Module) -> Iterator[ast.AST]:
    """Walk a module without the bodies of its functions, classes and comprehensions."""
    # An explicit stack: an expression may be nested deeper than Python recurses.
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.AnnAssign) and node.value is None:
            continue
        yield node
        if not isinstance(node, _SCOPES):
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))


def _require_up(entry: Entry, found: _Bindings) -> None:
    for name in ("up", "down", "check_before", "check_after"):
        node = found.nodes.get(name)
        if isinstance(node, ast.AsyncFunctionDef):
            raise misfit(
                entry,
                f"`{name}` is an async function, which would be called and never run.",
                hint=f"Write `def {name}(conn):`; sqlite3's connection has no async calls.",
                reason="migrations.bad_function",
                line=node.lineno,
            )
    if ("up" not in found.nodes and not found.star) or _is_none(found, "up"):
        raise misfit(
            entry,
            "there is no function `up`.",
            hint="Define `def up(conn):`; a file that is not a migration begins with `_`.",
            reason="migrations.no_up",
        )


def _is_none(found: _Bindings, name: str) -> bool:
    value = found.plain.get(name)
    return name not in found.dynamic and isinstance(value, ast.Constant) and value.value is None


def _literal(entry: Entry, found: _Bindings, name: str) -> Any:
    """
    Return the literal that a name is bound to, None if it is not bound.

    Raises:
        MisfitError: Only running the code tells its value, or it is a literal of
            another type.
    """
    if name not in found.nodes:
        return None
    line = getattr(found.dynamic.get(name, found.nodes[name]), "lineno", None)
    if name in found.dynamic:
        raise _no_literal(entry, name, line, "is not a plain assignment at the top level")
    try:
        value = ast.literal_eval(found.plain[name])
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise _no_literal(entry, name, line, "is not a literal") from error
    if not _fits(name, value):
        raise _no_literal(entry, name, line, f"is {repr(value)[:100]}")
    return value


def _fits(name: str, value: object) -> bool:
    if name == "transactional":
        return isinstance(value, bool)
    if isinstance(value, str):
        return name != "requires" and bool(value or name == "description")
    if name == "description" or not isinstance(value, tuple | list):
        return False
    return all(isinstance(part, str) and part for part in value)


def _no_literal(entry: Entry, name: str, line: int | None, what: str) -> MisfitError:
    return misfit(
        entry,
        f"`{name}` {what}.",
        hint=f"It is read without running the file: it has to be {_WANTED[name]}.",
        reason="migrations.literal",
        line=line,
    )


def _first_line(docstring: str | None) -> str | None:
    lines = (docstring or "").strip().splitlines()
    return lines[0].strip() if lines else None
