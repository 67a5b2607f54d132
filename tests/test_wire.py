from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.errors import ContractError
from exporter.model import Job
from exporter.octopus.wire import ListQuery, Page, clock_skew, decode_page, list_request
from tests.octopus_fakes import ASKED, LIST_PATH, answered, page, row, sample, target


def decode(body: object, status: int = 200) -> Page:
    return decode_page(answered(body, status), ASKED)


def decode_row(**fields: Any) -> Job:
    return decode(page(row(**fields))).jobs[0]


def test_a_query_with_everything_is_sent_with_repeated_keys() -> None:
    query = ListQuery(("FRAME_EXTRACT", "PACKAGE_IMPORT"), ("RUNNING", "QUEUING"), 1000, 7, 400, 200)
    request = list_request(target(workspace_id="12", path="/system-job/"), query)
    assert (request.method, request.origin) == ("GET", "https://octopus.test")
    assert request.path == LIST_PATH.removesuffix("s")
    assert request.query == (
        ("job_types", "FRAME_EXTRACT"),
        ("job_types", "PACKAGE_IMPORT"),
        ("statuses", "RUNNING"),
        ("statuses", "QUEUING"),
        ("id", "7"),
        ("start_time", "1000"),
        ("workspace_id", "12"),
        ("offset", "400"),
        ("limit", "200"),
    )


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
    assert (job.status, job.job_type) == ("PAUSED", "DREAMING")


@pytest.mark.parametrize("meta", [{}, [], 3, {"current_time": 5}, {"current_time": "soon"}])
def test_a_strange_meta_info_only_costs_the_server_time(meta: object) -> None:
    assert decode({**page(row()), "meta_info": meta}).server_time_ms is None


def test_a_server_time_without_a_zone_is_utc() -> None:
    assert decode({**page(), "meta_info": {"current_time": "1970-01-01T00:00:02"}}).server_time_ms == 2000


@pytest.mark.parametrize(("sent", "kept"), [(404, "404"), ("DATA.0001", "DATA.0001"), (None, ""), ("", "")])
def test_msg_code_is_a_string_whatever_it_came_as(sent: object, kept: str) -> None:
    assert decode_row(msg_code=sent).msg_code == kept


def test_an_update_time_that_did_not_come_is_the_latest_of_the_others() -> None:
    times = {"create_at": 10, "start_at": 20, "end_at": 30}
    assert decode_row(**times, update_at=None).updated_ms == 30
    assert decode_row(create_at=10, update_at=None).updated_ms == 10


def test_a_negative_duration_is_none() -> None:
    job = decode_row(submitting_duration=-1, running_duration=0)
    assert (job.submitting_ms, job.running_ms) == (None, 0)


def test_ids_may_use_64_bits() -> None:
    assert decode_row(id=2**63 - 1).id == 2**63 - 1


@pytest.mark.parametrize("name", ["id", "job_type", "status", "create_at"])
def test_a_row_without_what_it_is_counted_by_is_named(name: str) -> None:
    broken = {key: value for key, value in row(2).items() if key != name}
    with pytest.raises(
        ContractError, match=rf"missing required field `{name}` - at `\$\.payload\.list\[1\]`"
    ):
        decode(page(row(1), broken))


def each(names: tuple[str, ...], *values: object) -> list[tuple[str, object]]:
    return [(name, value) for name in names for value in values]


WRONG = [
    *each(("id", "create_at"), None, "1", 1.5, True, -1, 2**63, []),
    *each(("job_type", "status"), None, 1, "", []),
    *each(("update_at", "start_at", "end_at"), "1", 1.5, True, -1),
    *each(("running_duration", "submitting_duration"), "1", 1.5, True),
    *each(("msg_code", "msg_error"), [], {}),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_row_with_another_type_is_named(name: str, value: object) -> None:
    with pytest.raises(ContractError, match=rf"\$\.payload\.list\[1\]\.{name}`"):
        decode(page(row(1), row(2, **{name: value})))


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        None,
        {"payload": None},
        {"payload": []},
        {"payload": {}},
        {"payload": {"list": None}},
        {"payload": {"list": {}}},
        {"payload": {"list": [None]}},
        *(page(page_info={"total": total}) for total in (-1, True, "1", 1.5)),
        page(page_info=[]),
        b"",
        b"   ",
        b"<html>login</html>",
        b'{"payload": {"list": [',
        b'{"payload": {"list": []}} trailing',
        b'{"payload": {"list": [], "x": NaN}}',
        b'{"payload": {"list": [{"id": 1, "job_type": "\xff"}]}}',
        b'{"meta_info": ' + b"[" * 100_000,
    ],
)
def test_an_answer_that_is_no_list_is_never_an_empty_one(body: object) -> None:
    with pytest.raises(ContractError, match="not a job list") as caught:
        decode(body)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.url == f"https://octopus.test{LIST_PATH}"


def test_a_web_page_in_place_of_an_answer_is_called_one() -> None:
    with pytest.raises(ContractError, match="HTML, perhaps of a proxy"):
        decode(b"\n<!doctype html><title>Sign in</title>")


def test_an_error_that_comes_as_200_is_shown() -> None:
    with pytest.raises(ContractError, match="try later") as caught:
        decode({"error_code": "octopus.400102", "error_msg": "try later"})
    assert caught.value.code == "octopus.400102"


@pytest.mark.parametrize("status", [201, 202, 204, 206])
def test_another_success_than_200_is_no_page(status: int) -> None:
    with pytest.raises(ContractError):
        decode(page(row()), status)


# A busy machine makes hypothesis think that the data is what is slow.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
field_names = st.sampled_from([*row(), *OPTIONAL, "unknown"])


@unhurried
@given(st.dictionaries(field_names, json_values))
def test_a_row_is_read_whole_or_refused_with_a_contract_error(fields: dict[str, Any]) -> None:
    body = page({**row(), **fields})
    try:
        (job,) = decode(body).jobs
    except ContractError:
        return
    raw = body["payload"]["list"][0]
    assert (job.id, job.job_type, job.status) == (raw["id"], raw["job_type"], raw["status"])
    assert job.created_ms == raw["create_at"]


@unhurried
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    with pytest.raises(ContractError):
        decode(body)


@pytest.mark.parametrize(
    ("server_ms", "sent", "received", "skew"),
    [
        (100_000, 100.2, 100.4, 0.0),
        (100_000, 100.9, 101.1, 0.0),
        (100_000, 99.0, 100.0, 0.0),
        (100_000, 101.5, 102.5, -1.5),
        (100_000, 90.0, 92.0, 9.5),
        (100_000, 200.0, 200.0, -99.5),
    ],
)
def test_the_skew_is_0_while_the_clocks_may_agree(
    server_ms: int, sent: float, received: float, skew: float
) -> None:
    assert clock_skew(server_ms, sent, received) == pytest.approx(skew)
