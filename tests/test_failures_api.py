"""`/api/v1/failures` over HTTP, from ledgers in files, in memory and in PostgreSQL."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import tracemalloc
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.config import ListenAddress
from exporter.ledger.ended import HOUR_MS, MOST_KEPT
from exporter.masking import Secrets
from exporter.model import Job
from exporter.web.failures import FailuresApi
from exporter.web.run_record import csv_text
from exporter.web.server import Server, bind_all
from tests.fake_api import a_job, a_target, poll_rules
from tests.ledger_scene import Scene
from tests.ledgers import back_end_of

Client = TestClient[web.Request, web.Application]
PLAIN = {"Accept-Encoding": "identity"}
NOW_MS = 1_800_000_000_000
OTHER = a_target(project="mapping", project_id="p2", workspace="7", workspace_id="7")
SECRET = "MIIQtoken-0123456789-abcdefghijklmnop"


@dataclass
class Stage:
    """A ledger with failed runs, and the page that serves them."""

    scene: Scene
    targets: list[Any] = field(default_factory=lambda: [a_target(), OTHER])
    patience_seconds: float = 30.0
    masked: Callable[[str], str] = Secrets.of(SECRET).masked

    def app(self) -> web.Application:
        failures = FailuresApi(
            self.scene.ledger,
            lambda: [target.key for target in self.targets],
            self.masked,
            lambda: self.scene.api.now_ms / 1000,
            patience_seconds=self.patience_seconds,
        )
        app = web.Application()
        app.router.add_get("/api/v1/failures", failures.answer)
        return app

    async def fail(self, *jobs: Job, target: Any = None) -> None:
        """Let these runs be seen to have ended."""
        self.scene.api.jobs.clear()
        self.scene.api.put(*jobs)
        await self.scene.poll(target, poll_rules(page_size=200))


def failed(job_id: int, ago_ms: int = 0, **fields: object) -> Job:
    """A run that failed so long before NOW_MS."""
    at = NOW_MS - ago_ms
    given = {"created_ms": at - 30_000, "started_ms": at - 20_000, "ended_ms": at, "updated_ms": at}
    texts = {"msg_code": "3001", "msg_error": "bad data", "data_id": "DPK1", "resource_spec": "1Core_4GiB"}
    return a_job(job_id, **{"status": "RUN_FAILED", **given, **texts, **fields})


@pytest.fixture(params=["sqlite", "memory", "postgresql"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    with back_end_of(request, tmp_path) as back_end:
        scene = Scene(back_end)
        scene.ledger = await back_end.open(in_memory=request.param == "memory")
        scene.api.now_ms = NOW_MS - HOUR_MS * 20
        for target in (a_target(), OTHER):
            await scene.poll(target)
        scene.api.now_ms = NOW_MS
        yield Stage(scene)
        await scene.ledger.close()


@pytest.fixture
async def client(stage: Stage, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(stage.app())


async def listed(client: Client, query: str = "") -> dict[str, Any]:
    answer = await client.get(f"/api/v1/failures{query}")
    text = await answer.text()
    assert answer.status == 200, text
    found: dict[str, Any] = json.loads(text)
    return found


async def ids(client: Client, query: str = "") -> list[str]:
    return [one["job_id"] for one in (await listed(client, query))["failures"]]


async def test_a_failed_run_as_json(stage: Stage, client: Client) -> None:
    await stage.fail(failed(2**53 + 1, 5_000))
    answer = await client.get("/api/v1/failures")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert json.loads(await answer.text()) == {
        "failures": [
            {
                "project": "perception",
                "workspace": "0",
                "job_id": "9007199254740993",
                "number": 1,
                "job_type": "FRAME_EXTRACT",
                "status": "RUN_FAILED",
                "msg_code": "3001",
                "msg_error": "bad data",
                "data_id": "DPK1",
                "resource_spec": "1Core_4GiB",
                "created": "2027-01-15T07:59:25.000Z",
                "created_ms": NOW_MS - 35_000,
                "started": "2027-01-15T07:59:35.000Z",
                "started_ms": NOW_MS - 25_000,
                "ended": "2027-01-15T07:59:55.000Z",
                "ended_ms": NOW_MS - 5_000,
                "at": "2027-01-15T07:59:55.000Z",
                "at_ms": NOW_MS - 5_000,
                "submitting_ms": 10_000,
                "running_ms": 20_000,
            }
        ],
        "next": None,
    }


async def test_nothing_failed_is_an_empty_list(client: Client) -> None:
    assert await listed(client) == {"failures": [], "next": None}
    answer = await client.get("/api/v1/failures?format=csv")
    assert (await answer.text()).count("\r\n") == 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["5", "4", "3", "2", "1"]),
        ("?project=mapping", ["5"]),
        ("?workspace=0", ["4", "3", "2", "1"]),
        ("?project=mapping&workspace=0", []),
        ("?project=nobody", []),
        ("?job_type=PACKAGE_IMPORT", ["3"]),
        ("?status=UPLOAD_FAILED", ["2"]),
        ("?msg_code=7", ["4"]),
        ("?msg_code=", ["1"]),
        ("?id=3", ["3"]),
        ("?since=50s", ["5", "4"]),
        ("?since=1m30s", ["5", "4", "3", "2"]),
        (f"?since={(NOW_MS - 50_000) // 1000}", ["5", "4"]),
        (f"?since={(NOW_MS - 49_500) / 1000}", ["5", "4"]),
        ("?since=2027-01-15T07:59:10Z", ["5", "4"]),
        ("?since=2027-01-15T15:59:10%2B08:00", ["5", "4"]),
        ("?since=2027-01-15T15:59:10+08:00", ["5", "4"]),
        ("?since=2027-01-15t07:59:10.5-00:00", ["5", "4"]),
        ("?since=1h&workspace=0&status=RUN_FAILED&limit=2", ["4", "3"]),
    ],
)
async def test_filters(stage: Stage, client: Client, query: str, expected: list[str]) -> None:
    await stage.fail(
        failed(1, 100_000, msg_code=""),
        failed(2, 70_000, status="UPLOAD_FAILED"),
        failed(3, 60_000, job_type="PACKAGE_IMPORT"),
        failed(4, 40_000, msg_code="7"),
    )
    await stage.fail(failed(5, 30_000), target=OTHER)
    stage.scene.api.now_ms = NOW_MS
    assert await ids(client, query) == expected


NEXT = "expected the `next` of an answer"
WHEN = "expected a duration such as 1h, a time such as 2026-07-01T03:00:00Z or Unix seconds"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (
            "colour=red",
            "'colour': not a parameter of this page, expected one of project, workspace, job_type,",
        ),
        ("limit=0", "limit: found '0', expected a number from 1 to 10000"),
        ("limit=10001", "limit: found '10001', expected a number from 1 to 10000"),
        ("limit=%2B5", "limit: found '+5', expected a number from 1 to 10000"),
        ("limit=%D9%A3", "limit: found '\u0663', expected a number from 1 to 10000"),
        ("since=yesterday", f"since: found 'yesterday', {WHEN}"),
        ("since=", f"since: found '', {WHEN}"),
        ("since=-5", f"since: found '-5', {WHEN}"),
        ("since=2027-13-15T07:59:10Z", f"since: found '2027-13-15T07:59:10Z', {WHEN}"),
        ("since=999999999999", f"since: found '999999999999', {WHEN}"),
        ("id=x", "id: found 'x', expected the id of a job, a whole number"),
        (
            "id=9223372036854775808",
            "id: found '9223372036854775808', expected the id of a job, a whole number",
        ),
        ("project=", "project: found nothing, expected a value"),
        ("status=", "status: found nothing, expected a value"),
        ("format=xml", "format: found 'xml', expected json or csv"),
        ("next=1.2.3", f"next: found '1.2.3', {NEXT}"),
        ("next=1.2.3.9223372036854775808", f"next: found '1.2.3.9223372036854775808', {NEXT}"),
        ("status=A&status=B", "status: given 2 times, expected one value"),
        (f"since={'z' * 1000}%0A", f"since: found '{'z' * 60}...', {WHEN}"),
        ("format=%1B%0A", "format: found '\\x1b\\n', expected json or csv"),
    ],
)
async def test_a_bad_parameter_gets_a_line(client: Client, query: str, said: str) -> None:
    answer = await client.get(f"/api/v1/failures?{query}")
    text = await answer.text()
    assert (answer.status, text.count("\n")) == (400, 1)
    assert text.startswith(said)


async def test_all_problems_are_told_at_once(client: Client) -> None:
    answer = await client.get("/api/v1/failures?limit=x&since=x&colour=red")
    assert (answer.status, len((await answer.text()).splitlines())) == (400, 3)


async def test_only_configured_targets_are_shown(stage: Stage, client: Client) -> None:
    await stage.fail(failed(1))
    await stage.fail(failed(2), target=OTHER)
    stage.targets.remove(OTHER)
    assert await ids(client) == ["1"]


async def test_secrets_are_masked_again(stage: Stage, client: Client) -> None:
    """The ledger may have got them from a process that did not know the secret."""
    await stage.fail(failed(1, msg_error=f"no: {SECRET}", data_id=SECRET[:20], msg_code=SECRET))
    for query in ("", "?format=csv"):
        text = await (await client.get(f"/api/v1/failures{query}")).text()
        assert text.count("<secret>") == 3
        assert SECRET[:12] not in text


async def test_as_csv(stage: Stage, client: Client) -> None:
    await stage.fail(
        failed(1, 3_000, msg_error='=HYPERLINK("http://x")', started_ms=None),
        failed(
            2, 2_000, msg_error='two\r\nlines, "quoted"', msg_code="-7", data_id="@x", resource_spec="\tx"
        ),
    )
    answer = await client.get("/api/v1/failures?format=csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    rows = list(csv.DictReader(io.StringIO(await answer.text(), newline="")))
    assert [row["job_id"] for row in rows] == ["2", "1"]
    assert rows[0]["msg_error"] == 'two\r\nlines, "quoted"'
    assert (rows[0]["msg_code"], rows[0]["data_id"], rows[0]["resource_spec"]) == ("'-7", "'@x", "'\tx")
    assert rows[1]["msg_error"] == '\'=HYPERLINK("http://x")'
    assert (rows[1]["started"], rows[1]["started_ms"], rows[1]["at_ms"]) == ("", "", str(NOW_MS - 3_000))


@given(st.lists(st.tuples(st.text(), st.integers(0, 10), st.none()), min_size=1))
def test_no_cell_is_a_formula_and_all_can_be_read_back(rows: list[tuple[str, int, None]]) -> None:
    read = list(csv.reader(io.StringIO(csv_text(rows), newline="")))
    for cells, (text, number, _) in zip(read, rows, strict=True):
        shown = "".join(
            "\ufffd" if unicodedata.category(char) == "Cc" and char not in "\t\r\n" else char for char in text
        )
        assert cells[0] == shown or (
            cells[0] == f"'{shown}" and shown[0] in "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
        )
        assert not cells[0] or cells[0][0] not in "=+-@\t\r"
        assert cells[1:] == [str(number), ""]


async def test_every_page_names_the_next(stage: Stage, client: Client) -> None:
    await stage.fail(*(failed(n, 1_000 * n) for n in range(1, 8)))
    first = await client.get("/api/v1/failures?limit=3&since=1h&format=csv")
    link = first.links["next"]["url"]
    assert str(link).startswith("?") or "failures?" in str(link)
    stage.scene.api.now_ms += HOUR_MS - 5_000
    second = await client.get(f"/api/v1/failures?{link.query_string}")
    rows = list(csv.DictReader(io.StringIO(await second.text(), newline="")))
    assert [row["job_id"] for row in rows] == ["4", "5", "6"]
    page = await listed(client, "?limit=3")
    assert page["next"] is not None
    assert (await client.get(f"/api/v1/failures?limit=3&next={page['next']}")).links["next"]
    last = await listed(client, f"?limit=7&next={page['next']}")
    assert ([one["job_id"] for one in last["failures"]], last["next"]) == (["4", "5", "6", "7"], None)


async def test_gzip_and_head(stage: Stage, client: Client) -> None:
    await stage.fail(*(failed(n, 1_000 * n) for n in range(1, 8)))
    plain = await (await client.get("/api/v1/failures")).read()
    async with ClientSession(auto_decompress=False) as session:
        url = client.make_url("/api/v1/failures")
        async with session.get(url, headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(await answer.read()) == plain
        async with session.get(url, headers={"Accept-Encoding": "identity"}) as answer:
            assert await answer.read() == plain
        for query in ("", "?limit=2"):
            async with session.head(f"{url}{query}") as answer:
                assert (answer.status, await answer.read()) == (200, b"")
                assert ("next" in answer.links) == bool(query)
    assert (await client.head("/api/v1/failures?limit=x")).status == 400
    assert (await client.post("/api/v1/failures")).status == 405


@pytest.mark.parametrize("stage", ["sqlite"], indirect=True)
async def test_a_ledger_that_cannot_be_read_is_a_line(stage: Stage, client: Client) -> None:
    stage.scene.file.rename(stage.scene.file.with_suffix(".gone"))
    answer = await client.get("/api/v1/failures")
    assert answer.status == 503
    assert await answer.text() == f"ledger {stage.scene.file}: unable to open database file\n"


moments = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), max_size=25)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moments, st.lists(moments.map(lambda some: some[:3]), max_size=12), st.integers(1, 7))
def test_no_run_is_lost_or_repeated_while_new_ones_come(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[int, int]],
    later: list[list[tuple[int, int]]],
    limit: int,
) -> None:
    asyncio.run(_page_through(tmp_path_factory.mktemp("runs"), before, later, limit))


async def _page_through(
    folder: Path, before: list[tuple[int, int]], later: list[list[tuple[int, int]]], limit: int
) -> None:
    """Shape: each run as (when, whose); many end in the same millisecond."""
    scene, targets, next_id = Scene(folder / "ledger.db"), (a_target(), OTHER), 1
    await scene.open()
    scene.api.now_ms = NOW_MS - HOUR_MS
    for target in targets:
        await scene.poll(target)
    stage = Stage(scene)

    async def arrive(runs: list[tuple[int, int]], at_ms: int) -> None:
        nonlocal next_id
        for whose, target in enumerate(targets):
            scene.api.now_ms = at_ms
            jobs = [
                failed(next_id + n, NOW_MS - at_ms + when)
                for n, (when, owner) in enumerate(runs)
                if owner == whose
            ]
            await stage.fail(*jobs, target=target)
        next_id += len(runs)

    await arrive(before, NOW_MS)
    expected = set(range(1, len(before) + 1))
    client = TestClient(_server(stage.app()))
    await client.start_server()
    found: list[int] = []
    query = f"?limit={limit}"
    for turn in range(1000):
        page = await listed(client, query)
        assert len(page["failures"]) <= limit
        found += [int(one["job_id"]) for one in page["failures"]]
        if page["next"] is None:
            break
        query = f"?limit={limit}&next={page['next']}"
        if turn < len(later):
            await arrive(later[turn], NOW_MS + 1_000 * (turn + 1))
    await client.close()
    await scene.ledger.close()
    assert len(found) == len(set(found))
    assert set(found) == expected


def _server(app: web.Application) -> Any:
    from aiohttp.test_utils import TestServer

    return TestServer(app)


async def many_long(stage: Stage) -> None:
    """As many failed runs as are kept, with messages as long as they may be."""
    await stage.fail(*(failed(n, n, msg_error=f"{n} " + "x" * 1_990) for n in range(1, MOST_KEPT + 1)))


async def test_two_are_read_at_a_time_and_a_slow_client_loses_its_place(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "ledger.db")
    await scene.open()
    scene.api.now_ms = NOW_MS - HOUR_MS
    await scene.poll()
    # Longer than the third waits for a place.
    stage = Stage(scene, patience_seconds=3.0, masked=str)
    await many_long(stage)
    server = Server(stage.app(), bind_all([ListenAddress("127.0.0.1", 0)]))
    await server.start()
    try:
        async with ClientSession(headers=PLAIN) as session:
            url = f"http://127.0.0.1:{server.ports[0]}/api/v1/failures"
            slow = [await session.get(f"{url}?limit=10000") for _ in range(2)]
            async with session.get(url) as third:
                assert (third.status, third.headers["Retry-After"]) == (503, "5")
                text = await third.text()
                assert text == "failed runs are being read by 2 others: try again in a few seconds\n"
            # Both places are free once two get an answer at the same time.
            statuses = [503]
            while 503 in statuses:
                others = [await session.get(f"{url}?limit=10000") for _ in range(2)]
                statuses = [other.status for other in others]
                for other in others:
                    other.close()
            assert statuses == [200, 200]
            # What was cut off does not look like an answer that is complete.
            for answer in slow:
                with pytest.raises(Exception, match=r"(?i)payload|connection|reset"):
                    await answer.read()
            gone = await session.get(f"{url}?limit=10000")
            gone.close()
            async with session.get(f"{url}?limit=10000") as whole:
                assert len(json.loads(await whole.text())["failures"]) == 10_000
    finally:
        await server.close()
        await scene.ledger.close()


async def test_ten_thousand_are_streamed_in_little_memory(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "ledger.db")
    await scene.open()
    scene.api.now_ms = NOW_MS - HOUR_MS
    await scene.poll()
    stage = Stage(scene, masked=str)
    await many_long(stage)
    scene.api.jobs.clear()
    server = Server(stage.app(), bind_all([ListenAddress("127.0.0.1", 0)]))
    await server.start()
    try:
        async with ClientSession(headers=PLAIN) as session:
            for form in ("json", "csv"):
                url = f"http://127.0.0.1:{server.ports[0]}/api/v1/failures?limit=10000&format={form}"
                size = 0
                tracemalloc.start()
                async with session.get(url) as answer:
                    async for chunk in answer.content.iter_chunked(65_536):
                        size += len(chunk)
                _, peak = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                assert size > 20_000_000
                assert peak < 8_000_000
    finally:
        await server.close()
        await scene.ledger.close()
