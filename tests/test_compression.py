from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.published import snapshots
from exporter.exposition import compression
from exporter.exposition.compression import Body, combined
from exporter.exposition.render import assemble, render_target

RUNS = st.lists(st.lists(st.binary(max_size=200), max_size=4), max_size=4)


def unzipped(body: Body, tail: bytes = b"") -> bytes:
    """Decompress one gzip member and no more: curl takes a second one for an error."""
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    plain = inflater.decompress(b"".join(body.gzip_with_tail(tail)))
    assert inflater.eof  # the checksum and the size are right, too
    assert inflater.unused_data == b""
    return plain


@pytest.fixture
def compressed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is compressed for blocks, in order."""
    seen: list[bytes] = []

    def deflate(plain: bytes, flush: int) -> bytes:
        if flush == zlib.Z_SYNC_FLUSH:
            seen.append(plain)
        return deflated(plain, flush)

    deflated = compression._deflate
    monkeypatch.setattr(compression, "_deflate", deflate)
    return seen


def lines(project: int, value: int, size: int = 1_000) -> bytes:
    return f'octopus_up{{project="{project}"}} {value}\n'.encode() * (size // 30)


@given(st.lists(RUNS, min_size=1, max_size=3), st.binary(max_size=200))
def test_each_publication_and_its_tail_make_one_gzip_member(
    publications: list[list[list[bytes]]], tail: bytes
) -> None:
    body = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "_BLOCK_BYTES", 512)
        for runs in publications:
            body = Body(runs, body)
            whole = b"".join(piece for run in runs for piece in run) + tail
            assert b"".join(body.with_tail(tail)) == whole
            assert unzipped(body, tail) == whole


@given(st.binary(max_size=300), st.binary(max_size=3000))
def test_two_checksums_make_that_of_the_whole(left: bytes, right: bytes) -> None:
    assert combined(zlib.crc32(left), zlib.crc32(right), len(right)) == zlib.crc32(left + right)


@pytest.mark.parametrize("series", [1_000, 20_000])
def test_the_whole_is_little_larger_than_in_one_piece(series: int) -> None:
    body = assemble(map(render_target, snapshots(series))).openmetrics
    assert sum(map(len, body.gzip_with_tail(b""))) < 1.15 * len(gzip.compress(body.plain, 6))


def test_only_the_blocks_that_changed_are_compressed_again(compressed: list[bytes]) -> None:
    before = Body([[lines(project, 1, 40_000) for project in range(10)]])
    before.compress()
    compressed.clear()
    # One digit more: the other blocks stay where they are.
    changed = lines(5, 10, 40_000)
    after = Body([[changed if project == 5 else lines(project, 1, 40_000) for project in range(10)]], before)
    assert compressed == [changed]
    assert unzipped(after) == after.plain


def test_a_family_that_grows_leaves_the_blocks_of_the_next_one(compressed: list[bytes]) -> None:
    others = [lines(project, 1, 20_000) for project in range(20)]
    before = Body([[lines(0, 0, 30_000)], others])
    before.compress()
    compressed.clear()
    grown = [lines(0, 0, 30_000), lines(1, 0, 90_000)]
    Body([grown, others], before)
    assert compressed == [grown[1]]


def test_a_body_is_compressed_in_advance_only_while_scrapes_want_it(
    compressed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "_KEPT_PUBLICATIONS", 3)
    body = Body([[lines(0, 0)]])
    for value in range(1, 4):
        body = Body([[lines(0, value)]], body)
    assert compressed == []
    body.gzip_with_tail(b"")
    for value in range(4, 10):
        body = Body([[lines(0, value)]], body)
    assert compressed == [lines(0, value) for value in (3, 4, 5)]
    assert not body.is_compressed
    assert unzipped(body) == lines(0, 9)
