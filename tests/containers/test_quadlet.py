"""The units in deploy/quadlet: what systemd is told, in the words of Quadlet's own generator."""

from __future__ import annotations

from pathlib import Path

from migrator._version import __version__
from tests.containers.quadlet import UNITS, command, generated

RESTRICTED = {
    "--read-only",
    "--cap-drop all",
    "--security-opt=no-new-privileges",
    "--user 65532:65532",
    "--stop-timeout=30",
    "-v library-data:/data",
}


def test_accepted(tools: Path) -> None:
    """The generator of Podman 5 makes a service of every file, and knows every key."""
    names = {path.stem for path in UNITS.glob("*.container")} | {"library-volume"}
    assert generated(tools).keys() == names
    assert len(list(UNITS.iterdir())) == len(names)


def test_restricted(tools: Path) -> None:
    """Each container runs as a user of its own, without capabilities, on the one volume."""
    images = set()
    for name, lines in generated(tools).items():
        if name != "library-volume":
            words = " ".join(command(lines, {}))
            assert [] == sorted(each for each in RESTRICTED if each not in words), name
            assert "Requires=library-volume.service" in lines
            images |= {word for word in words.split() if word.startswith("localhost/")}
    assert images == {f"localhost/sqlite-entrypoint:{__version__}", "localhost/library:1.0.0"}


def test_order(tools: Path) -> None:
    """The application is started after the migration has succeeded, and stopped before a new one."""
    services = generated(tools)
    assert {
        "Requires=library-migrate.service",
        "After=library-migrate.service",
    } <= set(services["library-plain"])
    assert {"Type=oneshot", "RemainAfterExit=yes"} <= set(services["library-migrate"])
    assert "--network none" in " ".join(command(services["library-migrate"], {}))


def test_time_to_stop(tools: Path) -> None:
    """The service waits longer than Podman does, which then kills by itself."""
    for name in ("library", "library-plain"):
        assert "TimeoutStopSec=45" in generated(tools)[name]
