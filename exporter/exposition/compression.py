"""
gzip in pieces: every piece is compressed when it changes, and the pieces are put together by copying. The
checksum is made likewise, from those of some pieces at a time, so that nothing is read that did not change.

A gzip file of several members would be simpler, but curl refuses one. So the pieces are runs of deflate
blocks that end on a byte and refer to nothing before them, and together make one member.
Source: RFC 1951, section 3.2; RFC 1952, sections 2.3 and 8; zlib manual, Z_SYNC_FLUSH and crc32_combine.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

_RAW_DEFLATE = -zlib.MAX_WBITS
_LEVEL = 6
# Magic, deflate, no flags, no time, no hint at the level, system unknown.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def _deflate(plain: bytes, flush: int) -> bytes:
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW_DEFLATE)
    return deflater.compress(plain) + deflater.flush(flush)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some bytes, and the same as deflate blocks that others may stand before and after."""

    plain: bytes
    deflated: bytes

    @classmethod
    def of(cls, plain: bytes) -> Self:
        return cls(plain, _deflate(plain, zlib.Z_SYNC_FLUSH) if plain else b"")


@dataclass(frozen=True, slots=True)
class Segment:
    """Pieces that follow each other; `size` and `crc32` are those of the plain bytes."""

    pieces: tuple[Chunk, ...]
    deflated: bytes
    size: int
    crc32: int

    @classmethod
    def of(cls, pieces: tuple[Chunk, ...]) -> Self:
        crc32 = 0
        for piece in pieces:
            crc32 = zlib.crc32(piece.plain, crc32)
        deflated = b"".join(piece.deflated for piece in pieces)
        return cls(pieces, deflated, sum(len(piece.plain) for piece in pieces), crc32)


@dataclass(frozen=True, slots=True)
class Body:
    """What is there of a response, but for its tail, which is known at the request only."""

    runs: tuple[Segment, ...]
    size: int
    crc32: int

    @classmethod
    def of(cls, runs: Iterable[Segment]) -> Self:
        runs = tuple(runs)
        crc32 = 0
        for run in runs:
            crc32 = combined(crc32, run.crc32, run.size)
        return cls(runs, sum(run.size for run in runs), crc32)

    @property
    def plain(self) -> bytes:
        return b"".join(self.with_tail(b""))

    def with_tail(self, tail: bytes) -> list[bytes]:
        """Give the whole, in many runs."""
        return [*(piece.plain for run in self.runs for piece in run.pieces), tail]

    def gzip_with_tail(self, tail: bytes) -> list[bytes]:
        """Give the whole as one gzip member, in many runs."""
        crc32 = zlib.crc32(tail, self.crc32)
        size = (self.size + len(tail)) & 0xFFFFFFFF
        trailer = crc32.to_bytes(4, "little") + size.to_bytes(4, "little")
        return [_HEADER, *(run.deflated for run in self.runs), _deflate(tail, zlib.Z_FINISH), trailer]


# A checksum is a polynomial over GF(2), the highest power in the lowest bit, modulo this one.
_MODULUS = 0xEDB88320
_ONE = 1 << 31


def combined(left: int, right: int, right_size: int) -> int:
    """Give the CRC-32 of two byte strings put together, from those of the two."""
    return _product(left, _shift(right_size)) ^ right


@lru_cache(maxsize=8192)
def _shift(size: int) -> int:
    """Give what so many bytes of zeros multiply a checksum by: x to the power of their bits."""
    power, square = _ONE, _ONE >> 8
    while size:
        if size & 1:
            power = _product(power, square)
        square = _product(square, square)
        size >>= 1
    return power


def _product(left: int, right: int) -> int:
    product = 0
    while left:
        if left & _ONE:
            product ^= right
        left = left << 1 & 0xFFFFFFFF
        right = right >> 1 ^ (_MODULUS if right & 1 else 0)
    return product
