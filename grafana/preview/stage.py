"""
Pictures of the dashboards over a staged spike, with real alerts.

    python -m grafana.preview.stage --output docs/images

A week of simulated jobs is made as fast as possible. From then on everything runs in real time: the
simulator, an exporter that continues with the ledger of that week, and a Prometheus with the week as blocks,
and with the rules. The runs of one job type begin to fail a quarter of an hour before the present, and fail
for some more minutes. Once the alert fires, all dashboards are drawn, and once more the one that the alert
links to, with the variables of the link. It takes about 25 minutes, and needs prometheus, promtool, npm and
Chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import yaml

from exporter.log import Log
from exporter.masking import Secrets
from exporter.octopus.transport import open_session
from grafana.boards import DASHBOARDS
from grafana.preview.history import (
    INSTANCE,
    PROJECTS,
    SPIKE,
    STEP_SECONDS,
    WEEK_SECONDS,
    make_blocks,
    open_metrics,
    simulate_past,
    simulator_of_the_past,
)
from grafana.preview.pictures import THEMES, Theme, draw, draw_all
from grafana.preview.queries import Prometheus, Window
from grafana.preview.view import DashboardView, seconds

ROOT = Path(__file__).parents[2]
RULES = ROOT / "prometheus" / "rules" / "octopus.yml"
# About how long the simulation of the week takes.
WEEK_TAKES_SECONDS = 300
SCRAPE_SECONDS = 30
# How long runs fail after the week, and the time from the alert to the pictures.
SPIKE_SECONDS, AFTERMATH_SECONDS = 240, 240
ALERT = "OctopusRunFailedSpike"
# The recorded series of the past that the rules read. Each pass reads the results of the passes before.
RECORDED = (
    r"octopus_poll_success_timestamp_seconds:max$",
    r"octopus_poll_window:(short|long)$",
    r"octopus_jobs_completed:increase_(short|long)$|octopus_job_runs:created_long$",
    r"octopus_job_runs:ended_(short|long)$",
    r"octopus_job_runs:increase_(short|long)$",
    r":hour$|:hour_(ran|failed|timestamp_seconds)$",
    r"octopus_job_runs:history_hours$",
    r"octopus_job_runs:is_known_week$",
    r"octopus_jobs_completed:ratio_week$",
)
_CHOICE = "var-"


async def stage(output: Path, theme: Theme) -> None:
    end = time.time() + WEEK_TAKES_SECONDS
    start = end - WEEK_SECONDS
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        simulator = await stack.enter_async_context(simulator_of_the_past(start))
        session = await stack.enter_async_context(open_session())
        with open_metrics(folder / "week.txt") as out:
            present = await simulate_past(simulator, start, end, folder / "ledger.db", out)
        say("the week is simulated")
        await asyncio.sleep(max(present - time.time(), 0))
        await tell(
            session, simulator, "clock", {"speed": 1, "advance_seconds": max(time.time() - present, 0)}
        )
        port = await stack.enter_async_context(exporter(folder, simulator))
        await asyncio.to_thread(make_blocks, [folder / "week.txt"], folder / "data")
        server = await stack.enter_async_context(prometheus(folder, port))
        await record_the_past(folder, server, start, present)
        say("the past is recorded")
        await keep_failing(session, simulator, SPIKE_SECONDS)
        alert = await fired(session, server)
        await asyncio.sleep(AFTERMATH_SECONDS)
        say(yaml.safe_dump(alert["annotations"], allow_unicode=True))
        await asyncio.to_thread(take_pictures, Prometheus(server), alert, output, theme)


def say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


async def tell(session: aiohttp.ClientSession, simulator: str, path: str, body: dict[str, object]) -> None:
    """Send a request to the simulator's controls."""
    async with session.post(f"{simulator}/simulator/{path}", json=body) as answer:
        answer.raise_for_status()


async def keep_failing(session: aiohttp.ClientSession, simulator: str, length: float) -> None:
    job_type, status, code = SPIKE
    body = {"job_type": job_type, "count": 8, "outcome": status, "msg_code": code}
    until = time.monotonic() + length
    while time.monotonic() < until:
        await tell(session, simulator, "jobs", body)
        await asyncio.sleep(STEP_SECONDS)


