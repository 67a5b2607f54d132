from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

from exporter.errors import ConfigError, StartError
from exporter.simulator import DEMO_PROJECT, Quirks, SimulatorSettings, create_app, serve
from tests.simulated import START_MS
from tests.simulator_api import KNOWN, LIST, TOKEN_REQUEST, Api, opened

SAMPLES = Path(__file__).parent / "samples"


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with opened() as one:
        yield one


def keys_of(row: dict[str, Any]) -> list[str]:
    return [name for name in row if name not in {"workspace_id", "msg_code", "msg_error"}]


async def test_a_page_is_written_as_in_the_official_example(api: Api) -> None:
    page = await api.page("statuses=FINISHED&limit=1")
    example = json.loads((SAMPLES / "200-official-example.json").read_text())
    row, expected = page["payload"]["list"][0], example["payload"]["list"][0]
    assert page.keys() == example.keys()
    assert keys_of(row) == list(expected)
    assert {name: type(row[name]) for name in expected} == {name: type(expected[name]) for name in expected}
    assert page["meta_info"] == {"current_time": "2025-06-15T15:06:40Z"}
    assert page["payload"]["page_info"].keys() == example["payload"]["page_info"].keys()


async def test_what_does_not_apply_is_left_out(api: Api) -> None:
    await api.order("/simulator/jobs", {"job_type": "PACKAGE_IMPORT", "outcome": "QUEUING"})
    row = (await api.page("limit=1"))["payload"]["list"][0]
    assert list(row) == [
        *("id", "job_type", "data_id", "status", "create_at", "update_at"),
        *("project_id", "resource_spec", "workspace_id"),
    ]


async def test_paging_newest_first_covers_every_job_once(api: Api) -> None:
    ids = [n for offset in range(0, 300, 70) for n in await api.ids(f"limit=70&offset={offset}")]
    assert ids == list(range(300, 0, -1))


async def test_the_default_page_has_ten_rows_and_counts_all(api: Api) -> None:
    payload = (await api.page())["payload"]
    assert len(payload["list"]) == 10
    assert payload["page_info"] == {"offset": 0, "limit": 10, "total": 300}


async def test_only_the_default_workspace_is_listed_unless_another_is_named() -> None:
    async with opened(workspaces=("0", "7")) as api:
        unnamed, default, seven, none = [
            (await api.page(query))["payload"]["page_info"]["total"]
            for query in ("", "workspace_id=0", "workspace_id=7", "workspace_id=8")
        ]
    assert unnamed == default > 0
    assert (default + seven, none) == (300, 0)


async def test_a_refused_parameter_is_named_as_in_the_sample(api: Api) -> None:
    response = await api.get(f"{LIST}?limit=201")
    body = await response.json()
    assert response.status == 400
    assert body.keys() == json.loads((SAMPLES / "400-octopus-parameter.json").read_text()).keys()
    assert (body["error_code"], body["error_msg"]) == ("000003", "Request params [limit:201] is invalid.")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1.0/other/data/system-jobs", "octopus.400004"),
        (f"/v1.0/{DEMO_PROJECT}/data/system-job", "APIGW.0101"),
        ("/nowhere", "APIGW.0101"),
    ],
)
async def test_an_unknown_project_or_path_is_not_found(api: Api, path: str, code: str) -> None:
    response = await api.get(path)
    assert (response.status, (await response.json())["error_code"]) == (404, code)
    assert len(response.headers["X-Request-Id"]) == 32


async def test_the_list_is_only_read(api: Api) -> None:
    async with api.session.post(api.url + LIST) as response:
        assert (response.status, (await response.json())["error_code"]) == (405, "octopus.400005")


async def test_a_wrong_token_is_refused_and_every_answer_has_its_own_request_id(api: Api) -> None:
    refused, good = await api.get(**{"X-Auth-Token": "wrong"}), await api.get()
    assert refused.status == 401
    assert await refused.json() == json.loads((SAMPLES / "401-octopus-token-invalid.json").read_text())
    assert refused.headers["X-Request-Id"] != good.headers["X-Request-Id"]


async def test_the_request_id_in_the_body_is_the_one_in_the_header(api: Api) -> None:
    refused = await api.get(**{"X-Other": "x"})
    assert (await refused.json())["request_id"] == refused.headers["X-Request-Id"]


async def test_a_token_expires() -> None:
    async with opened(token_ttl_seconds=0) as api:
        response = await api.get()
        assert (response.status, (await response.json())["error_code"]) == (401, "APIGW.0307")


