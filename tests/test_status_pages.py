"""`/` and `/api/v1/status` over HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientSession, CookieJar, web
from aiohttp.test_utils import TestClient

from exporter import __version__
from exporter.config import LedgerUrl
from exporter.errors import LedgerError
from exporter.ledger.opening import ledger_facts
from exporter.ledger.postgres.schema import VERSION
from exporter.ledger.sqlite import SqliteLedger
from exporter.masking import Secrets
from exporter.model import LedgerFacts, Progress, TargetKey, TargetSnapshot
from exporter.runs import FailureGroups, HourlyFailures, RunFilter
from exporter.web.status import handlers
from exporter.web.status.handlers import StatusPages
from exporter.web.status.model import STATES, ProcessInfo
from tests.failed_runs import SPIKE, SPIKE_IDS, failure_group
from tests.fake_runs import FakeRuns
from tests.status_states import ABOUT, EVERY, HOSTILE, NOW_MS, READING, failed_runs

Client = TestClient[web.Request, web.Application]
STATUS_API = Path(__file__).parent.parent / "docs" / "status-api.md"


class Source(FakeRuns):
    """A program with every kind of target."""

    def __init__(self) -> None:
        super().__init__(failed_runs(EVERY))
        self.shown: tuple[TargetSnapshot, ...] = EVERY
        self.missing = ["project newcomer, workspace 0: not polled yet"]

    def snapshots(self) -> tuple[TargetSnapshot, ...]:
        return self.shown

    def progress(self) -> dict[TargetKey, Progress]:
        return dict(READING)

    def ready(self) -> list[str]:
        return self.missing

    async def process_info(self) -> ProcessInfo:
        return ABOUT


@pytest.fixture
async def client(aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    app = web.Application()
    app.add_routes(StatusPages(Source(), str, lambda: NOW_MS / 1000).routes())
    return await aiohttp_client(app, cookie_jar=CookieJar(unsafe=True))


async def text(client: Client, path: str = "/", **headers: str) -> str:
    answer = await client.get(
        path, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    assert answer.status == 200
    return await answer.text()


async def test_the_page_is_html_that_nobody_keeps(client: Client) -> None:
    answer = await client.get("/")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Language"] == "en"
    assert "Set-Cookie" not in answer.headers


async def test_the_language_goes_by_the_header_the_link_and_then_the_cookie(client: Client) -> None:
    assert '<html lang="en"' in await text(client)
    assert '<html lang="zh-CN"' in await text(client, Accept_Language="zh-CN,zh;q=0.9,en;q=0.8")
    assert '<html lang="zh-CN"' in await text(client, "/?lang=zh")
    assert '<html lang="zh-CN"' in await text(client, Accept_Language="en")
    assert '<html lang="en"' in await text(client, "/?lang=en", Accept_Language="zh")


async def test_a_language_we_do_not_speak_is_not_remembered(client: Client) -> None:
    answer = await client.get("/?lang=fr")
    assert '<html lang="en"' in await answer.text()
    assert "Set-Cookie" not in answer.headers


async def test_the_cookie_is_for_us_alone(client: Client) -> None:
    cookie = (await client.get("/?lang=zh")).headers["Set-Cookie"]
    assert "octopus_lang=zh;" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


async def test_a_target_has_a_page_and_a_stranger_has_none(client: Client) -> None:
    assert "目标轮询失败" in await text(client, "/?project=mapping&workspace=7&lang=zh")
    for stranger in ("project=nobody&workspace=0", "workspace=9"):
        answer = await client.get(f"/?{stranger}")
        assert (answer.status, await answer.text()) == (404, "no such target; all are listed at /\n")


@pytest.mark.parametrize("path", ["/", "/api/v1/status"])
async def test_answers_are_compressed_on_request(client: Client, path: str) -> None:
    async with ClientSession(auto_decompress=False) as session:
        squeezed = await session.get(client.make_url(path), headers={"Accept-Encoding": "gzip"})
        plain = await session.get(client.make_url(path), headers={"Accept-Encoding": "identity"})
        assert squeezed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await squeezed.read()) == await plain.read()


async def test_the_json_has_all_that_the_page_shows(client: Client) -> None:
    status = json.loads(await text(client, "/api/v1/status"))
    assert (status["version"], status["now_ms"], status["ready"]) == (__version__, NOW_MS, False)
    assert status["missing"] == ["project newcomer, workspace 0: not polled yet"]
    assert status["states"] == dict.fromkeys(STATES, 1) | {"waiting": 2}
    assert status["ledger"]["kind"] == "sqlite"
    assert status["shard"] == {"number": 2, "count": 3, "targets": 8, "configured_targets": 23}
    assert status["credentials"][0]["expires_ms"] == ABOUT.credentials[0].expires_ms
    by_name = {(target["project"], target["workspace"]): target for target in status["targets"]}
    assert list(by_name) == [(shown.target.project, shown.target.workspace) for shown in EVERY]
    failing = by_name["mapping", "0"]
    assert (failing["state"], failing["error"]["code"], failing["error"]["status"]) == (
        "failing",
        "APIG.0307",
        401,
    )
    assert failing["recent_failures"][0]["msg_error"] == HOSTILE
    assert len(failing["recent_failures"]) == 50
    assert failing["resources"]["waiting"] == {
        "cores": 278.1,
        "gpus": 57.0,
        "memory_gibibytes": 1608.1,
        "jobs": 43,
        "jobs_left_out": 5,
    }
    assert failing["resource_jobs"]["2Core_4MiB"] == {"RUNNING": 4}
    assert failing["unreadable_specs"] == ["2Core_4MiB", HOSTILE]
    assert by_name["large", "0"]["progress"] == {"rows": 62_400, "total": 180_000}


async def test_the_documentation_names_every_field_of_the_json(client: Client) -> None:
    status = json.loads(await text(client, "/api/v1/status"))
    named = {
        *status,
        *status["targets"][1],
        *status["targets"][1]["error"],
        *status["ledger"],
        *status["reload"],
    }
    named |= {
        *status["shard"],
        *status["replicas"],
        *status["replicas"]["holders"][0],
        *status["replicas"]["takeovers"][0],
        *status["targets"][0]["lease"],
        *status["credentials"][0],
        *status["targets"][1]["recent_failures"][0],
        *status["targets"][1]["resources"],
        *status["targets"][1]["resources"]["in_use"],
        *STATES,
    }
    documentation = STATUS_API.read_text(encoding="utf-8")
    assert {name for name in named if f"`{name}`" not in documentation} == set()


async def test_a_file_ledger_tells_its_size_and_schema(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    ledger = await SqliteLedger.open(file)
    facts = ledger_facts(LedgerUrl.parse(f"sqlite:///{file}"))
    await ledger.close()
    assert (facts.kind, facts.location) == ("sqlite", str(file))
    assert (facts.size_bytes or 0) > 0
    assert (facts.schema_version or 0) >= 1


def test_other_ledgers_tell_what_they_can_and_no_password(tmp_path: Path) -> None:
    assert ledger_facts(LedgerUrl.parse("sqlite://")).kind == "memory"
    gone = ledger_facts(LedgerUrl.parse(f"sqlite:///{tmp_path}/gone.db"))
    assert gone.size_bytes is None
    facts = ledger_facts(LedgerUrl.parse("postgresql://octopus:hunter2@db/octopus"))
    assert facts == LedgerFacts("postgresql", "postgresql://octopus:<secret>@db/octopus", VERSION, None)


class Busy(Source):
    """A program whose ledger can be read once at a time, and is being read until told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.over = asyncio.Event()

    async def last_hour(
        self, targets: Sequence[TargetKey], which: RunFilter, now_ms: int
    ) -> tuple[HourlyFailures, ...]:
        await self.over.wait()
        return SPIKE.hours


