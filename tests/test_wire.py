from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.errors import ApiUnavailable, ContractError
from exporter.model import Job
from exporter.octopus.wire import ListQuery, Page, clock_skew, decode_page, list_request, parse_time_ms
from tests.octopus_fakes import ASKED, LIST_PATH, answered, page, row, sample, target


def decode(body: object, status: int = 200) -> Page:
    return decode_page(answered(body, status), ASKED)


def decode_row(**fields: Any) -> Job:
    return decode(page(row(**fields))).jobs[0]


def test_a_query_with_everything_is_sent_with_repeated_keys() -> None:
    start_ms = 1_700_000_000_000
    query = ListQuery(("FRAME_EXTRACT", "PACKAGE_IMPORT"), ("RUNNING", "QUEUING"), start_ms, 7, 400, 200)
    request = list_request(target(workspace_id="12", path="/system-job/"), query)
    assert (request.method, request.origin) == ("GET", "https://octopus.test")
    assert request.path == LIST_PATH.removesuffix("s")
    assert request.query == (
        ("job_types", "FRAME_EXTRACT"),
        ("job_types", "PACKAGE_IMPORT"),
        ("statuses", "RUNNING"),
        ("statuses", "QUEUING"),
        ("id", "7"),
        ("start_time", "1700000000000"),
        ("workspace_id", "12"),
        ("offset", "400"),
        ("limit", "200"),
    )


@pytest.mark.parametrize(
    ("start_ms", "sent"),
    [(-5, 10**12), (0, 10**12), (10**12 + 1, 10**12 + 1), (2 * 10**12, 2 * 10**12), (3 * 10**12, 2 * 10**12)],
)
def test_a_start_time_is_kept_within_what_the_api_takes(start_ms: int, sent: int) -> None:
    query = list_request(target(), ListQuery(start_time_ms=start_ms)).query
    assert dict(query)["start_time"] == str(sent)


def test_an_empty_query_asks_for_nothing_but_a_page() -> None:
    request = list_request(target(), ListQuery())
    assert request.query == (("offset", "0"), ("limit", "200"))
    assert request.full_url == f"https://octopus.test{LIST_PATH}?limit=200&offset=0"


def test_an_endpoint_may_have_a_port_a_prefix_and_a_user_nobody_sees() -> None:
    request = list_request(target("http://me:secret@127.0.0.1:8080/octopus/"), ListQuery())
    assert request.url == f"http://127.0.0.1:8080/octopus{LIST_PATH}"
    assert request.host == "127.0.0.1:8080"


def test_whatever_needs_it_is_percent_encoded_once() -> None:
    request = list_request(target(project_id="a b%2F", workspace_id="é&+ ="), ListQuery())
    assert request.full_url == (
        "https://octopus.test/v1.0/a%20b%252F/data/system-jobs"
        "?limit=200&offset=0&workspace_id=%C3%A9%26%2B%20%3D"
    )


def test_more_values_than_the_api_takes_are_refused() -> None:
    values = tuple(str(i) for i in range(20))
    assert len(list_request(target(), ListQuery(values, values)).query) == 42
    with pytest.raises(ValueError, match="job_types: 21 values, the API takes at most 20"):
        list_request(target(), ListQuery(job_types=(*values, "x")))
    with pytest.raises(ValueError, match="statuses: 21 values"):
        list_request(target(), ListQuery(statuses=(*values, "x")))


def test_the_official_example_is_read() -> None:
    assert decode(sample("200-official-example.json")) == Page(
        jobs=(
            Job(
                id=1,
                job_type="SCENARIO_AUTO_MINING",
                status="FINISHED",
                created_ms=1640966400000,
                updated_ms=1640966400000,
                started_ms=1640966400000,
                ended_ms=1640966400000,
                submitting_ms=1000,
                running_ms=1000,
                data_id="DPK0000001",
                resource_spec="1Core_4GiB",
            ),
        ),
        total=1,
        offset=0,
        limit=1,
        server_time_ms=1641024509000,
    )


OPTIONAL = (
    "update_at",
    "start_at",
    "end_at",
    "submitting_duration",
    "running_duration",
    "msg_code",
    "msg_error",
    "workspace_id",
)


