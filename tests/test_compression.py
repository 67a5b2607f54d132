from __future__ import annotations

import gzip
import zlib

from hypothesis import given
from hypothesis import strategies as st

from exporter.exposition.compression import Body, Chunk, Segment, combined


def body(*runs: list[bytes]) -> Body:
    return Body.of(Segment.of(tuple(map(Chunk.of, run))) for run in runs)


@given(st.lists(st.lists(st.binary(max_size=200), max_size=3), max_size=3), st.binary(max_size=200))
def test_pieces_and_tail_make_one_gzip_member(runs: list[list[bytes]], tail: bytes) -> None:
    """One and no more: curl takes a second member for an error."""
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    whole = b"".join(piece for run in runs for piece in run) + tail
    made = body(*runs)
    assert inflater.decompress(b"".join(made.gzip_with_tail(tail))) == whole
    assert inflater.eof
    assert inflater.unused_data == b""
    assert b"".join(made.with_tail(tail)) == whole
    assert made.size + len(tail) == len(whole)


@given(st.binary(max_size=300), st.binary(max_size=3000))
def test_two_checksums_make_that_of_the_whole(left: bytes, right: bytes) -> None:
    assert combined(zlib.crc32(left), zlib.crc32(right), len(right)) == zlib.crc32(left + right)


def test_a_checksum_is_there_and_right() -> None:
    lines = b"octopus_up 1\n" * 100
    made = body([lines], [lines, b"octopus_up 0\n"])
    zipped = b"".join(made.gzip_with_tail(b"# EOF\n"))
    assert gzip.decompress(zipped) == b"".join(made.with_tail(b"# EOF\n"))
    assert len(zipped) < made.size / 10
