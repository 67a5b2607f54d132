"""Bodies that strict readers refuse."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.octopus.tolerant_json import Numeral, read_json

UTF8 = "application/json;charset=UTF-8"


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b'{"a": "x"}', "", {"a": "x"}),
        (b'\xef\xbb\xbf{"a": "x"}', UTF8, {"a": "x"}),
        ('{"a": "磁盘"}'.encode("utf-16"), "", {"a": "磁盘"}),
        ('{"a": "磁盘"}'.encode("utf-16-le"), "application/json; charset=utf-16le", {"a": "磁盘"}),
        ('{"a": "磁盘"}'.encode("gbk"), "application/json; charset=GBK", {"a": "磁盘"}),
        ('{"a": "磁盘"}'.encode("gb18030"), 'application/json; charset="gb2312"', {"a": "磁盘"}),
        ('{"a": "é"}'.encode("latin-1"), "text/plain; charset=ISO-8859-1; x=y", {"a": "é"}),
        # What is UTF-8 is read so, whatever was announced.
        ('{"a": "磁盘"}'.encode(), "application/json; charset=GBK", {"a": "磁盘"}),
        ('{"a": "磁"}'.encode()[:-3] + b'"}', UTF8, {"a": "\ufffd"}),
        (b'{"a": "\xff"}', "application/json; charset=no-such-charset", {"a": "\ufffd"}),
        (b'{"a": "\xff"}', "application/json; charset=unicode_escape", {"a": "\ufffd"}),
        (b'{"a": "disk full \\ud83d"}', "", {"a": "disk full \ud83d"}),
        (b'{"a": "x\ny\tz\x00"}', "", {"a": "x\ny\tz\x00"}),
        (b'{"a": NaN, "b": Infinity, "c": -Infinity}', "", {"a": None, "b": None, "c": None}),
        (b'{"a": "C:\\data\\jobs"}', "", {"a": "C:\\data\\jobs"}),
        (b'{"a": "\\ud8", "b": "\\\\x \\" \\u00e9"}', "", {"a": "\\ud8", "b": '\\x " é'}),
        (b"[1, 1000.0, 1.7E12]", "", [1, "1000.0", "1.7E12"]),
        (b"9" * 5000, "", "9" * 5000),
    ],
)
def test_what_can_be_made_of_it_is_read(body: bytes, content_type: str, expected: object) -> None:
    assert read_json(body, content_type) == expected


def test_a_number_that_is_no_int_is_told_from_a_text() -> None:
    number, text = read_json(b'[1.5, "1.5"]', "")  # type: ignore[misc] # a list of two
    assert (type(number), type(text)) == (Numeral, str)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "' + rb"\x" * 200_000 + b'"}',
        b"",
        b"  ",
        b"<html>",
        b'{"a": [',
        b'{"a": "x',
        b'{"a": "\\',
        b"{} {}",
        b"{'a': 1}",
        b"\xef\xbb\xbf",
        b"\x00",
    ],
)
def test_what_is_not_one_whole_document_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_json(body, UTF8)


@given(st.binary(max_size=200), st.text(max_size=40) | st.just("charset=gbk"))
def test_no_bytes_raise_anything_else(body: bytes, content_type: str) -> None:
    with contextlib.suppress(ValueError):
        json.dumps(read_json(body, content_type))