@pytest.mark.parametrize("name", OPTIONAL)
def test_null_is_the_same_as_absent(name: str) -> None:
    absent = {key: value for key, value in row().items() if key != name}
    assert decode(page({**absent, name: None})) == decode(page(absent))


def test_everything_else_may_be_silent_or_new() -> None:
    assert decode({"payload": {"list": []}}) == Page(jobs=())
    assert decode({"payload": {"list": [], "page_info": None, "new": 1}, "meta_info": None, "x": {}}) == Page(
        ()
    )
    assert decode(page(page_info={"total": None, "offset": None})) == Page(())
    job = decode_row(status="PAUSED", job_type="DREAMING", priority={"new": [1]}, data_id=3)
    assert (job.status, job.job_type, job.data_id) == ("PAUSED", "DREAMING", "3")


@pytest.mark.parametrize("meta", [{}, [], 3, {"current_time": 5}, {"current_time": "soon"}])
def test_a_strange_meta_info_only_costs_the_server_time(meta: object) -> None:
    assert decode({**page(row()), "meta_info": meta}).server_time_ms is None


def test_a_server_time_without_a_zone_is_utc() -> None:
    assert decode({**page(), "meta_info": {"current_time": "1970-01-01T00:00:02"}}).server_time_ms == 2000


@pytest.mark.parametrize(("sent", "kept"), [(404, "404"), ("DATA.0001", "DATA.0001"), (None, ""), ("", "")])
def test_msg_code_is_a_string_whatever_it_came_as(sent: object, kept: str) -> None:
    assert decode_row(msg_code=sent).msg_code == kept


@pytest.mark.parametrize(("sent", "kept"), [("12", "12"), (12, "12"), ("", None), (None, None)])
def test_a_workspace_is_a_text_or_unknown(sent: object, kept: str | None) -> None:
    assert decode_row(workspace_id=sent).workspace_id == kept


def test_ids_may_use_64_bits() -> None:
    assert decode_row(id=2**63 - 1).id == 2**63 - 1


def test_one_odd_row_is_set_apart_and_the_others_are_read() -> None:
    read = decode(page(row(1), None, row(3, start_at="soon"), row(4), page_info={"total": 4}))
    assert [job.id for job in read.jobs] == [1, 4]
    assert [(apart.index, apart.job_id) for apart in read.set_apart] == [(1, None), (2, 3)]
    assert (read.total, read.rows) == (4, 4)


def encoded(rows: str, encoding: str = "utf-8") -> bytes:
    return b'{"payload": {"list": [' + rows.encode(encoding) + b"]}}"


PLAIN = json.dumps(row(1, msg_error="MESSAGE", start_at=1_700_000_001_000))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (r"disk full \ud83d", "disk full \ufffd"),
        ("a raw\nnewline and\ttab", "a raw\nnewline and\ttab"),
        ("x" * 100_000, "x" * 2000),
        (r"C:\data", r"C:\data"),
    ],
)
def test_a_broken_text_costs_nothing_but_itself(sent: str, kept: str) -> None:
    plain, broken = (decode(encoded(PLAIN.replace("MESSAGE", text))) for text in ("", sent))
    (job,) = broken.jobs
    assert job == msgspec.structs.replace(plain.jobs[0], msg_error=kept)


def test_a_utf8_sequence_that_is_cut_costs_one_character() -> None:
    body = encoded(PLAIN.replace("MESSAGE", "磁盘")).replace("盘".encode(), "盘".encode()[:2])
    assert decode(body).jobs[0].msg_error == "磁\ufffd"


def test_an_announced_charset_is_read() -> None:
    body = encoded(PLAIN.replace("MESSAGE", "磁盘已满"), "gbk")
    response = answered(body, content_type="application/json;charset=GBK")
    assert decode_page(response, ASKED).jobs[0].msg_error == "磁盘已满"


def test_a_byte_order_mark_and_a_nan_do_not_matter() -> None:
    plain = decode(encoded(PLAIN))
    assert decode(b"\xef\xbb\xbf" + encoded(PLAIN)) == plain
    assert decode(encoded(PLAIN.replace("}", ', "score": NaN}'))) == plain


