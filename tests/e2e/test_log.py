"""The log of a real process: it holds nothing up, it does not grow without limit, and it holds no secret."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote, quote_plus

import pytest
from aiohttp import web

from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.processes import Program, run
from tests.e2e.stand_in import Serve, exporter_of
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

DROPPED = "octopus_exporter_log_lines_dropped_total"


@contextmanager
def unread(exporter: Exporter) -> Iterator[tuple[Program, TextIO]]:
    """Run an exporter whose log goes to a pipe that nobody reads, and fill it."""
    exporter.change(log={"level": "debug", "format": "json"}, web={"enable_lifecycle": True})
    reader, writer = os.pipe()
    with os.fdopen(reader) as log, exporter.ready(errors_to=writer) as program:
        os.close(writer)
        good = exporter.write().read_text()
        # Each refusal is a line of some 200 kB; 4 MiB of them wait, and then some are dropped.
        exporter.file.write_text(good + "".join(f"{'k' * 1000}{n}: 1\n" for n in range(100)))
        for _ in range(60):
            assert exporter.page("-/reload", "POST").status == 422
        exporter.file.write_text(good)
        yield program, log


def test_a_log_that_nobody_reads_holds_nothing_up_and_says_what_is_missing(
    tmp_path: Path, simulate: Simulate
) -> None:
    exporter = Exporter(tmp_path, simulate().url)
    with unread(exporter) as (program, log):
        assert exporter.page("-/healthy").status == 200
        exporter.scrape_after_polls(3)
        dropped = exporter.scrape_when(lambda exposed: (exposed.value(DROPPED) or 0) > 0, "drops", DROPPED)
        assert dropped.value("octopus_up") == 1
        assert exporter.page("api/v1/status").json["log_lines_dropped"] > 0
        assert "Log lines dropped" in exporter.page("").text

        lines = (json.loads(line) for line in log)
        notice = next(line for line in lines if line["msg"].startswith("log lines were dropped"))
        assert exporter.scrape_until(DROPPED, notice["lines"]).value("octopus_up") == 1
        program.tell(15)
        assert next(line for line in lines if line["msg"] == "stopping")["level"] == "info"
        assert program.wait() == 0


def test_a_log_that_nobody_reads_does_not_keep_it_from_stopping(tmp_path: Path, simulate: Simulate) -> None:
    exporter = Exporter(tmp_path, simulate().url)
    with unread(exporter) as (program, _):
        assert program.stop()[0] == 0


async def test_a_target_that_stays_down_is_logged_once_and_when_it_is_up_again(
    tmp_path: Path, aiohttp_server: Serve
) -> None:
    up = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if up.is_set():
            return web.json_response({"payload": {"list": [], "page_info": {"total": 0}}})
        refused = {"error_code": "octopus.400003", "error_msg": "You do not have permission."}
        return web.json_response(refused, status=403)

    exporter = await exporter_of(tmp_path, aiohttp_server, answer)

    def watch() -> str:
        with exporter.running() as program:
            until(lambda: exporter.try_page("metrics"), "metrics")
            exporter.scrape_until_failed("permission", times=8)
            up.set()
            exporter.scrape_until("octopus_up", 1)
            program.wait_for_line("polling works again")
            return program.errors

    log = await asyncio.to_thread(watch)
    assert log.count('msg="request failed"') == 1
    assert log.count('msg="poll failed"') == 1
    assert log.count('msg="requests work again"') == 1
    assert log.count('msg="polling works again"') == 1


TOKEN = base64.b64encode(bytes(range(256)) * 8).decode()
FORMS: tuple[Callable[[str], str], ...] = (
    lambda token: token[:60],
    lambda token: token[700:740],
    lambda token: base64.b64encode(token[31:99].encode()).decode(),
    lambda token: base64.urlsafe_b64encode(b"x" + token[131:199].encode()).decode(),
    lambda token: token[200:230].encode().hex(),
    lambda token: "\r\n".join(textwrap.wrap(token[300:400], 20)),
    lambda token: quote(token[400:460], safe=""),
    lambda token: quote_plus(token[500:560]),
    lambda token: json.dumps(token[600:660]).replace("/", "\\/"),
)


async def test_a_server_that_repeats_the_token_leaves_no_trace_of_it(
    tmp_path: Path, aiohttp_server: Serve
) -> None:
    """In no log, page, exposition or ledger, whatever it is sent back as and in."""
    asked, mended = 0, asyncio.Event()

    def failed(number: int, said: str) -> dict[str, Any]:
        return {
            "id": number,
            "job_type": f"TYPE_{said[:40]}",
            "status": "RUN_FAILED",
            "create_at": 1_790_000_000_000 + number,
            "update_at": 1_790_000_100_000 + number,
            "start_at": 1_790_000_050_000 + number,
            "end_at": 1_790_000_100_000 + number,
            "msg_code": f"E.{said[:40]}",
            "msg_error": f"cannot log in with {said}",
        }

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        form = FORMS[asked // 2 % len(FORMS)](TOKEN)
        if not mended.is_set() and asked % 2 == 0:
            body = {"error_code": form, "error_msg": f"what is {form}?", "request_id": form}
            return web.json_response(body, status=404, headers={"X-Request-Id": " ".join(form.split())})
        if not mended.is_set():
            return web.Response(status=302, headers={"Location": f"https://login.test/{quote(form)}"})
        wanted = request.query.getall("statuses", ["RUN_FAILED"])
        rows = [failed(number, each(TOKEN)) for number, each in enumerate(FORMS, start=1)]
        rows = rows if "RUN_FAILED" in wanted else []
        return web.json_response({"payload": {"list": rows, "page_info": {"total": len(rows)}}})

    exporter = await exporter_of(tmp_path, aiohttp_server, answer)
    exporter.config["credentials"] = {"default": {"type": "token", "token": TOKEN}}
    exporter.change(log={"level": "debug"}, poll={"lookback": "all"})
    exporter.change(metrics={"count_history": True}, events={"to": "events.log"})

    def watch() -> str:
        with exporter.running() as program:
            until(lambda: exporter.try_page("metrics"), "metrics")
            exporter.scrape_until_failed("contract", times=len(FORMS))
            pages = [exporter.page(path).text for path in ("", "api/v1/status", "metrics")]
            mended.set()
            exporter.scrape_until("octopus_up", 1)
            pages += [exporter.page(path).text for path in ("", "api/v1/status", "metrics")]
            events = exporter.folder / "events.log"
            until(lambda: events.exists() and events.read_bytes().count(b"\n") == len(FORMS), "all events")
        seen = [program.errors, events.read_text(), *pages]
        for command in (("once",), ("check", "--online")):
            done = run((*command, "--config", exporter.write()), exporter.folder)
            seen += [done.stdout, done.stderr]
        seen += [file.read_bytes().decode("latin-1") for file in tmp_path.glob("ledger.db*")]
        return "\n".join(seen)

    seen = await asyncio.to_thread(watch)
    assert "<secret>" in seen
    for form in FORMS:
        for word in form(TOKEN).split():
            assert word not in seen
    assert not any(TOKEN[at : at + 12] in seen for at in range(len(TOKEN) - 11))
