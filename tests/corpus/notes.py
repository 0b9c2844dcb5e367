"""Damaged notes: `state.json`, the id, and what is noted beside a backup; and damaged backups."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from tests.corpus.case import REFUSING, Case
from tests.corpus.place import DATABASE, IDENTITY, STATE, Files, backup_of, sound

_ODD: tuple[tuple[str, Any], ...] = (
    ("null", None), ("true", True), ("a number", 7), ("a negative number", -1), ("a fraction", 0.5),
    ("a huge number", 10**400), ("a text", "x"), ("an empty text", ""), ("a list", [1]),
    ("an object", {"a": 1}), ("a list of lists", [[[]]]), ("a long text", "x" * 100_000),
    ("a NUL", "a\0b"), ("a lone surrogate", "\ud800"), ("a line break", "a\nb"), ("a path up", "../../x"),
    ("an absolute path", "/etc/passwd"), ("a wish", "wal; DROP TABLE items"),
)  # fmt: skip
_DEEP = b"[" * 200_000
_TEXTS: tuple[tuple[str, bytes], ...] = (
    ("empty", b""), ("blank", b" \n"), ("null", b"null"), ("a list", b"[]"), ("an object", b"{}"),
    ("deep lists", _DEEP), ("deep lists, closed", b"[" * 100_000 + b"]" * 100_000),
    ("deep objects", b'{"a":' * 50_000), ("no UTF-8", b"\xff\xfe{}"), ("NULs", bytes(64)),
    ("huge", b" " * (17 << 20) + b"{}"), ("a huge number", b'{"format": 1' + b"0" * 6000 + b"}"),
    ("no number", b'{"format": NaN}'), ("no end", b'{"format": Infinity}'),
    ("a later format", b'{"format": 99}'), ("an earlier format", b'{"format": 0}'),
    ("format -1", b'{"format": -1}'), ("format true", b'{"format": true}'),
)  # fmt: skip

PHASES = ("prepare", "backup", "migrate", "commit", "publish", "restore", "restored", "lunch")
SETTLED = REFUSING | {80, 82}
"""What a start may end in that finds an interrupted restore which cannot be finished."""


def note(files: Files, **changes: Any) -> dict[str, Any]:
    """Return what a run that was interrupted has noted."""
    return {
        "format": 1, "run_id": "0123456789abcdef", "phase": "migrate", "since": "2026-01-01T00:00:00Z",
        "reason": "up", "way": "in-place", "database": "/data/app.db",
        "backup": backup_of(files).rpartition("/")[2], "journal_mode": "delete", "extra": {}, **changes,
    }  # fmt: skip


def state_cases(seed: str) -> Iterator[Case]:
    """Yield a `state.json` that no run has written."""
    files = sound("plain")
    for name, text in _TEXTS:
        yield Case(f"state.json: {name}", {**files, STATE: text}, SETTLED, recovers=True)
    for phase in PHASES:
        for way in ("in-place", "copy", "create", "none"):
            whole = note(files, phase=phase, way=way)
            yield _state(f"phase {phase}, way {way}", files, whole)
            gone = {name: data for name, data in files.items() if name != DATABASE}
            yield _state(f"phase {phase}, way {way}, no database", gone, whole)
    for field in note(files):
        for name, value in _ODD:
            for phase in ("migrate", "restore"):
                whole = {**note(files, phase=phase, way="copy"), field: value}
                yield _state(f"phase {phase}, {field} is {name}", files, whole)
        less = {key: value for key, value in note(files).items() if key != field}
        yield _state(f"without {field}", files, less)
    for key in ("undone", "wanted_journal_mode", "strange"):
        for name, value in _ODD:
            whole = note(files, way="copy", phase="publish", extra={key: value})
            yield _state(f"extra: {key} is {name}", files, whole)
    yield from _bytes(STATE, json.dumps(note(files)).encode(), files, seed)


def _state(name: str, files: Files, whole: dict[str, Any]) -> Case:
    return Case(
        f"state.json: {name}", {**files, STATE: json.dumps(whole).encode()}, SETTLED, recovers=True
    )


def _bytes(name: str, text: bytes, files: Files, seed: str) -> Iterator[Case]:
    """Yield a file with each byte changed, and cut at each."""
    chance = random.Random(f"{seed} {name}")  # noqa: S311 - nothing secret
    short = name.rpartition("/")[2]
    for at in range(len(text)):
        bit = 1 << chance.randrange(8)
        changed = text[:at] + bytes([text[at] ^ bit]) + text[at + 1 :]
        yield Case(f"{short}: byte {at} flipped", {**files, name: changed}, SETTLED, recovers=True)
        yield Case(f"{short}: cut at byte {at}", {**files, name: text[:at]}, SETTLED, recovers=True)


def backup_cases(seed: str) -> Iterator[Case]:
    """Yield backups that are damaged, and descriptions of backups that are."""
    files = sound("plain")
    backup = backup_of(files)
    facts = f"{backup}.json"
    data = files[backup]
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    for how, content in (
        ("empty", b""), ("cut", data[: len(data) // 2]), ("one byte short", data[:-1]),
        ("one byte long", data + b"x"), ("noise", chance.randbytes(len(data))),
        ("noise behind its header", data[:100] + chance.randbytes(len(data) - 100)),
        ("a bit flipped", data[:700] + bytes([data[700] ^ 1]) + data[701:]),
    ):  # fmt: skip
        yield Case(f"backup: {how}", {**files, backup: content})
    without = {name: content for name, content in files.items() if name != backup}
    yield Case("backup: gone, its description there", without)
    yield Case("backup: no description", {n: c for n, c in files.items() if n != facts})
    lost = {name: content for name, content in files.items() if name != DATABASE}
    for name, text in _TEXTS:
        yield Case(f"description: {name}", {**files, facts: text})
        yield Case(f"description: {name}, no database", {**lost, facts: text})
    noted = json.loads(files[facts])
    for field in noted:
        for name, value in _ODD:
            text = json.dumps({**noted, field: value}).encode()
            yield Case(f"description: {field} is {name}", {**files, facts: text})
        less = {key: value for key, value in noted.items() if key != field}
        yield Case(f"description: without {field}", {**files, facts: json.dumps(less).encode()})
    for field in noted["applied"][0]:
        for name, value in _ODD:
            rows = [{**noted["applied"][0], field: value}]
            text = json.dumps({**noted, "applied": rows}).encode()
            yield Case(f"description: applied {field} is {name}", {**files, facts: text})
    yield from _bytes(facts, files[facts], files, seed)
    yield from _identity_cases(files, seed)


def _identity_cases(files: Files, seed: str) -> Iterator[Case]:
    """Yield ids by which the backups of a database are known, and which are none, or another's."""
    lost = {name: content for name, content in files.items() if name != DATABASE}
    for name, text in (*_TEXTS, ("two", files[IDENTITY] * 2)):
        yield Case(f"identity: {name}", {**files, IDENTITY: text})
        yield Case(f"identity: {name}, no database", {**lost, IDENTITY: text})
    other = b"0" * 32 + b"\n"
    yield Case("identity: another's", {**files, IDENTITY: other})
    # The backups are another database's then, and this is a first install.
    yield Case("identity: another's, no database", {**lost, IDENTITY: other}, SETTLED)
    yield Case("identity: gone", {name: data for name, data in files.items() if name != IDENTITY})
    yield from _bytes(IDENTITY, files[IDENTITY], files, seed)
