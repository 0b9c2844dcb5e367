"""A checksum of a database's content, which a rollback does not change."""

from __future__ import annotations

import hashlib
import itertools
import os
from typing import TYPE_CHECKING

from migrator.database.freelist import free_leaves, without_pages
from migrator.database.pages import content_size, is_empty, masked, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 20
_SECTOR = 512
"""Bytes that a disk writes as a whole; also SQLite's smallest page."""


def fingerprint(descriptor: int) -> str:
    """
    Return the SHA-256 of a database's content, as `same_pages` compares it.

    Two files have the same one if `same_pages` is true for them. A file that is not a
    database has one as well.
    """
    digest = hashlib.sha256()
    if is_empty(descriptor):
        return digest.hexdigest()
    size, header = content_size(descriptor), read_header(descriptor)
    page_size = header.page_size if header else 0
    free = free_leaves(descriptor, page_size, size // page_size if page_size else 0)
    for offset in range(0, size, _CHUNK):
        chunk = os.pread(descriptor, min(_CHUNK, size - offset), offset)
        if header is not None:
            chunk = masked(chunk, offset, page_size)
        digest.update(without_pages(chunk, offset, page_size, free))
    return digest.hexdigest()


def is_between(descriptor: int, one: int, other: int) -> bool:
    """
    Tell whether a file may be left by an interrupted change of one file into another.

    Then each sector is from one of the two, or blank where the file has grown.
    """
    size = os.fstat(descriptor).st_size
    if size > max(os.fstat(each).st_size for each in (one, other)):
        return False
    for offset in range(0, size, _CHUNK):
        chunks = [os.pread(each, _CHUNK, offset) for each in (descriptor, one, other)]
        if chunks[0] not in chunks[1:] and not all(_sectors_fit(offset, *chunks)):
            return False
    return True


def _sectors_fit(offset: int, found: bytes, one: bytes, other: bytes) -> Iterator[bool]:
    ends = itertools.pairwise([*range(0, len(found), _SECTOR), len(found)])
    for start, end in ends:
        sector, *known = (each[start:end] for each in (found, one, other))
        if offset + start == 0:
            sector, *known = (masked(each, 0, 0) for each in (sector, *known))
        yield sector in known or not any(sector)
