"""
gzip in blocks: some consecutive lines are compressed together, and again only when one of them has changed.
The checksum is combined from those of the blocks, so that only changed bytes are read.

A gzip file of several members would be simpler, but curl refuses one. So each block ends at a byte boundary
and refers to nothing before it; concatenated, the blocks make one member. The larger they are, the less this
costs: at 96 KiB the whole is 1.1 to 1.2 times as large as if it were compressed in one piece.
Source: RFC 1951, section 3.2; RFC 1952, sections 2.3 and 8; zlib manual, Z_SYNC_FLUSH and crc32_combine.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

_RAW_DEFLATE = -zlib.MAX_WBITS
# From level 4 on zlib looks for better matches; 6 takes a third longer than 5 for 3 % less.
_LEVEL = 5
_BLOCK_BYTES = 96 * 1024
# A format is compressed in advance while scrapes request it; so many publications later, not any more. They
# are at least half a second apart, so a server that scrapes every five minutes does not wait.
_KEPT_PUBLICATIONS = 600
# Magic, deflate, no flags, no time, no hint at the level, system unknown.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def _deflate(plain: bytes, flush: int) -> bytes:
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW_DEFLATE)
    return deflater.compress(plain) + deflater.flush(flush)


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines, and the same bytes as deflate blocks, which can stand between any other blocks."""

    pieces: tuple[bytes, ...]
    deflated: bytes
    size: int
    crc32: int

    @classmethod
    def of(cls, pieces: tuple[bytes, ...]) -> Self:
        plain = b"".join(pieces)
        return cls(pieces, _deflate(plain, zlib.Z_SYNC_FLUSH), len(plain), zlib.crc32(plain))


def _grouped(runs: Sequence[Sequence[bytes]]) -> Iterator[tuple[bytes, ...]]:
    """
    Group the pieces of all runs to blocks.

    A piece counts as the next power of two, and a run begins a new block unless that block would be small:
    a digit more in one piece must not move the ends of all blocks after it.
    """
    block, weight = list[bytes](), 0
    for run in runs:
        if weight > _BLOCK_BYTES // 4:
            yield tuple(block)
            block, weight = [], 0
        for piece in run:
            more = 1 << len(piece).bit_length()
            if block and weight + more > _BLOCK_BYTES:
                yield tuple(block)
                block, weight = [], 0
            block.append(piece)
            weight += more
    if block:
        yield tuple(block)


@dataclass(frozen=True, slots=True)
class _Compressed:
    """The blocks of a whole body; `size` and `crc32` are those of the plain bytes."""

    blocks: tuple[Block, ...]
    size: int
    crc32: int

    @classmethod
    def of(cls, runs: Sequence[Sequence[bytes]], before: Iterable[Block] = ()) -> Self:
        known = {block.pieces: block for block in before}
        blocks = tuple(known.get(pieces) or Block.of(pieces) for pieces in _grouped(runs))
        crc32 = 0
        for block in blocks:
            crc32 = combined(crc32, block.crc32, block.size)
        return cls(blocks, sum(block.size for block in blocks), crc32)


class Body:
    """
    A response body without its tail, which is rendered at the request.

    Shape: `runs` have the body's pieces in order; pieces that belong together make a run. `before` is the
    body of the last publication: its blocks are used again, and it knows whether scrapes want them.
    """

    def __init__(self, runs: Sequence[Sequence[bytes]], before: Body | None = None) -> None:
        self._runs = runs
        self._compressed: _Compressed | None = None
        # How many publications ago a scrape has got the compressed body.
        self._idle: int = _KEPT_PUBLICATIONS if before is None else before._idle + 1
        if before is not None and self._idle < _KEPT_PUBLICATIONS:
            known = before._compressed
            self._compressed = _Compressed.of(runs, () if known is None else known.blocks)

    @property
    def plain(self) -> bytes:
        return b"".join(self.with_tail(b""))

    def with_tail(self, tail: bytes) -> list[bytes]:
        """Return the whole body, in many parts."""
        return [*(piece for run in self._runs for piece in run), tail]

    @property
    def is_compressed(self) -> bool:
        return self._compressed is not None

    def compress(self) -> _Compressed:
        """Compress the body if this is not done yet: some 3 ms per megabyte. Any thread may call this."""
        self._idle = 0
        if self._compressed is None:
            self._compressed = _Compressed.of(self._runs)
        return self._compressed

    def gzip_with_tail(self, tail: bytes) -> list[bytes]:
        """Return the whole body as one gzip member, in many parts."""
        compressed = self.compress()
        crc32 = zlib.crc32(tail, compressed.crc32)
        size = (compressed.size + len(tail)) & 0xFFFFFFFF
        trailer = crc32.to_bytes(4, "little") + size.to_bytes(4, "little")
        deflated = (block.deflated for block in compressed.blocks)
        return [_HEADER, *deflated, _deflate(tail, zlib.Z_FINISH), trailer]


# A checksum is a polynomial over GF(2), the highest power in the lowest bit, modulo this one.
_MODULUS = 0xEDB88320
_ONE = 1 << 31


def combined(left: int, right: int, right_size: int) -> int:
    """Return the CRC-32 of two concatenated byte strings, from the CRC-32 of each."""
    # In two steps, so that blocks of all sizes share few tables.
    kilobytes = right_size & -1024
    return _before_zeros(_before_zeros(left, kilobytes), right_size - kilobytes) ^ right


def _before_zeros(crc32: int, size: int) -> int:
    """Return what a checksum becomes when so many zero bytes follow."""
    result = 0
    for table in _tables(size):
        result ^= table[crc32 & 15]
        crc32 >>= 4
    return result


@lru_cache(maxsize=2048)
def _tables(size: int) -> tuple[tuple[int, ...], ...]:
    """Return what each four bits of a checksum become, from the lowest on, when so many zero bytes follow."""
    # What each bit becomes, from the highest on, which stands for the power 0.
    bits = [_shift(size)]
    for _ in range(31):
        bits.append(_times_x(bits[-1]))
    tables = []
    while bits:
        table = [0]
        for _ in range(4):
            bit = bits.pop()
            table += [bit ^ known for known in table]
        tables.append(tuple(table))
    return tuple(tables)


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
        right = _times_x(right)
    return product


def _times_x(polynomial: int) -> int:
    return polynomial >> 1 ^ (_MODULUS if polynomial & 1 else 0)
