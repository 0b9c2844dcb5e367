"""
SipHash-1-3 with a key of zeros, by which refinery compares migrations.

J.-P. Aumasson and D. J. Bernstein, "SipHash: a fast short-input PRF", 2012, with one round a
word and three at the end: what Rust's own hash tables use, and the crate `siphasher`.
"""

from __future__ import annotations

import struct

_MASK = (1 << 64) - 1
_START = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


def siphash13(data: bytes) -> int:
    """Return the hash of some bytes, a number of 64 bits."""
    v0, v1, v2, v3 = _START
    whole = len(data) & ~7
    last = (len(data) & 0xFF) << 56 | int.from_bytes(data[whole:], "little")
    for (word,) in (*struct.iter_unpack("<Q", data[:whole]), (last,)):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3 ^ word)
        v0 ^= word
    v2 ^= 0xFF
    for _ in range(3):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


def _round(v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    v0 = (v0 + v1) & _MASK
    v1 = ((v1 << 13 | v1 >> 51) & _MASK) ^ v0
    v0 = (v0 << 32 | v0 >> 32) & _MASK
    v2 = (v2 + v3) & _MASK
    v3 = ((v3 << 16 | v3 >> 48) & _MASK) ^ v2
    v0 = (v0 + v3) & _MASK
    v3 = ((v3 << 21 | v3 >> 43) & _MASK) ^ v0
    v2 = (v2 + v1) & _MASK
    v1 = ((v1 << 17 | v1 >> 47) & _MASK) ^ v2
    v2 = (v2 << 32 | v2 >> 32) & _MASK
    return v0, v1, v2, v3