async def serve(aiohttp_client: Callable[..., Awaitable[Client]], source: Source) -> Client:
    app = web.Application()
    app.add_routes(StatusPages(source, str, lambda: NOW_MS / 1000).routes())
    return await aiohttp_client(app)


async def test_the_page_reads_what_its_link_asks_for(
    aiohttp_client: Callable[..., Awaitable[Client]],
) -> None:
    source = Source()
    source.hours, source.groups = SPIKE.hours, SPIKE.groups
    page = await text(await serve(aiohttp_client, source), "/?msg_code=3001&id=4070&since=24h")
    assert source.asked == RunFilter(msg_code="3001", job_id=4070, since_ms=NOW_MS - 86_400_000)
    assert "82 runs failed in the last hour" in page
    assert [str(job) for job in SPIKE_IDS if f"<li>{job}</li>" not in page] == []


@pytest.mark.parametrize(
    ("query", "line"),
    [
        (
            "since=soon",
            (
                "since: found 'soon', expected a duration such as 1h, a time such as 2026-07-01T03:00:00Z or"
                " Unix seconds\n"
            ),
        ),
        ("id=<script>", "id: found '<script>', expected the id of a job, a whole number\n"),
    ],
)
async def test_a_filter_that_cannot_be_read_is_refused_in_a_line(
    client: Client, query: str, line: str
) -> None:
    answer = await client.get(f"/?{query}")
    assert (answer.status, answer.content_type, await answer.text()) == (400, "text/plain", line)


async def test_a_ledger_that_cannot_be_read_is_a_line_of_the_page(
    aiohttp_client: Callable[..., Awaitable[Client]],
) -> None:
    source = Source()
    source.error = LedgerError("ledger l.db: disk I/O error")
    page = await text(await serve(aiohttp_client, source))
    assert "Failed runs cannot be read from the ledger." in page
    assert "ledger l.db: disk I/O error" in page
    assert "2 of 8 targets cannot be polled" in page


async def test_who_waits_too_long_for_a_turn_sees_the_rest(
    aiohttp_client: Callable[..., Awaitable[Client]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Busy()
    client = await serve(aiohttp_client, source)
    monkeypatch.setattr(handlers, "_READING_SECONDS", 0.05)
    assert "Failed runs are not shown" in await text(client)
    source.over.set()
    monkeypatch.setattr(handlers, "_READING_SECONDS", 60.0)
    assert "82 runs failed in the last hour" in await text(client)


async def test_secrets_are_masked_in_failures_too(
    aiohttp_client: Callable[..., Awaitable[Client]],
) -> None:
    token = "MIIQtoken-0123456789-abcdefghijklmnop"
    source = Source()
    source.hours = (replace(SPIKE.hours[0], kinds={("FRAME_EXTRACT", token): 82}),)
    source.groups = FailureGroups((failure_group(msg_code=token, message=f"found {token}"),), 70)
    app = web.Application()
    app.add_routes(StatusPages(source, Secrets.of(token).masked, lambda: NOW_MS / 1000).routes())
    page = await text(await aiohttp_client(app))
    assert token[:12] not in page
    assert "found &lt;secret&gt;" in page
