"""What every part measures with: sizes, runs, contenders, and a directory to work in."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.contenders import SHELL, Contender, Ours, Shell, ours, peers
from benchmarks.material import Migration, fresh, sync
from benchmarks.race import Measure, Way, race, seconds
from benchmarks.results import Figure


@dataclass(frozen=True)
class Bench:
    """
    The settings of one call of the command.

    Args:
        directory: Where to work: on the disk that is measured.
        cache: Where peers and wheels are installed, and stay.
        quick: Whether sizes are small: to see that everything works, not for figures.
        large: Whether to measure what takes long as well.
        offline: Whether nothing is fetched: no peers, and the sources in place of the wheel.
        runs: How often each, in place of what a part would choose.
        limit: Seconds that one run may take.
        image: The image whose tree is measured.
    """

    directory: Path
    cache: Path
    quick: bool = False
    large: bool = False
    offline: bool = False
    runs: int | None = None
    limit: float = 60
    image: str = "sqlite-entrypoint"

    @cached_property
    def ours(self) -> Ours:
        """Ours, installed."""
        return ours(None if self.offline else self.cache)

    @cached_property
    def peers(self) -> list[Contender]:
        """What a user would take instead."""
        return [] if self.offline else peers(self.cache)

    def named(self, *names: str) -> list[Contender]:
        """Return those of the peers that are here."""
        return [peer for peer in self.peers if peer.name in names]

    @cached_property
    def shell(self) -> Shell:
        """SQLite's own."""
        return Shell(SHELL)

    @property
    def output(self) -> Path:
        """The file for what a run writes."""
        return self.directory / "output"

    def size(self, full: int, quick: int) -> int:
        """Return how much work there is."""
        return quick if self.quick else full

    def times(self, usual: int) -> int:
        """Return how many runs there are of each."""
        return self.runs or (1 if self.quick else usual)

    def place(self, name: str) -> Path:
        """Return a new, empty directory."""
        directory = self.directory / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        return directory

    def race(self, ways: Sequence[Way], runs: int, measure: Measure = seconds) -> dict[str, Figure]:
        """Return the median of each way."""
        return race(ways, runs, self.limit, self.output, measure)

    def migrating(
        self,
        contender: Contender,
        migrations: Sequence[Migration],
        template: Path | None,
        place: Path,
    ) -> Way:
        """Return how a contender applies migrations to a fresh copy of a database."""
        files = contender.lay_out(place / f"{contender.directory}-migrations", migrations)
        volume = place / "volume"

        def prepare() -> None:
            contender.prepare(fresh(volume, template))
            sync(volume)

        return Way(contender.name, contender.up(files, volume / "app.db"), prepare)
