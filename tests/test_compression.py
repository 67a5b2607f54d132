from __future__ import annotations

import gzip
import zlib

from hypothesis import given
from hypothesis import strategies as st

from exporter.exposition.compression import Body, Piece


@given(st.lists(st.binary(max_size=200), max_size=5), st.binary(max_size=200))
def test_pieces_and_tail_make_one_gzip_member(pieces: list[bytes], tail: bytes) -> None:
    """One and no more: curl takes a second member for an error."""
    body = Body.of(map(Piece.of, pieces))
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert inflater.decompress(body.gzip_with_tail(tail)) == b"".join(pieces) + tail
    assert inflater.eof
    assert inflater.unused_data == b""


def test_a_checksum_is_there_and_right() -> None:
    body = Body.of([Piece.of(b"octopus_up 1\n" * 100)])
    assert gzip.decompress(body.gzip_with_tail(b"# EOF\n")) == body.with_tail(b"# EOF\n")
    assert len(body.deflated) < len(body.plain) / 10