async def test_the_official_sdks_signature_is_accepted(api: Api) -> None:
    query = [("limit", 5), ("statuses", ["FINISHED", "STOPPED"]), ("data_id", "DPK 1/\u4f5c~")]
    host = api.url.removeprefix("http://")
    request = SdkRequest(
        method="GET",
        schema="http",
        host=host,
        resource_path=LIST,
        query_params=query,
        header_params={"X-Project-Id": DEMO_PROJECT},
        body="",
    )
    signed = Signer(BasicCredentials(KNOWN.access_key, KNOWN.secret_key)).sign(request)
    response = await api.get(signed.uri, **{k: v for k, v in signed.header_params.items() if k != "Host"})
    assert response.status == 200, await response.text()


async def test_the_account_adds_up_what_was_injected(api: Api) -> None:
    spike = {"job_type": "FRAME_EXTRACT", "count": 50, "outcome": "RUN_FAILED", "msg_code": 9}
    ids = (await api.order("/simulator/jobs", spike | {"msg_error": "x"}))["ids"]
    assert len(ids) == 50
    now_ms = (await api.order("/simulator/clock", {"advance_seconds": 90}))["now_ms"]
    assert now_ms == START_MS + 90_000
    account = await api.read(f"/simulator/account?since_ms={START_MS}&until_ms={now_ms + 1}")
    target = account["targets"][0]
    assert (account["now_ms"], target["project"], target["workspace"]) == (now_ms, DEMO_PROJECT, "0")
    assert target["failures"]["FRAME_EXTRACT"]["RUN_FAILED"]["9"] == 50
    assert target["ended"]["FRAME_EXTRACT"]["RUN_FAILED"] >= 50
    assert (await api.page(f"id={ids[-1]}"))["payload"]["list"][0]["msg_error"] == "x"


@pytest.mark.parametrize(
    ("order", "specs"),
    [
        ({"resource_spec": "V100_2Gpu_0.5Core_1.25GiB"}, ["V100_2Gpu_0.5Core_1.25GiB"] * 3),
        ({"resource_spec": "2Corex_4GiB"}, ["2Corex_4GiB"] * 3),
        ({"resource_spec": ""}, [None] * 3),
        (
            {"resource_spec": "{n}Core_4GiB", "numbered": "resource_spec"},
            ["1Core_4GiB", "2Core_4GiB", "3Core_4GiB"],
        ),
    ],
)
async def test_a_job_asks_for_what_the_order_names(
    api: Api, order: dict[str, str], specs: list[str | None]
) -> None:
    await api.order("/simulator/jobs", {"job_type": "ODD", "count": 3, "outcome": "QUEUING", **order})
    assert [row.get("resource_spec") for row in await api.rows("limit=3")] == specs[::-1]
    target = (await api.read("/simulator/account"))["targets"][0]
    in_flight = target["spec_in_flight"]
    assert {spec or "": in_flight[spec or ""]["QUEUING"] for spec in specs} | in_flight == in_flight


async def test_the_account_knows_what_the_ordered_runs_have_used(api: Api) -> None:
    order = {
        "job_type": "ODD",
        "count": 7,
        "outcome": "FINISHED",
        "resource_spec": "V100_2Gpu_0.5Core_1.25GiB",
    }
    await api.order("/simulator/jobs", order)
    unreadable = {"job_type": "ODDER", "count": 7, "outcome": "FINISHED", "resource_spec": "2Corex_4GiB"}
    await api.order("/simulator/jobs", unreadable)
    await api.order("/simulator/clock", {"advance_seconds": 600})
    target = (await api.read(f"/simulator/account?since_ms={START_MS}"))["targets"][0]
    ran_ms = target["running_ms"]["ODD"]["FINISHED"]
    used = {name: target[name]["ODD"]["FINISHED"] for name in ("core_us", "gpu_us", "memory_gib_us")}
    assert used == {"core_us": 500 * ran_ms, "gpu_us": 2000 * ran_ms, "memory_gib_us": 1250 * ran_ms}
    assert target["core_us"]["ODDER"] == {"FINISHED": 0}
    assert target["spec_started"]["2Corex_4GiB"] == 7


async def test_time_stands_still_or_runs_as_told(api: Api) -> None:
    first, second = await api.page("limit=1"), await api.page("limit=1")
    assert first == second
    await api.order("/simulator/clock", {"speed": 3600})
    before = (await api.read("/simulator/account"))["now_ms"]
    assert (await api.read("/simulator/account"))["now_ms"] > before > START_MS
    frozen = await api.order("/simulator/clock", {"speed": 0})
    assert (await api.read("/simulator/account"))["now_ms"] == frozen["now_ms"]


