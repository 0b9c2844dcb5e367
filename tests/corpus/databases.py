"""Damaged databases: the header, every type of page, cut ends, flipped bits, wrong journals."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

from tests.corpus.case import Case
from tests.corpus.place import DATABASE, JOURNAL, SEEDS, WAL, Files, sound, with_journal, with_wal

BROKEN = frozenset({0, 64, 65, 69, 78, 80})
"""What damage may end in; 81 would be damage that was found after the migrations only."""

LOSSY = BROKEN | {81}
"""
What may come of damage that SQLite takes for sound, as of rows that a `-wal` or a page no longer
has: references to them that the migration copies fail its `foreign_key_check`, and it is undone.
"""

_PAGE = 512
_FIELDS = {
    "magic": (0, 16), "page size": (16, 2), "write version": (18, 1), "read version": (19, 1),
    "reserved space": (20, 1), "maximum fraction": (21, 1), "minimum fraction": (22, 1),
    "leaf fraction": (23, 1), "change counter": (24, 4), "size in pages": (28, 4),
    "first trunk": (32, 4), "free pages": (36, 4), "schema cookie": (40, 4),
    "schema format": (44, 4), "cache size": (48, 4), "largest root": (52, 4), "encoding": (56, 4),
    "user version": (60, 4), "incremental vacuum": (64, 4), "application id": (68, 4),
    "reserved": (72, 20), "version valid for": (92, 4), "library version": (96, 4),
}  # fmt: skip
"""The fields of the header (https://sqlite.org/fileformat2.html, 1.3)."""

_HEADER = {"write version": BROKEN | {77}}
"""A later write version makes SQLite take the file for read-only."""

_TYPES = {2: "index interior", 5: "table interior", 10: "index leaf", 13: "table leaf"}


def header_cases(seed: str) -> Iterator[Case]:
    """Yield the database with each field of its header set to what it should not be."""
    for name, files in _seeds():
        data = files[DATABASE]
        for field, (at, length) in _FIELDS.items():
            for text, value in _values(data[at : at + length], seed):
                changed = data[:at] + value + data[at + length :]
                yield _case(
                    f"{name}: header: {field}: {text}", files, changed, _HEADER.get(field, BROKEN)
                )


def _values(old: bytes, seed: str) -> Iterator[tuple[str, bytes]]:
    chance = random.Random(f"{seed} {old!r}")  # noqa: S311 - nothing secret
    size = len(old)
    number = int.from_bytes(old, "big")
    most = 256**size - 1
    tried = set()
    for value in (0, 1, 2, 3, number - 1, number + 1, most // 2, most // 2 + 1, most - 1, most):
        if 0 <= value <= most and value != number and value not in tried:
            tried.add(value)
            yield str(value), value.to_bytes(size, "big")
    yield "random", chance.randbytes(size)


def page_cases(seed: str) -> Iterator[Case]:
    """Yield the database with a page of each type damaged in each way."""
    for name, files in _seeds():
        data = files[DATABASE]
        for kind, number in pages_by_type(data):
            start = (number - 1) * _PAGE
            page = data[start : start + _PAGE]
            for how, changed in _damaged_pages(kind, number, page, data, seed):
                whole = data[:start] + changed + data[start + _PAGE :]
                yield _case(f"{name}: page {number} ({kind}): {how}", files, whole)


def pages_by_type(data: bytes, of_each: int = 2) -> Iterator[tuple[str, int]]:
    """Yield the types of pages and the numbers of some pages of each, the first and the last."""
    found: dict[str, list[int]] = {}
    trunk = struct.unpack_from(">I", data, 32)[0]
    free: set[int] = set()
    while trunk:
        start = (trunk - 1) * _PAGE
        following, count = struct.unpack_from(">II", data, start)
        found.setdefault("freelist trunk", []).append(trunk)
        leaves = struct.unpack_from(f">{count}I", data, start + 8)
        found.setdefault("freelist leaf", []).extend(leaves)
        free |= {trunk, *leaves}
        trunk = following
    vacuums = struct.unpack_from(">I", data, 52)[0] != 0
    step = _PAGE // 5 + 1
    for number in range(1, len(data) // _PAGE + 1):
        at = (number - 1) * _PAGE + (100 if number == 1 else 0)
        if number in free:
            continue
        if vacuums and (number - 2) % step == 0:
            found.setdefault("pointer map", []).append(number)
        else:
            found.setdefault(_TYPES.get(data[at], "overflow"), []).append(number)
    for kind, numbers in found.items():
        for number in dict.fromkeys((numbers[0], numbers[-1], *numbers[1:of_each])):
            yield kind, number


def _damaged_pages(
    kind: str, number: int, page: bytes, data: bytes, seed: str
) -> Iterator[tuple[str, bytes]]:
    chance = random.Random(f"{seed} {kind} {number}")  # noqa: S311 - nothing secret
    skip = 100 if number == 1 else 0
    head, rest = page[:skip], page[skip:]
    yield "zeros", head + bytes(len(rest))
    yield "ones", head + b"\xff" * len(rest)
    yield "noise", head + chance.randbytes(len(rest))
    other = chance.randrange(1, len(data) // _PAGE)
    yield f"page {other + 1} in its place", head + data[other * _PAGE :][skip:_PAGE]
    for at in range(12):
        for value in (0, 1, 0x7F, 0xFF):
            changed = bytearray(rest)
            changed[at] = value
            yield f"byte {at} is {value}", head + bytes(changed)
    for at in range(0, 24, 4):
        for value in (number, 0xFFFFFFFF, len(data) // _PAGE + 1):
            changed = bytearray(rest)
            changed[at : at + 4] = value.to_bytes(4, "big")
            yield f"number at {at} is {value}", head + bytes(changed)
    for turn in range(8):
        changed = bytearray(rest)
        changed[chance.randrange(len(rest))] ^= 1 << chance.randrange(8)
        yield f"flip {turn}", head + bytes(changed)


def cut_cases(seed: str) -> Iterator[Case]:
    """Yield the database cut at every page, at odd bytes, and with more behind it."""
    for name, files in _seeds():
        data = files[DATABASE]
        chance = random.Random(f"{seed} {name}")  # noqa: S311 - nothing secret
        at_pages = range(0, len(data), _PAGE)
        odd = [1, 15, 16, 17, 99, 100, 101, 107, 108, 511, 513, len(data) - 1]
        odd += [chance.randrange(len(data)) for _ in range(20)]
        for end in dict.fromkeys((*at_pages, *odd)):
            yield _case(f"{name}: cut at byte {end}", files, data[:end])
        for more in (1, _PAGE - 1, _PAGE, 3 * _PAGE):
            yield _case(f"{name}: {more} bytes more", files, data + chance.randbytes(more))


def flip_cases(seed: str) -> Iterator[Case]:
    """Yield the database with random bits flipped, without an end."""
    seeds = list(_seeds())
    turn = 0
    while True:
        turn += 1
        name, files = seeds[turn % len(seeds)]
        chance = random.Random(f"{seed} {turn}")  # noqa: S311 - nothing secret
        changed = bytearray(files[DATABASE])
        flips = chance.choice((1, 1, 2, 5, 50))
        for _ in range(flips):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        yield _case(f"{name}: {flips} bits flipped, turn {turn}", files, bytes(changed), LOSSY)


_SCHEMAS = (
    ("a statement that is no UTF-8", b"CREATE TABLE items", b"CREA\xff\xfe TABLE items"),
    ("a name that is no UTF-8", b"items_by_name", b"items\xff\xfe\xfd\xfcname"),
    ("no SQL", b"CREATE TABLE items", b"CREATE TABEL items"),
    ("a reserved name", b"items_by_name", b"sqlite_x_name"),
    ("two tables of one name", b"CREATE TABLE words", b"CREATE TABLE items"),
    ("a NUL", b"CREATE VIEW long_items", b"CREATE VIEW\0long_items"),
    ("a view of itself", b"AS SELECT * FROM items", b"AS SELECT * FROM long_"),
    ("an unknown module", b"CREATE TABLE words (", b"CREATE VIRTUAL TABLE"),
    ("another kind", b"tableitems", b"indexitems"),
)


def stranger_cases(seed: str) -> Iterator[Case]:
    """Yield what is no database at all."""
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    files = sound("plain")
    data = files[DATABASE]
    strangers = {
        "zero bytes": b"",
        "text": b"Dear operator,\nthis is no database.\n" * 40,
        "zeros": bytes(4096),
        "another program's encrypted pages": chance.randbytes(len(data)),
        "encrypted behind a plain header": data[:100] + chance.randbytes(len(data) - 100),
        "gzip": b"\x1f\x8b\x08" + chance.randbytes(5000),
        "SQLite 2": b"** This file contains an SQLite 2.1 database **\0" + bytes(2000),
        "a header alone": data[:100],
        "the magic alone": data[:16],
        "a journal": with_journal()[JOURNAL],
        "a dump": b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE t(x);\nCOMMIT;\n",
    }
    for name, content in strangers.items():
        yield _case(f"in place of the database: {name}", files, content)
        alone = {key: value for key, value in files.items() if "/backups/" not in key}
        yield _case(f"in place of the database, no backups: {name}", alone, content)


def schema_cases(seed: str) -> Iterator[Case]:
    """Yield databases whose schema says what none can say."""
    del seed
    for name in ("plain", "incremental", "wal"):
        files = sound(name)
        for how, old, new in _SCHEMAS:
            assert len(old) == len(new)
            yield _case(f"{name}: schema: {how}", files, files[DATABASE].replace(old, new))


def journal_cases(seed: str) -> Iterator[Case]:
    """Yield databases with a journal beside them that is damaged, foreign, or nobody's."""
    sources: list[tuple[str, str, Files, Callable[[], Files]]] = [
        ("-journal", JOURNAL, with_journal(), lambda: sound("utf16")),
        ("-wal", WAL, with_wal(), lambda: sound("plain")),
    ]
    for end, name, files, other in sources:
        for how, content in _damaged_journals(files[name], seed):
            yield _beside(f"{end}: {how}", files, name, content)
        foreign = dict(other())
        yield _beside(f"{end} of another database", foreign, name, files[name])
        alone = {key: value for key, value in files.items() if key != DATABASE}
        yield Case(f"{end} without its database", alone, RECOVERED, recovers=True)
        short = {**files, DATABASE: files[DATABASE][: 3 * _PAGE]}
        yield Case(f"{end} beside a short database", short, RECOVERED, recovers=True)
        yield Case(f"{end} beside zero bytes", {**files, DATABASE: b""}, RECOVERED, recovers=True)
        noise = {**files, DATABASE: bytes(100) + files[DATABASE][100:]}
        yield Case(f"{end} beside a lost header", noise, RECOVERED, recovers=True)


def _damaged_journals(data: bytes, seed: str) -> Iterator[tuple[str, bytes]]:
    chance = random.Random(f"{seed} {len(data)}")  # noqa: S311 - nothing secret
    yield "as it was left", data
    for end in (0, 1, 12, 28, 31, 32, 33, 511, 512, 513, 540, 1000, len(data) // 2, len(data) - 1):
        yield f"cut at byte {end}", data[:end]
    for at in range(0, 36, 4):
        for value in (b"\0\0\0\0", b"\xff\xff\xff\xff", chance.randbytes(4)):
            yield f"{value.hex()} at {at}", data[:at] + value + data[at + 4 :]
    yield "text", b"this is no journal\n" * 100
    yield "noise", chance.randbytes(len(data))
    for turn in range(12):
        changed = bytearray(data)
        for _ in range(5):
            changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        yield f"bits flipped, turn {turn}", bytes(changed)


RECOVERED = LOSSY | {73, 74}
"""A damaged journal can make a database that is larger than the disk."""


def _beside(name: str, files: Files, journal: str, content: bytes) -> Case:
    return Case(name, {**files, journal: content}, RECOVERED, recovers=True)


def _case(name: str, files: Files, content: bytes, codes: frozenset[int] = BROKEN) -> Case:
    return Case(name, {**files, DATABASE: content}, codes)


def _seeds() -> Iterator[tuple[str, Files]]:
    for name in SEEDS:
        yield name, sound(name)
