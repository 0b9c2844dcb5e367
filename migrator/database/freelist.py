"""
Find the pages of a database file that hold nothing: the leaves of its freelist.

Their content means nothing, and a rollback does not restore it: a transaction that
reuses such a page leaves there what it wrote, since SQLite does not journal the page
(https://sqlite.org/fileformat2.html#the_freelist).
"""

from __future__ import annotations

import os
from collections.abc import Collection

_FIRST_TRUNK = 32
_SMALLEST = 512


def free_leaves(descriptor: int, page_size: int, pages: int) -> frozenset[int]:
    """
    Return the numbers of the pages that hold nothing.

    Args:
        descriptor: The database's file.
        page_size: In bytes.
        pages: How many pages the file has.

    Returns:
        No page if the page size or the freelist makes no sense.
    """
    if page_size < _SMALLEST or page_size & (page_size - 1):
        return frozenset()
    leaves: set[int] = set()
    trunks: set[int] = set()
    trunk = _number(os.pread(descriptor, 4, _FIRST_TRUNK))
    while trunk:
        if trunk in trunks or not 1 < trunk <= pages:
            return frozenset()
        trunks.add(trunk)
        data = os.pread(descriptor, page_size, (trunk - 1) * page_size)
        count = _number(data[4:8])
        if len(data) < page_size or count > page_size // 4 - 2:
            return frozenset()
        leaves.update(_number(data[at : at + 4]) for at in range(8, 8 + 4 * count, 4))
        trunk = _number(data[:4])
    return frozenset() if leaves & trunks else frozenset(leaves)


def without_pages(chunk: bytes, offset: int, page_size: int, pages: Collection[int]) -> bytes:
    """
    Return a chunk of a database file with some pages blank.

    Args:
        chunk: Whole pages; only a file's last chunk may end within one.
        offset: Where it begins in the file.
        page_size: In bytes.
        pages: The numbers of the pages, from 1.
    """
    if not pages:
        return chunk
    blank = bytearray(chunk)
    first = offset // page_size + 1
    for at in range(0, len(chunk), page_size):
        if first + at // page_size in pages:
            end = min(at + page_size, len(chunk))
            blank[at:end] = bytes(end - at)
    return bytes(blank)


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")