async def test_requests_are_counted_by_kind_and_status(api: Api) -> None:
    await api.page()
    await api.get(**{"X-Auth-Token": "wrong"})
    assert await api.read("/simulator/requests") == {
        "list": 2,
        "token": 1,
        "answers": {"list": {"200": 1, "401": 1}, "token": {"201": 1}},
    }


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("clock", {"speed": -1}, "speed: -1.0: expected a number of 0 or more"),
        ("clock", {"advance_seconds": -1}, "advance_seconds: -1.0: expected a number of 0 or more"),
        ("clock", {"tempo": 2}, "unknown field `tempo`"),
        ("faults", {"faults": "gremlins"}, "'gremlins' is unknown: expected any of throttle, errors"),
        ("quirks", {"shift": "sideways"}, "Invalid enum value 'sideways'"),
        ("quirks", {"repeat_rows": -1}, "quirks.repeat_rows: -1: expected a number of 0 or more"),
        ("jobs", {"job_type": "lower case"}, "job_type"),
        ("jobs", {"job_type": "X", "count": 0}, "count"),
        ("jobs", {"job_type": "X", "workspace": "9"}, "workspace: '9': not one of"),
        ("jobs", {"job_type": "X", "outcome": "FINISHED", "msg_code": 5}, "only with an outcome that failed"),
        ("jobs", {"job_type": "X", "resource_spec": "a", "numbered": "resource_spec"}, "that has {n} in it"),
    ],
)
async def test_an_order_that_cannot_be_followed_is_refused_in_one_line(
    api: Api, path: str, body: object, expected: str
) -> None:
    async with api.session.post(f"{api.url}/simulator/{path}", json=body) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert expected in error
    assert "\n" not in error


async def test_the_account_refuses_a_time_that_is_none(api: Api) -> None:
    response = await api.get("/simulator/account?since_ms=yesterday")
    assert (response.status, (await response.json())["error"]) == (
        400,
        "since_ms: 'yesterday': expected a whole number of milliseconds",
    )


async def test_the_front_page_says_what_this_is(api: Api) -> None:
    text = await (await api.get("/")).text()
    assert LIST.replace(DEMO_PROJECT, "{project_id}") in text
    assert DEMO_PROJECT in text


async def test_a_limit_may_be_clamped_silently_and_the_total_left_out() -> None:
    async with opened(quirks=Quirks(clamp_limit=100, omit_total=True)) as api:
        payload = (await api.page("limit=200"))["payload"]
    assert len(payload["list"]) == 100
    assert payload["page_info"] == {"offset": 0, "limit": 200}


async def test_absent_fields_may_be_null_and_unknown_ones_come() -> None:
    async with opened(quirks=Quirks(null_absent=True, extra_fields=True, omit_workspace_id=True)) as api:
        await api.order("/simulator/jobs", {"job_type": "PACKAGE_IMPORT", "outcome": "QUEUING"})
        row = (await api.page("limit=1"))["payload"]["list"][0]
    absent = {name for name, value in row.items() if value is None}
    assert absent == {
        *("start_at", "end_at", "submitting_duration", "running_duration", "msg_code", "msg_error")
    }
    assert "extra_info" in row
    assert "workspace_id" not in row


async def test_durations_may_grow_while_they_run() -> None:
    async with opened(quirks=Quirks(growing_durations=True), jobs=0, jobs_per_day=0) as api:
        for status in ("QUEUING", "RUNNING"):
            await api.order("/simulator/jobs", {"job_type": "PACKAGE_IMPORT", "outcome": status})
        await api.order("/simulator/clock", {"advance_seconds": 3600})
        running, queuing = (await api.page())["payload"]["list"]
    assert queuing["submitting_duration"] == 3_600_000
    assert running["running_duration"] == START_MS + 3_600_000 - running["start_at"]


async def test_rows_may_be_repeated_across_pages() -> None:
    async with opened(quirks=Quirks(repeat_rows=3)) as api:
        first, second = await api.ids("limit=10"), await api.ids("limit=10&offset=10")
    assert first == list(range(300, 290, -1))
    assert second == list(range(293, 280, -1))