@pytest.mark.parametrize("total", [-1, True, "many", 1.5, 2**70, [], None])
def test_an_odd_total_is_unknown(total: object) -> None:
    assert decode(page(row(), page_info={"total": total, "offset": 0})) == decode(
        page(row(), page_info={"offset": 0})
    )


@pytest.mark.parametrize("total", [7, "7", 7.0])
def test_a_total_may_be_written_in_any_form(total: object) -> None:
    assert decode(page(row(), page_info={"total": total})).total == 7


@pytest.mark.parametrize(("total", "kept"), [(2**63 - 1, 2**63 - 1), (2**63, None)])
def test_a_total_has_64_bits(total: int, kept: int | None) -> None:
    assert decode(page(row(), page_info={"total": total})).total == kept


@pytest.mark.parametrize("info", [[], 3, "x", True])
def test_an_odd_page_info_is_silent(info: object) -> None:
    assert decode(page(row(), page_info=info)) == decode(page(row()))


@pytest.mark.parametrize("payload", [{}, {"list": None}])
def test_no_list_is_an_empty_one_only_where_the_total_is_0(payload: dict[str, Any]) -> None:
    assert decode({"payload": {**payload, "page_info": {"total": 0}}}) == Page((), total=0)
    assert decode({"payload": {**payload, "page_info": {"total": "0"}}, "x": float("nan")}).jobs == ()
    for info in ({"total": 1}, {"total": -1}, {}, None):
        with pytest.raises(ContractError, match=r"payload\.list is missing, and page_info\.total is not 0"):
            decode({"payload": {**payload, "page_info": info}})


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        None,
        3,
        "text",
        {"payload": None},
        {"payload": []},
        {"payload": {"list": {}}},
        {"payload": {"list": "x", "page_info": {"total": 0}}},
        {"payload": {"list": [None, None]}},
        {"list": [row()]},
    ],
)
def test_a_document_of_another_shape_is_never_an_empty_list(body: object) -> None:
    with pytest.raises(ContractError, match="not a job list") as caught:
        decode(body)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.url == f"https://octopus.test{LIST_PATH}"


WHOLE = json.dumps(page(row(1), row(2), page_info={"total": 2})).encode()


@pytest.mark.parametrize(
    "body",
    [
        *(WHOLE[:length] for length in range(0, len(WHOLE), 7)),
        WHOLE[:-1],
        b"   ",
        b"<html>login</html>",
        WHOLE + b" trailing",
        b"\xff" * 20,
    ],
)
def test_a_broken_answer_is_asked_for_again(body: bytes) -> None:
    with pytest.raises(ApiUnavailable, match="not a whole JSON document") as caught:
        decode(body)
    assert (type(caught.value), caught.value.status) == (ApiUnavailable, 200)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("closing", ["]" * 100_000 + "}", ""])
def test_an_answer_that_is_nested_without_end_is_no_list(closing: str) -> None:
    with pytest.raises(ContractError, match="nested too deep"):
        decode(b'{"meta_info": ' + b"[" * 100_000 + closing.encode())


def test_an_answer_without_a_readable_row_says_what_most_rows_have_wrong() -> None:
    seconds = [row(job_id, create_at=1_700_000_000 + job_id) for job_id in range(1, 4)]
    with pytest.raises(ContractError) as caught:
        decode(page(None, *seconds))
    assert caught.value.message == (
        "the answer is not a job list: none of its 4 rows can be read: payload.list[1].create_at: "
        "found 1700000001, not in milliseconds (expected 1000000000000 to 999999999999999)"
    )


def test_an_answer_of_a_million_nulls_is_not_kept() -> None:
    rows = ",".join([PLAIN, *["null"] * 1_000_000])
    with pytest.raises(ContractError, match=r"more than 1000 rows cannot be read: payload\.list\[1\]\.row: "):
        decode(encoded(rows))


