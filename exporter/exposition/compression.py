"""
gzip in chunks: each chunk is compressed when it changes, and the compressed chunks are concatenated. The
checksum is combined from those of the segments, so that only changed bytes are read.

A gzip file of several members would be simpler, but curl refuses one. So each chunk is a sequence of deflate
blocks that ends at a byte boundary and refers to nothing before it; together they make one member.
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
    """Some bytes, and the same bytes as deflate blocks, which can stand between any other blocks."""

    plain: bytes
    deflated: bytes

    @classmethod
    def of(cls, plain: bytes) -> Self:
        return cls(plain, _deflate(plain, zlib.Z_SYNC_FLUSH) if plain else b"")


@dataclass(frozen=True, slots=True)
class Segment:
    """Some consecutive chunks; `size` and `crc32` are those of the plain bytes."""

    chunks: tuple[Chunk, ...]
    deflated: bytes
    size: int
    crc32: int

    @classmethod
    def of(cls, chunks: tuple[Chunk, ...]) -> Self:
        crc32 = 0
        for chunk in chunks:
            crc32 = zlib.crc32(chunk.plain, crc32)
        deflated = b"".join(chunk.deflated for chunk in chunks)
        return cls(chunks, deflated, sum(len(chunk.plain) for chunk in chunks), crc32)


@dataclass(frozen=True, slots=True)
class Body:
    """A response body without its tail, which is rendered at the request."""

    segments: tuple[Segment, ...]
    size: int
    crc32: int

    @classmethod
    def of(cls, segments: Iterable[Segment]) -> Self:
        segments = tuple(segments)
        crc32 = 0
        for segment in segments:
            crc32 = combined(crc32, segment.crc32, segment.size)
        return cls(segments, sum(segment.size for segment in segments), crc32)

    @property
    def plain(self) -> bytes:
        return b"".join(self.with_tail(b""))

    def with_tail(self, tail: bytes) -> list[bytes]:
        """Return the whole body, in many parts."""
        return [*(chunk.plain for segment in self.segments for chunk in segment.chunks), tail]

    def gzip_with_tail(self, tail: bytes) -> list[bytes]:
        """Return the whole body as one gzip member, in many parts."""
        crc32 = zlib.crc32(tail, self.crc32)
        size = (self.size + len(tail)) & 0xFFFFFFFF
        trailer = crc32.to_bytes(4, "little") + size.to_bytes(4, "little")
        deflated = (segment.deflated for segment in self.segments)
        return [_HEADER, *deflated, _deflate(tail, zlib.Z_FINISH), trailer]


# A checksum is a polynomial over GF(2), the highest power in the lowest bit, modulo this one.
_MODULUS = 0xEDB88320
_ONE = 1 << 31


def combined(left: int, right: int, right_size: int) -> int:
    """Return the CRC-32 of two concatenated byte strings, from the CRC-32 of each."""
    return _product(left, _shift(right_size)) ^ right


@lru_cache(maxsize=8192)
def _shift(size: int) -> int:
    """Return the factor by which so many zero bytes multiply a checksum: x to the number of their bits."""
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