@pytest.mark.parametrize(
    ("shift", "totals"), [("insert", [300, 301, 302]), ("delete", [300, 299, 298]), ("both", [300, 301, 300])]
)
async def test_rows_may_shift_between_pages(shift: str, totals: list[int]) -> None:
    async with opened(jobs_per_day=60) as api:
        await api.order("/simulator/quirks", {"shift": shift})
        seen = [(await api.page("limit=50"))["payload"]["page_info"]["total"] for _ in totals]
    assert seen == totals


async def test_neither_a_last_page_nor_a_count_shifts_rows() -> None:
    async with opened(quirks=Quirks(shift="insert")) as api:
        for query in ("limit=1", "limit=200&offset=150", "limit=1"):
            assert (await api.page(query))["payload"]["page_info"]["total"] == 300


async def test_rows_shift_only_so_often() -> None:
    async with opened(quirks=Quirks(shift="insert", shift_every=3)) as api:
        totals = [(await api.page("limit=50"))["payload"]["page_info"]["total"] for _ in range(5)]
    assert totals == [300, 300, 300, 301, 301]


async def test_by_update_a_row_that_changed_comes_first() -> None:
    async with opened(order="update-desc", jobs=50) as api:
        for _ in range(5):
            await api.order("/simulator/clock", {"advance_seconds": 3600})
            rows = (await api.page("limit=200"))["payload"]["list"]
            updates = [row["update_at"] for row in rows]
            assert updates == sorted(updates, reverse=True)


async def test_throttling_and_errors_befall_the_list(api: Api) -> None:
    await api.order("/simulator/faults", {"faults": "throttle=1"})
    throttled = await api.get()
    assert (throttled.status, (await throttled.json())["error_code"]) == (429, "APIGW.0308")
    await api.order("/simulator/faults", {"faults": "errors=1"})
    assert (await api.get()).status in {500, 502, 503, 504}
    await api.order("/simulator/faults", {"faults": ""})
    assert (await api.get()).status == 200


async def test_errors_befall_iam_too() -> None:
    async with opened(faults="errors=1") as api:
        assert (await api.read("/simulator/requests"))["answers"]["token"] == {"503": 1}


async def test_a_token_may_expire_on_the_way_and_a_new_one_opens_again() -> None:
    async with opened(faults="expiry=1") as api:
        over = await api.get()
        await api.order("/simulator/faults", {"faults": ""})
        still_over = await api.get()
        async with api.session.post(api.url + "/v3/auth/tokens", json=TOKEN_REQUEST) as renewed:
            again = await api.get(**{"X-Auth-Token": renewed.headers["X-Subject-Token"]})
    assert (over.status, still_over.status, again.status) == (401, 401, 200)
    assert (await over.json())["error_code"] == "APIGW.0307"


async def test_broken_answers_reach_the_client_broken(api: Api) -> None:
    await api.order("/simulator/faults", {"faults": "broken=1"})
    kinds = {await kind_of_break(api) for _ in range(60)}
    assert kinds == {"cut", "html", "no JSON", "no payload"}


async def kind_of_break(api: Api) -> str:
    try:
        response = await api.get()
    except (ClientPayloadError, ClientConnectionError):
        return "cut"
    if response.content_type == "text/html":
        return "html"
    try:
        return "fine" if "payload" in json.loads(await response.read()) else "no payload"
    except json.JSONDecodeError:
        return "no JSON"


async def test_latency_and_slow_answers_keep_the_answer_back() -> None:
    async with opened(quirks=Quirks(latency_seconds=0.05), faults="slow=1", slow_seconds=0.1) as api:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await api.get()
        assert loop.time() - began >= 0.1


async def test_what_is_kept_back_does_not_hold_up_the_end() -> None:
    quirks = Quirks(latency_seconds=60)
    running = await serve(SimulatorSettings(jobs=1, quirks=quirks))
    async with ClientSession() as session:
        api = Api(running.url, session, token="none")
        waiting = asyncio.create_task(api.get())
        while not (await api.read("/simulator/requests"))["list"]:
            await asyncio.sleep(0)
        await asyncio.wait_for(running.close(), 40)
        assert (await waiting).status == 401


async def test_a_taken_port_is_said_in_one_line() -> None:
    running = await serve(SimulatorSettings(jobs=1))
    try:
        with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{running.port}: "):
            await serve(SimulatorSettings(jobs=1), port=running.port)
    finally:
        await running.close()


def test_unknown_faults_are_refused_before_anything_is_built() -> None:
    with pytest.raises(ConfigError, match="'gremlins' is unknown: expected any of throttle, errors, expiry"):
        create_app(SimulatorSettings(jobs=10_000_000, faults="gremlins"))