@pytest.mark.parametrize(("unreadable", "is_read"), [(1_000, True), (1_001, False)])
def test_a_thousand_unreadable_rows_are_kept_beside_one_that_can_be_read(
    unreadable: int, is_read: bool
) -> None:
    body = encoded(",".join([PLAIN, *["null"] * unreadable]))
    if is_read:
        assert decode(body).rows == 1_001
    else:
        with pytest.raises(ContractError, match="more than 1000 rows cannot be read"):
            decode(body)


def test_a_new_word_is_read_without_its_blanks() -> None:
    job = decode_row(job_type=" DREAMING ", status=" PAUSED ")
    assert (job.job_type, job.status) == ("DREAMING", "PAUSED")


@pytest.mark.parametrize("start_at", [None, "1700000001000"], ids=["as documented", "tolerantly"])
def test_a_row_tells_whether_its_status_is_configured_as_terminal(start_at: object) -> None:
    rows = [row(1, status="ARCHIVED", start_at=start_at), row(2, status="PAUSED", start_at=start_at)]
    read = decode_page(answered(page(*rows)), ASKED, frozenset({"ARCHIVED"}))
    assert [job.named_terminal for job in read.jobs] == [True, False]


def test_one_row_that_cannot_be_read_is_no_reason_to_refuse_an_answer() -> None:
    assert len(decode(page(row(create_at=1_700_000_000))).set_apart) == 1


def test_a_web_page_in_place_of_an_answer_is_called_one() -> None:
    with pytest.raises(ApiUnavailable, match="HTML, perhaps of a proxy"):
        decode(b"\n<!doctype html><title>Sign in</title>")
    with pytest.raises(ApiUnavailable, match=r"\(empty body\)"):
        decode(b"")


def test_an_error_that_comes_as_200_is_shown() -> None:
    with pytest.raises(ContractError, match="try later") as caught:
        decode({"error_code": "octopus.400102", "error_msg": "try later"})
    assert caught.value.code == "octopus.400102"


@pytest.mark.parametrize("status", [201, 202, 204, 206])
def test_another_success_than_200_is_no_page(status: int) -> None:
    with pytest.raises(ContractError):
        decode(page(row()), status)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200), st.sampled_from(["", "text/html", "application/json; charset=gbk"]))
def test_no_bytes_raise_anything_but_errors_of_ours(body: bytes, content_type: str) -> None:
    with pytest.raises((ApiUnavailable, ContractError)):
        decode_page(answered(body, content_type=content_type), ASKED)


@pytest.mark.parametrize(
    ("value", "expected_ms"),
    [
        ("1970-01-01T00:00:02Z", 2000),
        ("1970-01-01T08:00:02+08:00", 2000),
        ("1970-01-01T00:00:02.25", 2250),
        (" 1970-01-01T00:00:02Z ", 2000),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ("9999-12-31T23:59:59.999999Z", None),
        ("0001-01-01T00:00:00.999+00:00:01", None),
        ("0001-01-01T00:00:00+08:00", None),
        ("9999-12-31T23:59:59-08:00", None),
        ("10000-01-01T00:00:00Z", None),
        ("0000-00-00T00:00:00Z", None),
        ("2022-02-30T00:00:00Z", None),
        ("", None),
        ("soon", None),
        (1_700_000_000_000, None),
        (None, None),
    ],
)
def test_a_time_is_read_within_the_years_that_calendars_have(value: object, expected_ms: int | None) -> None:
    assert parse_time_ms(value) == expected_ms


@given(st.text() | st.datetimes().map(str) | st.datetimes(timezones=st.timezones()).map(str))
def test_no_time_raises(value: str) -> None:
    parse_time_ms(value)


@pytest.mark.parametrize(
    ("server_ms", "sent", "received", "skew"),
    [
        (100_000, 100.2, 100.4, 0.0),
        (100_000, 100.9, 101.1, 0.0),
        (100_000, 99.0, 100.0, 0.0),
        (100_000, 101.0, 102.0, 0.0),
        (100_000, 101.5, 102.5, -1.5),
        (100_000, 90.0, 92.0, 9.5),
        (100_000, 200.0, 200.0, -99.5),
    ],
)
def test_the_skew_is_0_while_the_clocks_may_agree(
    server_ms: int, sent: float, received: float, skew: float
) -> None:
    assert clock_skew(server_ms, sent, received) == pytest.approx(skew)
