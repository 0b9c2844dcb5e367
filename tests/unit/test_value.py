"""Values: as `dataclass(frozen=True, slots=True)` makes them, in what the program relies on."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from migrator.value import EMPTY, Value, as_dict, replace


class Point(Value):
    """A value with a default."""

    x: int
    y: int = 0


class Named(Point, kw_only=True):
    """A value that adds a field without a default behind one that has one."""

    name: str


@dataclass(frozen=True, slots=True)
class Model:
    """What a `Point` is to be like."""

    x: int
    y: int = 0


def test_it_is_made_as_a_dataclass_is() -> None:
    """Fields are given in order or by name, and have defaults, those of the base among them."""
    for made in (Point(1), Point(x=1), Point(1, 0), Point(1, y=0)):
        assert (made.x, made.y) == (1, 0)
    named = Named(1, name="a")
    assert as_dict(named) == {"x": 1, "y": 0, "name": "a"}
    assert Point.__match_args__ == Model.__match_args__


@pytest.mark.parametrize(
    ("given", "named"), [((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1})]
)
def test_what_does_not_fit_is_refused(given: tuple[int, ...], named: dict[str, int]) -> None:
    """A field too few, too many, doubled or unknown is a TypeError, as of a dataclass."""
    for kind in (Point, Model):
        with pytest.raises(TypeError):
            kind(*given, **named)


def test_it_cannot_be_changed() -> None:
    """Nothing is set, deleted or added, and there is no dictionary in which it could be."""
    point = Point(1)
    for name in ("x", "z"):
        with pytest.raises(AttributeError):
            setattr(point, name, 2)
    with pytest.raises(AttributeError):
        del point.x
    assert not hasattr(point, "__dict__")
    assert point == Point(1)


def test_it_is_equal_by_its_fields_and_its_class() -> None:
    """Values of one class are equal, and hash alike, where all their fields are equal."""
    assert Point(1) == Point(1, 0)
    assert hash(Point(1)) == hash(Point(1, 0))
    assert Point(1) != Point(2)
    assert Point(1) != Named(1, name="a")
    assert Point(1) != Model(1)


def test_it_shows_its_fields() -> None:
    """Its `repr` is that of a dataclass."""
    assert repr(Point(1)) == repr(Model(1)).replace("Model", "Point")


def test_a_replaced_field_makes_another_value() -> None:
    """`replace` leaves the value as it is."""
    point = Point(1)
    assert replace(point, y=2) == Point(1, 2)
    assert point == Point(1)


def test_what_is_no_field_cannot_be_replaced() -> None:
    """A name that the class does not have is refused as when a value is made."""
    with pytest.raises(TypeError, match="z by name"):
        replace(Point(1), z=2)


def test_the_shared_default_of_a_mapping_cannot_be_changed() -> None:
    """All values share a default, so that of a mapping is read-only."""
    with pytest.raises(TypeError):
        EMPTY["a"] = 1  # type: ignore[index]
