"""Bodies that strict readers refuse, and rows as a table: rows in, jobs or rows set apart out."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.model import JOB_TYPES, STATUSES, Job
from exporter.octopus.tolerant import (
    EARLIEST_MS,
    LATEST_MS,
    MAX_ID,
    Numeral,
    SetApartRow,
    clean_label,
    clean_message,
    read_json,
    read_row,
)
from exporter.octopus.wire import decode_page
from tests.octopus_fakes import ASKED, answered, page, row

ODD_TIMES = (1, EARLIEST_MS - 1, LATEST_MS + 1)
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


NO_STATUSES: frozenset[str] = frozenset()
CREATED_MS = row()["create_at"]


def read(raw: object) -> Job | SetApartRow:
    return read_row(raw, 3, NO_STATUSES)


def read_job(**fields: Any) -> Job:
    job = read(row(**fields))
    assert isinstance(job, Job), job
    return job


def problem(raw: object) -> str:
    found = read(raw)
    assert isinstance(found, SetApartRow), found
    assert (found.index, len(found.digest)) == (3, 16)
    return found.problem


LIST = ["x"]
OBJECT = {"x": 1}


@pytest.mark.parametrize(
    ("field", "attribute", "raw", "expected"),
    [
        ("id", "id", 0, 0),
        ("id", "id", "123", 123),
        ("id", "id", "123.0", 123),
        ("id", "id", " 123 ", 123),
        ("id", "id", 123.0, 123),
        ("id", "id", Numeral("1.23E2"), 123),
        ("id", "id", Numeral("9007199254740993.0"), 9007199254740993),
        ("id", "id", str(MAX_ID), MAX_ID),
        ("job_type", "job_type", "DREAMING", "DREAMING"),
        ("job_type", "job_type", "X" * 300, "X" * 200),
        ("job_type", "job_type", "7", "7"),
        ("status", "status", "RUN\nNING\x00\ud83d\u2028\x85", "RUNNING"),
        ("status", "status", " RUNNING ", "RUNNING"),
        ("status", "status", "已暂停", "已暂停"),
        *(
            (field, attribute, raw, expected)
            for field, attribute in (
                ("create_at", "created_ms"),
                ("update_at", "updated_ms"),
                ("start_at", "started_ms"),
                ("end_at", "ended_ms"),
            )
            for raw, expected in (
                (EARLIEST_MS, EARLIEST_MS),
                (LATEST_MS, LATEST_MS),
                ("1700000000123", 1700000000123),
                (1700000000123.0, 1700000000123),
                (Numeral("1700000000123.75"), 1700000000123),
                (Numeral("1.7E12"), 1700000000000),
            )
        ),
        *(
            (field, attribute, raw, None)
            for field, attribute in (("start_at", "started_ms"), ("end_at", "ended_ms"))
            for raw in (None, 0, -1, "", " ", "0", "-1", 0.0, Numeral("-0.5"), -(2**70))
        ),
        *(
            ("update_at", "updated_ms", raw, CREATED_MS)
            for raw in (None, 0, -1, "", "soon", True, 1_700_000_000, 2**70, LIST, OBJECT)
        ),
        *(
            (field, attribute, raw, expected)
            for field, attribute in (
                ("submitting_duration", "submitting_ms"),
                ("running_duration", "running_ms"),
            )
            for raw, expected in (
                (0, 0),
                ("1500", 1500),
                (1500.25, 1500),
                (Numeral("1500.25"), 1500),
                *((odd, None) for odd in (None, "", -1, "-1", "long", True, 2**53, 2**70, LIST, OBJECT)),
            )
        ),
        ("msg_code", "msg_code", 404, "404"),
        ("msg_code", "msg_code", Numeral("404.0"), "404"),
        ("msg_code", "msg_code", Numeral("1.5"), "1.5"),
        ("msg_code", "msg_code", Numeral("9" * 5000), "9" * 200),
        ("msg_code", "msg_code", "DATA\n.0001", "DATA.0001"),
        *(("msg_code", "msg_code", odd, "") for odd in (None, "", True, LIST, OBJECT)),
        ("msg_error", "msg_error", "line 1\nline 2\t", "line 1\nline 2\t"),
        ("msg_error", "msg_error", "disk full \ud83d", "disk full \ufffd"),
        ("msg_error", "msg_error", "a\x00b", "a\ufffdb"),
        ("msg_error", "msg_error", "磁" * 100_000, "磁" * 2000),
        ("msg_error", "msg_error", 404, "404"),
        *(("msg_error", "msg_error", odd, "") for odd in (None, True, LIST, OBJECT)),
        ("workspace_id", "workspace_id", 12, "12"),
        ("workspace_id", "workspace_id", Numeral("12.0"), "12"),
        *(("workspace_id", "workspace_id", odd, None) for odd in (None, "", True, LIST, OBJECT)),
        ("new_field", "id", OBJECT, 1),
    ],
)
def test_what_can_be_read_is_read(field: str, attribute: str, raw: object, expected: object) -> None:
    assert getattr(read_job(**{field: raw}), attribute) == expected


RANGE = f"not in milliseconds (expected {EARLIEST_MS} to {LATEST_MS})"
WHOLE = f"expected a whole number from 0 to {MAX_ID}"


@pytest.mark.parametrize(
    ("field", "raw", "said"),
    [
        ("id", None, f"missing, {WHOLE}"),
        ("id", "", f"found an empty text, {WHOLE}"),
        ("id", "job-1", f"found a text (5 characters), {WHOLE}"),
        ("id", -1, f"found -1, {WHOLE}"),
        ("id", 1.5, f"found 1.5, {WHOLE}"),
        ("id", True, f"found true, {WHOLE}"),
        ("id", 2**63, f"found {2**63}, {WHOLE}"),
        ("id", LIST, f"found a list, {WHOLE}"),
        ("id", Numeral("9" * 5000), f"found a text (5000 characters), {WHOLE}"),
        *(
            (field, raw, f"{said}, expected a word")
            for field in ("job_type", "status")
            for raw, said in (
                (None, "missing"),
                ("", "found an empty text"),
                ("\n\ud83d", "found a text (2 characters)"),
                (7, "found 7"),
                (Numeral("1.5"), "found 1.5"),
                (OBJECT, "found an object"),
            )
        ),
        ("create_at", None, "missing, expected a time in milliseconds"),
        ("create_at", 0, "found 0, expected a time in milliseconds"),
        ("create_at", -1, "found -1, expected a time in milliseconds"),
        ("create_at", "", "found an empty text, expected a time in milliseconds"),
        ("create_at", "  ", "found an empty text, expected a time in milliseconds"),
        *(
            (field, raw, f"found {raw}, {RANGE}")
            for field in ("create_at", "start_at", "end_at")
            for raw in (1_700_000_000, "1700000000", EARLIEST_MS - 1, LATEST_MS + 1, 1_700_000_000_000_000)
        ),
        *(
            (field, raw, f"found {said}, expected a time in milliseconds")
            for field in ("create_at", "start_at", "end_at")
            for raw, said in (
                ("2023-11-14T22:13:20Z", "2023-11-14T22:13:20Z"),
                ("the secret", "a text (10 characters)"),
                (True, "true"),
                (LIST, "a list"),
                (OBJECT, "an object"),
            )
        ),
    ],
)
def test_what_decides_a_count_and_cannot_be_read_sets_the_row_apart(
    field: str, raw: object, said: str
) -> None:
    assert problem(row(**{field: raw})) == f"{field}: {said}"


@pytest.mark.parametrize(
    ("raw", "found"),
    [(None, "null"), (True, "true"), (7, "7"), ("x", "a text (1 characters)"), ([], "a list")],
)
def test_a_row_that_is_no_object_is_set_apart(raw: object, found: str) -> None:
    assert problem(raw) == f"row: found {found}, expected an object"


def test_a_row_set_apart_keeps_what_can_be_read() -> None:
    apart = read(row(7, status="RUNNING", start_at="soon"))
    assert isinstance(apart, SetApartRow)
    assert (apart.job_id, apart.status, apart.created_ms) == (7, "RUNNING", CREATED_MS)
    apart = read({"id": True, "status": 5, "create_at": 5})
    assert isinstance(apart, SetApartRow)
    assert (apart.job_id, apart.status, apart.created_ms) == (None, "", None)
    assert apart.problem.startswith("id: ")


def test_a_digest_knows_the_same_row_again_and_no_other() -> None:
    broken = {"job_type": "FRAME_EXTRACT", "status": "RUNNING"}
    rows = (broken, dict(broken), {}, None)
    read_rows = [read_row(raw, at, NO_STATUSES) for at, raw in enumerate(rows)]
    first, same, other, null = (apart.digest for apart in read_rows if isinstance(apart, SetApartRow))
    assert first == same
    assert len({first, other, null}) == 3


def test_a_status_that_the_configuration_names_ends_the_run() -> None:
    job = read_row(row(status="ARCHIVED"), 0, frozenset({"ARCHIVED"}))
    assert isinstance(job, Job)
    assert (job.named_terminal, job.has_ended) == (True, True)


def test_an_update_time_that_did_not_come_is_the_latest_of_the_others() -> None:
    times = {"start_at": CREATED_MS + 20, "end_at": CREATED_MS + 30}
    assert read_job(**times, update_at=None).updated_ms == CREATED_MS + 30


# A busy machine makes hypothesis think that the data is what is slow.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

texts = st.text() | st.sampled_from(["", " ", "\x00", "\x7f", "\x85", "\u2028", "é" * 201, "x" * 2001])
times = st.integers(EARLIEST_MS, LATEST_MS) | st.integers(-(2**64), 2**64) | st.just(0)
documented = st.fixed_dictionaries(
    {
        "id": st.integers(1, MAX_ID) | st.integers(-1, 2**64),
        "job_type": st.sampled_from(JOB_TYPES) | texts,
        "status": st.sampled_from(STATUSES) | texts,
        "create_at": times,
    },
    optional={
        **dict.fromkeys(("update_at", "start_at", "end_at"), times | st.none()),
        **dict.fromkeys(("submitting_duration", "running_duration"), st.integers() | st.none()),
        "msg_code": st.integers() | st.integers(10**199, 10**202) | texts | st.none(),
        "msg_error": texts | st.none(),
        "workspace_id": st.integers() | texts | st.none(),
        "data_id": st.integers() | texts | st.none(),
        "resource_spec": texts | st.none(),
    },
)


@unhurried
@given(documented)
def test_both_ways_of_reading_agree(fields: dict[str, Any]) -> None:
    """The answer beside is read tolerantly, because of a NaN in a field that nobody reads."""
    statuses = frozenset({"ARCHIVED", "x"})
    strictly = decode_page(answered(page(fields)), ASKED, statuses)
    tolerantly = decode_page(answered({**page(fields), "x": float("nan")}), ASKED, statuses)
    assert strictly == tolerantly
    assert tolerantly.jobs + tolerantly.set_apart == (
        read_row(read_json(json.dumps(fields).encode(), ""), 0, statuses),
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
FIELDS = (*row(), "start_at", "end_at", "running_duration", "submitting_duration", "msg_code", "msg_error")


@unhurried
@given(st.dictionaries(st.sampled_from((*FIELDS, "workspace_id", "unknown")), json_values) | json_values)
def test_whatever_a_row_is_it_is_a_job_or_set_apart(fields: Any) -> None:
    raw = {**row(), **fields} if isinstance(fields, dict) else fields
    read_page = decode_page(answered(page(raw)), ASKED)
    (found,) = read_page.jobs + read_page.set_apart
    if isinstance(found, SetApartRow):
        assert len(found.problem) < 150
        return
    assert 0 <= found.id <= MAX_ID
    for time_ms in (found.created_ms, found.updated_ms, found.started_ms, found.ended_ms):
        assert time_ms is None or EARLIEST_MS <= time_ms <= LATEST_MS
    for text in (found.job_type, found.status, found.msg_code, found.msg_error):
        text.encode()
    assert "" not in (found.job_type, found.status)


@unhurried
@given(st.text(st.characters(codec=None)))
def test_labels_and_messages_are_bounded_and_can_be_encoded(text: str) -> None:
    assert len(clean_label(text).encode()) <= 4 * 200
    assert clean_label(clean_label(text)) == clean_label(text)
    assert len(clean_message(text).encode()) <= 4 * 2000


@pytest.mark.parametrize("time_ms", ODD_TIMES)
def test_a_number_that_is_no_time_in_milliseconds_sets_a_row_apart(time_ms: int) -> None:
    assert problem(row(start_at=time_ms)).startswith(f"start_at: found {time_ms}, not in milliseconds")


@pytest.mark.parametrize(("sent", "kept"), [(LATEST_MS, LATEST_MS), (LATEST_MS + 1, None)])
def test_a_duration_may_be_as_long_as_the_latest_time(sent: int, kept: int | None) -> None:
    assert read_job(running_duration=sent).running_ms == kept


def test_a_row_is_known_again_though_its_fields_come_in_another_order() -> None:
    fields = row(create_at="soon")
    digests = {
        found.digest
        for raw in (fields, dict(reversed(fields.items())))
        if isinstance(found := read(raw), SetApartRow)
    }
    assert len(digests) == 1