@asynccontextmanager
async def exporter(folder: Path, simulator: str) -> AsyncIterator[int]:
    """Run the exporter on the week's ledger. Returns its port."""
    port = free_port()
    account = {"type": "password", "domain": "octopus-demo", "user": "exporter", "password": "demo-password"}
    config = {
        "projects": [
            {"id": project_id, "name": name, "region": "cn-north-11", "endpoint": simulator}
            for name, project_id in PROJECTS.items()
        ],
        "credentials": {"default": {**account, "iam_endpoint": simulator}},
        "ledger": {"url": f"sqlite:///{folder / 'ledger.db'}"},
        "web": {"listen": [f"127.0.0.1:{port}"]},
        "log": {"level": "error"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    async with running(sys.executable, "-m", "exporter", "run", "--config", str(folder / "config.yaml")):
        yield port


@asynccontextmanager
async def prometheus(folder: Path, exporter_port: int) -> AsyncIterator[str]:
    """Run Prometheus on the blocks, with the rules, scraping the exporter. Returns its URL."""
    target = {"targets": [f"127.0.0.1:{exporter_port}"], "labels": {"instance": INSTANCE}}
    every = f"{SCRAPE_SECONDS}s"
    config = {
        "global": {
            "scrape_interval": every,
            "evaluation_interval": every,
            "external_labels": {"octopus_grafana": "http://localhost:3000"},
        },
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "octopus", "static_configs": [target]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    port = free_port()
    command = [
        *(
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
        ),
        *("--enable-feature=exemplar-storage", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"),
        "--storage.tsdb.retention.time=30d",
    ]
    url = f"http://127.0.0.1:{port}"
    async with running(*command), open_session() as session:
        await ready(session, url)
        yield url


async def ready(session: aiohttp.ClientSession, url: str) -> None:
    """Wait until a Prometheus answers."""
    while True:
        try:
            async with session.get(f"{url}/-/ready") as answer:
                if answer.status == HTTPStatus.OK:
                    return
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(0.2)


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[None]:
    """Run a program until the end of the block. Raises: FileNotFoundError."""
    program = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, cwd=ROOT)
    try:
        yield
    finally:
        if program.returncode is None:
            program.terminate()
        await program.wait()


async def record_the_past(folder: Path, server: str, start: float, end: float) -> None:
    """Record the past of the recording rules with promtool, one pass after the other."""
    for number, pattern in enumerate(RECORDED):
        rules = folder / f"past-{number}.yml"
        rules.write_text(yaml.safe_dump(recording(pattern)), encoding="utf-8")
        command = ["promtool", "tsdb", "create-blocks-from", "rules", f"--url={server}", "--eval-interval=2m"]
        bounds = [f"--start={start:.0f}", f"--end={end:.0f}", f"--output-dir={folder / 'data'}"]
        run = [*command, *bounds, str(rules)]
        await asyncio.to_thread(subprocess.run, run, check=True, capture_output=True)
        # Prometheus loads new blocks once a minute, and the next pass needs them.
        await asyncio.sleep(70)


def recording(pattern: str) -> dict[str, Any]:
    """Return a rule file of the recording rules whose names match."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rules = [
        rule for group in groups for rule in group["rules"] if re.search(pattern, rule.get("record", ""))
    ]
    return {"groups": [{"name": "past", "rules": rules}]}


async def fired(session: aiohttp.ClientSession, server: str) -> dict[str, Any]:
    """Wait until the staged alert fires, and return it."""
    while True:
        async with session.get(f"{server}/api/v1/alerts") as answer:
            alerts: list[dict[str, Any]] = (await answer.json())["data"]["alerts"]
        for alert in alerts:
            if alert["labels"]["alertname"] == ALERT and alert["state"] == "firing":
                return alert
        await asyncio.sleep(5)


def take_pictures(server: Prometheus, alert: dict[str, Any], output: Path, theme: Theme) -> None:
    """Draw the dashboards, and in both languages the one that the alert links to."""
    end = time.time()
    draw_all(server, end, STEP_SECONDS, output, theme)
    link = urlsplit(alert["annotations"]["dashboard_url"])
    query = {name: values[-1] for name, values in parse_qs(link.query).items()}
    chosen = {name.removeprefix(_CHOICE): value for name, value in query.items() if name.startswith(_CHOICE)}
    for suffix in ("", "-zh"):
        dashboard = DashboardView.read(DASHBOARDS / f"{Path(link.path).name}{suffix}.json")
        since = query.get("from", f"now-{dashboard.range_seconds}s").removeprefix("now-")
        window = Window(end - seconds(since), end, scrape=STEP_SECONDS)
        draw(dashboard, server, window, chosen, output / f"dashboard-alert{suffix}.png", theme, rows=2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m grafana.preview.stage", description="Stage a spike.")
    parser.add_argument("--output", type=Path, default=Path("docs/images"), help="the folder to write to")
    parser.add_argument("--theme", choices=THEMES, default="dark", help="the colours of the pages")
    arguments = parser.parse_args()
    with Log(Secrets()) as log:
        log.configure("error", "logfmt")
        asyncio.run(stage(arguments.output, arguments.theme))


if __name__ == "__main__":
    main()
