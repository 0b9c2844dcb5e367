"""Waiting for what another process does, with an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    look: Callable[[], T | None],
    message: str,
    timeout: float = 20,
    facts: Callable[[], tuple[object, ...]] = tuple,
) -> T:
    """
    Look again and again until something true comes back, and return it.

    Args:
        look: Returns None, or something false, for "not yet".
        message: What to fail with, `{0}`, `{1}` standing for the facts.
        timeout: Seconds.
        facts: What was to be seen at the end.
    """
    deadline = time.monotonic() + timeout
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(message.format(*facts()))
        time.sleep(0.01)
    return found
