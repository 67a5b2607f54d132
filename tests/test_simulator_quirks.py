"""What the simulator's server does differently, seen over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest

from exporter.errors import ConfigError
from exporter.simulator import OddRow, Quirks, parse_quirks
from exporter.simulator.oddities import SPOILS, Oddity
from exporter.simulator.responses import DEFAULT_PROBABILITIES
from tests.simulated import START_MS
from tests.simulator_api import LIST, TOKEN_REQUEST, Api, opened
from tests.test_layers import PACKAGE

ID = 50
DOCS = (PACKAGE.parent / "docs" / "simulator.md").read_text(encoding="utf-8")


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with opened(jobs=100) as one:
        yield one


async def body_of(api: Api, query: str = "limit=200", **quirks: object) -> bytes:
    await api.order("/simulator/quirks", quirks)
    return await (await api.get(f"{LIST}?{query}")).read()


async def odd_row(api: Api, what: str, **order: object) -> Any:
    """Give the one row that is odd, as it stands among a hundred."""
    clean = {row["id"] for row in await api.rows()}
    await api.order("/simulator/quirks", {"odd_rows": [{"what": what, "ids": [ID], **order}]})
    rows = await api.rows()
    assert len(rows) == len(clean) == 100
    return rows[100 - ID]


def test_every_oddity_is_made_and_explained() -> None:
    assert set(SPOILS) == set(get_args(Oddity))
    assert [name for name in SPOILS if f"`{name}`" not in DOCS] == []


def test_every_quirk_and_fault_is_explained() -> None:
    names = [*Quirks.__struct_fields__, *OddRow.__struct_fields__, *DEFAULT_PROBABILITIES]
    assert [name for name in names if f"| `{name}` |" not in DOCS] == []


def test_quirks_that_cannot_be_are_refused_all_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        Quirks(clamp_limit=0, total_cap=-1, index_lag_seconds=31, clock_ahead_seconds=1e11)
    assert raised.value.problems == [
        "quirks.clamp_limit: 0: expected a number of 1 or more",
        "quirks.total_cap: -1: expected a number of 0 or more",
        "quirks.clock_ahead_seconds: 100000000000.0: expected a number from -1e+10 to 1e+10",
        "quirks.index_lag_seconds: 31: expected a number of 0 to 30",
    ]


@pytest.mark.parametrize("text", ["{", '{"gremlins": 1}', '{"odd_rows": [{"what": "blue"}]}'])
def test_quirks_on_the_command_line_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^quirks: .*$"):
        parse_quirks(text)


def test_quirks_on_the_command_line_are_those_of_the_endpoint() -> None:
    text = '{"clamp_limit": 100, "odd_rows": [{"what": "null-row", "ids": [3]}]}'
    assert parse_quirks(text) == Quirks(clamp_limit=100, odd_rows=(OddRow(what="null-row", ids=(3,)),))


@pytest.mark.parametrize(
    ("what", "written"),
    [
        ("text-surrogate", b'"msg_error":"disk full \\ud83d"'),
        ("text-cut", b'"msg_error":"disk full \xe7\xa3"'),
        ("text-control", b'"msg_error":"disk\n\tfull\x00\x1b[31m"'),
        ("nan", b'"score":NaN,"cost":-Infinity'),
        ("id-huge", b'"id":36893488147419103232'),
        ("numbers-float", b'"id":50.0,'),
        ("numbers-text", b'"id":"50",'),
        ("times-fraction", b'.25,"update_at"'),
        ("text-long", b"disk full " * 10_000),
        ("label-long", b'"1Core_444'),
        ("text-object", b'"msg_error":{"reason":"disk full"}'),
    ],
)
async def test_a_row_is_written_as_no_decoder_likes_it(api: Api, what: str, written: bytes) -> None:
    clean, spoilt = await body_of(api), await body_of(api, odd_rows=[{"what": what, "ids": [ID]}])
    assert spoilt.count(written) == 1
    assert clean.count(written) == 0


@pytest.mark.parametrize(
    ("what", "field", "value"),
    [
        ("id-text", "id", "job-one"),
        ("id-null", "id", None),
        ("type-null", "job_type", None),
        ("status-null", "status", None),
        ("status-number", "status", 3),
        ("created-text", "create_at", "yesterday"),
        ("year-10000", "create_at", 253_402_300_800_000),
        ("negative-start", "start_at", -1),
        ("negative-end", "end_at", -1),
        ("zero-end", "end_at", 0),
        ("code-fraction", "msg_code", 1.5),
        ("update-null", "update_at", None),
        ("spec-null", "resource_spec", None),
        ("spec-unreadable", "resource_spec", "2Corex_4GiB"),
        ("spec-many", "resource_spec", "1Core_50GiB"),
        ("text-chinese", "msg_error", "磁盘已满，无法写入数据"),  # noqa: RUF001 - what such a server writes
    ],
)
async def test_a_field_has_an_odd_value(api: Api, what: str, field: str, value: object) -> None:
    assert (await odd_row(api, what))[field] == value


@pytest.mark.parametrize(
    ("what", "fields"),
    [
        ("no-id", ["id"]),
        ("no-type", ["job_type"]),
        ("no-status", ["status"]),
        ("no-created", ["create_at"]),
        ("no-end", ["end_at", "running_duration"]),
        ("no-durations", ["submitting_duration", "running_duration"]),
        ("update-missing", ["update_at"]),
        ("spec-missing", ["resource_spec"]),
    ],
)
async def test_a_field_is_missing(api: Api, what: str, fields: list[str]) -> None:
    clean = (await api.rows())[100 - ID]
    row = await odd_row(api, what)
    assert row == {name: value for name, value in clean.items() if name not in fields}


async def test_what_a_job_asks_for_may_change_while_it_is_in_flight(api: Api) -> None:
    order = {"job_type": "FRAME_EXTRACT", "count": 1, "outcome": "FINISHED"}
    [job_id] = (await api.order("/simulator/jobs", order))["ids"]
    await api.order("/simulator/quirks", {"odd_rows": [{"what": "spec-changes", "every": 1}]})
    seen: dict[str, set[str]] = {}
    for _ in range(60):
        [row] = await api.rows(f"id={job_id}")
        seen.setdefault(row["status"], set()).add(row["resource_spec"])
        await api.order("/simulator/clock", {"advance_seconds": 1})
    assert seen["QUEUING"] == {"2Core_4GiB"}
    assert seen["LAUNCHING"] == {"P100_1Gpu_2.1Core_4.1GiB"}
    assert seen["RUNNING"] == seen["FINISHED"]


@pytest.mark.parametrize(("what", "row"), [("null-row", None), ("text-row", "deleted")])
async def test_a_row_is_no_object(api: Api, what: str, row: object) -> None:
    assert await odd_row(api, what) == row


@pytest.mark.parametrize(("what", "value"), [("none-zero", 0), ("none-empty", ""), ("none-minus-one", -1)])
async def test_what_does_not_apply_is_a_value_that_stands_for_none(
    api: Api, what: str, value: object
) -> None:
    await api.order("/simulator/jobs", {"job_type": "PACKAGE_IMPORT", "outcome": "QUEUING"})
    await api.order("/simulator/quirks", {"odd_rows": [{"what": what}]})
    (row,) = await api.rows("statuses=QUEUING&limit=1")
    names = ("start_at", "end_at", "submitting_duration", "running_duration")
    assert {name: row[name] for name in names} == dict.fromkeys(names, value)
    assert row["create_at"] == START_MS


async def test_a_start_of_zero_stands_only_where_there_is_none(api: Api) -> None:
    await api.order("/simulator/jobs", {"job_type": "PACKAGE_IMPORT", "outcome": "QUEUING"})
    await api.order("/simulator/quirks", {"odd_rows": [{"what": "zero-start"}]})
    assert (await api.rows("statuses=QUEUING&limit=1"))[0]["start_at"] == 0
    assert all(row["start_at"] > 0 for row in await api.rows("statuses=FINISHED"))


async def test_times_are_in_seconds_or_ahead(api: Api) -> None:
    clean = (await api.rows())[100 - ID]
    assert (await odd_row(api, "seconds"))["create_at"] == clean["create_at"] // 1000
    ahead = await odd_row(api, "stamped-ahead", seconds=90)
    times = ("create_at", "update_at", "end_at")
    assert [ahead[name] - clean[name] for name in times] == [90_000] * 3


async def test_an_end_before_the_start_has_no_duration(api: Api) -> None:
    await api.order("/simulator/quirks", {"odd_rows": [{"what": "end-before-start"}]})
    rows = await api.rows("statuses=FINISHED&limit=200")
    assert all(row["end_at"] == row["start_at"] - 1000 for row in rows)
    assert not any("running_duration" in row for row in rows)


async def test_update_times_jitter_or_stand_still(api: Api) -> None:
    clean = (await api.rows())[100 - ID]["update_at"]
    seen = {(await odd_row(api, "update-jitter", seconds=5))["update_at"] for _ in range(20)}
    assert len(seen) > 10
    assert all(abs(one - clean) <= 5000 for one in seen)
    row = await odd_row(api, "update-constant")
    assert row["update_at"] == row["create_at"]


async def test_rows_are_chosen_by_number_and_status_and_the_account_names_them(api: Api) -> None:
    await api.order(
        "/simulator/quirks", {"odd_rows": [{"what": "no-type", "every": 3, "statuses": ["FINISHED"]}]}
    )
    rows = await api.rows()
    chosen = {row["id"] for row in rows if "job_type" not in row}
    assert chosen == {row["id"] for row in rows if row["id"] % 3 == 0 and row["status"] == "FINISHED"}
    target = (await api.read("/simulator/account"))["targets"][0]
    assert {row["id"] for row in target["odd"]} == chosen
    assert {(row["status"], *row["what"]) for row in target["odd"]} == {("FINISHED", "no-type")}
    assert sum(sum(by.values()) for by in target["listed"].values()) == 100


@pytest.mark.parametrize(
    ("quirks", "totals"),
    [
        ({"total_cap": 40}, (40, 40)),
        ({"total_of_page": True}, (30, 0)),
        ({"total_surplus": 1}, (101, 101)),
        ({"total_surplus": -7}, (93, 93)),
        ({"total_fixed": -1}, (-1, -1)),
        ({"total_form": "string"}, ("100", "100")),
        ({"total_form": "null"}, (None, None)),
        ({"total_surplus": 1, "total_cap": 40}, (40, 40)),
    ],
)
async def test_totals_differ(api: Api, quirks: dict[str, object], totals: tuple[object, object]) -> None:
    await api.order("/simulator/quirks", quirks)
    assert (await api.info("limit=30"))["total"] == totals[0]
    assert (await api.info("limit=30&offset=100"))["total"] == totals[1]


async def test_a_total_may_be_a_float(api: Api) -> None:
    assert b'"total":100.0' in await body_of(api, total_form="float")


async def test_hidden_jobs_are_counted_and_not_listed(api: Api) -> None:
    await api.order("/simulator/quirks", {"hidden_ids": [10, 99, 4000]})
    ids = [job_id for offset in (0, 60) for job_id in await api.ids(f"limit=60&offset={offset}")]
    assert ids == [job_id for job_id in range(100, 0, -1) if job_id not in (10, 99)]
    assert (await api.info())["total"] == 100
    odd = (await api.read("/simulator/account"))["targets"][0]["odd"]
    assert [(row["id"], row["what"]) for row in odd] == [(10, ["hidden"]), (99, ["hidden"])]
    await api.order("/simulator/quirks", {})
    assert await api.ids("limit=200") == list(range(100, 0, -1))


@pytest.mark.parametrize(("form", "expected"), [("null", {"list": None}), ("missing", {})])
async def test_an_empty_list_may_be_null_or_missing(api: Api, form: str, expected: dict[str, None]) -> None:
    async def payload(query: str) -> dict[str, Any]:
        found: dict[str, Any] = (await api.page(query))["payload"]
        assert found.pop("page_info")["limit"] == 10
        return found

    await api.order("/simulator/quirks", {"empty_list": form})
    assert await payload("workspace_id=8") == expected
    assert await payload("offset=100") == {"list": []}
    assert len((await payload(""))["list"]) == 10
    await api.order("/simulator/quirks", {"empty_list": form, "empty_list_anywhere": True})
    assert await payload("offset=100") == expected


async def test_an_empty_list_may_be_no_content(api: Api) -> None:
    await api.order("/simulator/quirks", {"empty_list": "no-content"})
    assert (await api.get(f"{LIST}?workspace_id=8")).status == 204


async def test_a_limit_above_the_maximum_is_refused(api: Api) -> None:
    await api.order("/simulator/quirks", {"max_limit": 100})
    refused, good = await api.get(f"{LIST}?limit=101"), await api.get(f"{LIST}?limit=100")
    assert (refused.status, good.status) == (400, 200)
    assert (await refused.json())["error_msg"] == "Request params [limit:101] is invalid."


@pytest.mark.parametrize(
    ("quirks", "time"),
    [
        ({"clock_ahead_seconds": 28_800}, "2025-06-15T23:06:40Z"),
        ({"clock_ahead_seconds": -60}, "2025-06-15T15:05:40Z"),
        ({"clock_text": "9999-12-31T23:59:59Z"}, "9999-12-31T23:59:59Z"),
    ],
)
async def test_the_server_tells_another_time(api: Api, quirks: dict[str, object], time: str) -> None:
    await api.order("/simulator/quirks", quirks)
    assert (await api.page())["meta_info"] == {"current_time": time}


async def test_the_servers_clock_jumps_between_answers(api: Api) -> None:
    await api.order("/simulator/quirks", {"clock_jumps_seconds": [0, 60]})
    seen = {(await api.page("limit=1"))["meta_info"]["current_time"] for _ in range(30)}
    assert seen == {"2025-06-15T15:06:40Z", "2025-06-15T15:07:40Z"}


async def test_ids_are_large_or_begin_at_zero(api: Api) -> None:
    await api.order("/simulator/quirks", {"id_offset": 2**53})
    assert await api.ids("limit=2") == [2**53 + 100, 2**53 + 99]
    assert await api.ids(f"id={2**53 + 7}") == [2**53 + 7]
    order = {"job_type": "PACKAGE_IMPORT", "outcome": "QUEUING"}
    assert (await api.order("/simulator/jobs", order))["ids"] == [2**53 + 101]
    await api.order("/simulator/quirks", {"id_offset": -1})
    assert (await api.ids("limit=200"))[-1] == 0
    assert await api.ids("id=0") == [0]


@pytest.mark.parametrize("charset", ["gbk", "gb18030", "utf-16"])
async def test_the_answer_is_in_another_charset_and_says_so(api: Api, charset: str) -> None:
    await api.order("/simulator/quirks", {"charset": charset, "odd_rows": [{"what": "text-chinese"}]})
    response = await api.get(f"{LIST}?limit=1")
    assert response.charset == charset
    row = json.loads((await response.read()).decode(charset))["payload"]["list"][0]
    assert row["msg_error"].startswith("磁盘")


async def test_the_answer_begins_with_a_byte_order_mark(api: Api) -> None:
    assert (await body_of(api, bom=True)).startswith(b'\xef\xbb\xbf{"meta_info"')


async def test_rows_are_padded(api: Api) -> None:
    assert len(await body_of(api, "limit=10", row_padding_bytes=10_000)) > 100_000


async def test_iam_tells_another_time_of_expiry_and_the_token_works() -> None:
    absurd = "0001-01-01T00:00:00.000000Z"
    async with opened(quirks=Quirks(token_expires_at=absurd)) as api:
        async with api.session.post(api.url + "/v3/auth/tokens", json=TOKEN_REQUEST) as got:
            assert (await got.json())["token"]["expires_at"] == absurd
        assert (await api.get()).status == 200


async def test_a_revoked_token_is_refused_until_a_new_one_is_taken() -> None:
    async with opened(faults="revoke=1") as api:
        refused = await api.get()
        await api.order("/simulator/faults", {"faults": ""})
        still = await api.get()
        async with api.session.post(api.url + "/v3/auth/tokens", json=TOKEN_REQUEST) as renewed:
            again = await api.get(**{"X-Auth-Token": renewed.headers["X-Subject-Token"]})
    assert (refused.status, still.status, again.status) == (403, 403, 200)
    assert (await refused.json())["error_code"] == "APIGW.0302"


async def test_a_good_answer_is_blank(api: Api) -> None:
    await api.order("/simulator/faults", {"faults": "blank=1"})
    assert (await api.page())["payload"] == {"list": [], "page_info": {"offset": 0, "limit": 10, "total": 0}}


async def test_an_unknown_status_ends_a_run_where_it_is_told_to(api: Api) -> None:
    order = {"job_type": "PACKAGE_IMPORT", "outcome": "ARCHIVED", "count": 2}
    ended = (await api.order("/simulator/jobs", order | {"ends": True}))["ids"]
    stays = (await api.order("/simulator/jobs", order))["ids"]
    await api.order("/simulator/clock", {"advance_seconds": 300})
    rows = {row["id"]: row for row in await api.rows("statuses=ARCHIVED")}
    assert rows.keys() == {*ended, *stays}
    assert {job_id for job_id, row in rows.items() if "end_at" in row} == set(ended)
    target = (await api.read(f"/simulator/account?since_ms={START_MS}"))["targets"][0]
    assert target["ended"]["PACKAGE_IMPORT"]["ARCHIVED"] == 2
    assert target["listed"]["PACKAGE_IMPORT"]["ARCHIVED"] == 4


async def test_types_and_statuses_are_invented_in_numbers(api: Api) -> None:
    order = {"job_type": "ODD", "outcome": "FINISHED", "count": 600}
    await api.order("/simulator/jobs", order | {"numbered": "job_type"})
    await api.order("/simulator/jobs", order | {"outcome": "LIMBO", "numbered": "outcome"})
    await api.order("/simulator/clock", {"advance_seconds": 300})
    listed = (await api.read("/simulator/account"))["targets"][0]["listed"]
    assert listed["ODD_600"] == {"FINISHED": 1}
    assert len([name for name in listed if name.startswith("ODD_")]) == 600
    assert len(listed["ODD"]) == 600
    assert len(await api.ids("job_types=ODD_7&statuses=FINISHED")) == 1


@pytest.mark.parametrize(
    ("order", "problem"),
    [
        ({"numbered": "outcome"}, "numbered: 'outcome': only with an outcome"),
        ({"ends": True, "outcome": "RUNNING"}, "ends: only with an outcome that is not in flight"),
    ],
)
async def test_jobs_that_cannot_be_are_refused(api: Api, order: dict[str, object], problem: str) -> None:
    assert await api.order("/simulator/jobs", {"job_type": "ODD", **order}) == {"error": problem}
