"""
gzip in pieces: every piece is compressed when it changes, and the pieces are put together by copying.

A gzip file of several members would be simpler, but curl refuses one. So the pieces are runs of deflate
blocks that end on a byte and refer to nothing before them, and together make one member.
Source: RFC 1951, section 3.2; RFC 1952, section 2.3; zlib manual, Z_SYNC_FLUSH.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

_RAW_DEFLATE = -zlib.MAX_WBITS
_LEVEL = 6
# Magic, deflate, no flags, no time, no hint at the level, system unknown.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def _deflate(plain: bytes, flush: int) -> bytes:
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW_DEFLATE)
    return deflater.compress(plain) + deflater.flush(flush)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes, and the same as deflate blocks that others may stand before and after."""

    plain: bytes
    deflated: bytes

    @classmethod
    def of(cls, plain: bytes) -> Self:
        return cls(plain, _deflate(plain, zlib.Z_SYNC_FLUSH) if plain else b"")


@dataclass(frozen=True, slots=True)
class Body:
    """What is there of a response, but for its tail, which is known at the request only."""

    plain: bytes
    deflated: bytes
    crc32: int

    @classmethod
    def of(cls, pieces: Iterable[Piece]) -> Self:
        pieces = tuple(pieces)
        plain = b"".join(piece.plain for piece in pieces)
        return cls(plain, b"".join(piece.deflated for piece in pieces), zlib.crc32(plain))

    def with_tail(self, tail: bytes) -> bytes:
        return self.plain + tail

    def gzip_with_tail(self, tail: bytes) -> bytes:
        crc32 = zlib.crc32(tail, self.crc32)
        size = (len(self.plain) + len(tail)) & 0xFFFFFFFF
        trailer = crc32.to_bytes(4, "little") + size.to_bytes(4, "little")
        return b"".join((_HEADER, self.deflated, _deflate(tail, zlib.Z_FINISH), trailer))
