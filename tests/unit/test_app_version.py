"""Which of two versions of an application is the newer one."""

from __future__ import annotations

import itertools

import pytest

from migrator.app_version import compare, is_older, same

ORDERED = (
    "0.9",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "v1.1",
    "1.9",
    "1.10",
    "2025.7.1",
    "2025.11",
)
"""From the oldest to the newest; those of 1.0.0 are the example of semver.org."""


@pytest.mark.parametrize(("older", "newer"), list(itertools.combinations(ORDERED, 2)))
def test_the_order_of_two(older: str, newer: str) -> None:
    """By number part by part, and what comes before a release by semver's rules."""
    assert (compare(older, newer), compare(newer, older)) == (-1, 1)
    assert is_older(older, newer)
    assert not is_older(newer, older)
    assert not same(older, newer)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.2", "1.2.0"),
        ("v1.2", "1.2"),
        ("V1.2", "v1.2.0.0"),
        ("1.02", "1.2"),
        ("1.2+build.5", "1.2"),
        ("1.2-rc.1+a", "1.2-rc.1+b"),
        ("a4f5c2", "a4f5c2"),
    ],
)
def test_two_spellings_of_one(one: str, other: str) -> None:
    """Zeros at the end, a `v` and what was built from it do not count."""
    assert compare(one, other) == 0
    assert same(one, other)
    assert not is_older(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a4f5c2", "1.0"),
        ("1.0", "latest"),
        ("1.0rc1", "1.0"),
        ("1..0", "1.0"),
        ("", "1.0"),
        ("٣", "2"),
    ],
)
def test_what_does_not_compare(one: str, other: str) -> None:
    """A hash, a tag's name or another way to write a version is neither older nor newer."""
    assert compare(one, other) is None
    assert not same(one, other)
    assert not is_older(one, other)
    assert not is_older(other, one)


def test_an_unknown_version_is_the_same_as_none() -> None:
    """Nobody was started last: that is no version."""
    assert not same(None, "1.0")
    assert not same("1.0", None)
    assert not same(None, None)
