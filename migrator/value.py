"""
Values: what `dataclass(frozen=True, slots=True)` makes, without what it costs at each start.

`dataclasses` imports Python's own parser (`inspect`, `ast`, `tokenize`), and writes, compiles and
executes code for each class: half of the time of a start with nothing pending. So the classes that
such a start imports are values; those that only a run imports may be dataclasses. To a type checker
both are the same (PEP 681).
"""

from __future__ import annotations

from types import MappingProxyType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar, dataclass_transform

    V = TypeVar("V", bound="Value")
else:

    def dataclass_transform(**_told: object) -> Callable[[type], type]:
        """Return a decorator that only a type checker obeys."""
        return lambda decorated: decorated


EMPTY: Mapping[str, Any] = MappingProxyType({})
"""The default of a field that is a mapping: all values share a default."""


@dataclass_transform(frozen_default=True)
class _ValueType(type):
    """Make a class with a slot for each annotated name; what is assigned to one is its default."""

    def __new__(
        cls, name: str, bases: tuple[type, ...], body: dict[str, Any], *, kw_only: bool = False
    ) -> _ValueType:
        """
        Make the class.

        `kw_only` is for the type checker: it asks for the fields by name, so that one without a
        default may follow inherited ones that have some.
        """
        del kw_only
        fields = tuple(body.get("__annotations__", ()))
        defaults = {each: body.pop(each) for each in fields if each in body}
        body["__slots__"] = fields
        for base in bases:
            if isinstance(base, _ValueType):
                fields = (*base._fields, *fields)
                defaults = {**base._field_defaults, **defaults}
        body["__match_args__"] = fields
        made = super().__new__(cls, name, bases, body)
        made._fields, made._field_defaults = fields, defaults
        made._setters = tuple(getattr(made, each).__set__ for each in fields)
        return made

    _fields: tuple[str, ...]
    _field_defaults: Mapping[str, Any]
    _setters: tuple[Callable[[object, Any], None], ...]


class Value(metaclass=_ValueType):
    """
    The base of values: equal where their fields are, and never changed once they are made.

    The fields are the annotated names, in their order.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        cls = type(self)
        if named or len(given) != len(cls._fields):
            given = cls._all_fields(given, named)
        for put, each in zip(cls._setters, given):  # noqa: B905 - there are as many
            put(self, each)

    @classmethod
    def _all_fields(cls, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """Return what each field is to hold: what was given, else its default."""
        rest = cls._fields[len(given) :]
        found = {**cls._field_defaults, **named}
        lacking = [each for each in rest if each not in found]
        if lacking or not named.keys() <= set(rest) or len(given) > len(cls._fields):
            msg = (
                f"{cls.__name__}({', '.join(cls._fields)}) was given {len(given)} fields,"
                f" and {', '.join(named) or 'none'} by name."
            )
            raise TypeError(msg)
        return (*given, *(found[each] for each in rest))

    def __setattr__(self, name: str, _to: object) -> None:
        msg = f"{name!r} cannot be set: a {type(self).__name__} is a value."
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> None:
        msg = f"{name!r} cannot be deleted: a {type(self).__name__} is a value."
        raise AttributeError(msg)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, each) == getattr(other, each) for each in type(self)._fields)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, each) for each in type(self)._fields))

    def __repr__(self) -> str:
        shown = ", ".join(f"{each}={getattr(self, each)!r}" for each in type(self)._fields)
        return f"{type(self).__qualname__}({shown})"


def as_dict(value: Value) -> dict[str, Any]:
    """Return a value's fields by name."""
    return {each: getattr(value, each) for each in type(value)._fields}


def replace(value: V, **changes: Any) -> V:
    """Return a value with some of its fields replaced."""
    cls, fields = type(value), {**as_dict(value), **changes}
    # In the order of the fields, unless a change is of none: then the class says so.
    return cls(*fields.values()) if len(fields) == len(cls._fields) else cls(**fields)
