"""What a run must have left of a database and of its volume, whichever way it ended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tests.support.digest import logical_digest
from tests.support.files import listing
from tests.support.logs import Event
from tests.support.processes import Result

HOME = ".migrator"
"""How our own directory beside a database ends: taking the lock creates it."""


@dataclass(frozen=True)
class Before:
    """
    A volume as it was before a run.

    Args:
        volume: The directory.
        database: The database on it; one that no SQLite opens has no digest.
        digest: The digest of its content, None where there is none to take.
        files: The listing.
    """

    volume: Path
    database: Path
    digest: str | None
    files: dict[str, tuple[int, int, int]]

    @classmethod
    def of(cls, database: Path, *, readable: bool = True) -> Before:
        """Take the digest first, since a read may move pages, and the listing after it."""
        digest = logical_digest(database) if readable and database.is_file() else None
        return cls(database.parent, database, digest, listing(database.parent))

    def assert_untouched(self, *, ours: bool = False) -> None:
        """
        Assert that nothing was written at all.

        Args:
            ours: Whether our own directory, with the lock, may have come into being.
        """
        now = listing(self.volume)
        if ours:
            now = {name: facts for name, facts in now.items() if not self._is_home(name)}
        assert now == {name: facts for name, facts in self.files.items() if name in now}
        assert now.keys() == {name for name in self.files if not (ours and self._is_home(name))}
        self.assert_same()

    def assert_same(self) -> None:
        """Assert that the database holds what it held, or is still not there."""
        if self.digest is None:
            assert self.database.exists() == (self.database.name in self.files)
        else:
            assert logical_digest(self.database) == self.digest

    def _is_home(self, name: str) -> bool:
        return name.split("/", 1)[0] == self.database.name + HOME


def assert_failed(result: Result, code: int, reason: str, outcome: str = "refused") -> Event:
    """Assert how a run failed, and that its last line says so as the contract wants it."""
    end = result.finished
    facts = (result.code, end["exit_code"], end["outcome"], end["reason"])
    assert facts == (code, code, outcome, reason), end
    assert_explained(end)
    return end


def assert_explained(end: Event) -> None:
    """Assert that a failed run's last line is a whole sentence with something to do."""
    assert end["level"] == "error", end
    assert end["error"] == end["message"]
    for text in (end["error"], end["hint"]):
        assert text, end
        assert text == text.strip()
        assert "\n" not in text, end
        assert text.endswith((".", "?")), end
        assert " " in text, end
        assert ".." not in text.replace("../", "").replace("...", ""), end
    assert isinstance(end["retryable"], bool)
    assert isinstance(end["applied"], int)


def assert_succeeded(result: Result, outcome: str, applied: int = 0) -> Event:
    """Assert that a run succeeded, and how."""
    end = result.finished
    assert (result.code, end["exit_code"]) == (0, 0), end
    assert (end["outcome"], end["applied"]) == (outcome, applied), end
    assert not {"error", "reason", "hint"} & end.keys()
    return end


def assert_pending(result: Result, versions: Collection[str]) -> None:
    """Assert what a `migrator status --json` lists as pending."""
    import json

    found = [each["version"] for each in json.loads(result.stdout)["pending"]]
    assert found == list(versions), result.stdout
