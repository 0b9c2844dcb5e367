"""Do two things at once, each of which reads a whole database."""

from __future__ import annotations

import threading
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

T = TypeVar("T")


class Beside(threading.Thread, Generic[T]):
    """
    Do something in a thread, until the end of the `with` at the latest.

    Where no process may have another thread, it is done first.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        # What holds for this thread holds for the other one (`migrator.database.connecting`).
        self._work: Callable[[], T] = partial(copy_context().run, work)
        self._found: list[T] = []
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except RuntimeError:
            self.run()
        return self

    def __exit__(self, *_: object) -> None:
        self._wait()

    def _wait(self) -> None:
        if self.ident is not None:
            self.join()

    def run(self) -> None:
        """Do it."""
        try:
            self._found.append(self._work())
        except BaseException as error:  # noqa: BLE001 - for whoever asks
            self._error = error

    def result(self) -> T:
        """Wait for the result, and return it, or raise what was raised."""
        self._wait()
        if self._error is not None:
            raise self._error
        return self._found[0]
