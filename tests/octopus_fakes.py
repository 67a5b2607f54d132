"""For the tests of exporter.octopus: samples, a clock that tests set, a recording observer, a fake API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from exporter.masking import Secrets
from exporter.model import Target
from exporter.octopus.auth.credentials import Credentials, ProjectScope, TokenCredentials
from exporter.octopus.client import OctopusClient
from exporter.octopus.limiter import EndpointLimiter
from exporter.octopus.messages import Request, RequestAuth, Response
from exporter.octopus.retry import Retrier
from exporter.octopus.transport import Transport

SAMPLES = Path(__file__).parent / "samples"
PROJECT_ID = "087679f0aa0000000000000002f5e902b"
LIST_PATH = f"/v1.0/{PROJECT_ID}/data/system-jobs"

SCOPE = ProjectScope("perception", "p1")
DAY = 86_400

Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def row(job_id: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "id": job_id,
        "job_type": "FRAME_EXTRACT",
        "status": "RUNNING",
        "create_at": 1_700_000_000_000,
        "update_at": 1_700_000_005_000,
        **fields,
    }


def page(*rows: dict[str, Any], **payload: Any) -> dict[str, Any]:
    return {"payload": {"list": list(rows), **payload}}


def answered(body: object, status: int = 200, **headers: str) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def target(endpoint: str = "https://octopus.test", **fields: Any) -> Target:
    return Target(
        **{
            "project": "perception",
            "project_id": PROJECT_ID,
            "workspace": "0",
            "workspace_id": None,
            "region": "cn-north-11",
            "endpoint": endpoint,
            "path": "system-jobs",
            "job_types": (),
            "credentials": "default",
            **fields,
        }
    )


ASKED = Request("GET", "https://octopus.test", LIST_PATH, (("limit", "200"),), auth="token")


def iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def grant(credentials: Credentials, scope: ProjectScope = SCOPE) -> RequestAuth:
    async with credentials.authorise(scope) as authorise:
        return authorise(ASKED)


async def token(credentials: Credentials, scope: ProjectScope = SCOPE) -> str:
    return (await grant(credentials, scope)).headers["X-Auth-Token"]


@dataclass
class Secret:
    value: str
    from_file: bool = False

    def get(self) -> str:
        return self.value


@dataclass
class Clock:
    """A clock that moves only when a test sets it, or by sleeping."""

    now: float = 1_700_000_000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@dataclass
class Observer:
    requests: list[tuple[str, str]] = field(default_factory=list)
    retries: list[tuple[str, str]] = field(default_factory=list)
    skews: list[float] = field(default_factory=list)

    def request(self, project: str, code: str, seconds: float) -> None:
        assert seconds >= 0
        self.requests.append((project, code))

    def retry(self, project: str, reason: str) -> None:
        self.retries.append((project, reason))

    def clock_skew(self, project: str, seconds: float) -> None:
        self.skews.append(seconds)


@dataclass
class Api:
    """A real HTTP server. It sends its answers in turn, then repeats the last, and records the requests."""

    answers: list[Answer | Handler]
    asked: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        self.bodies.append(await request.read())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            return await answer(request)
        status, body, headers = (*answer, {}) if len(answer) == 2 else answer
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=raw, headers=headers)

    def server(self) -> TestServer:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self.handle)
        return TestServer(app)


@dataclass
class World:
    """A client with all its parts, and what a test inspects."""

    client: OctopusClient
    transport: Transport
    retrier: Retrier
    limiter: EndpointLimiter
    observer: Observer
    clock: Clock


def world(
    session: ClientSession,
    credentials: Credentials | None = None,
    *,
    clock: Clock | None = None,
    observer: Observer | None = None,
    timeout_seconds: float = 5.0,
    max_body_bytes: int = 1_000_000,
    terminal_statuses: frozenset[str] = frozenset(),
) -> World:
    clock, observer = clock or Clock(), observer or Observer()
    transport = Transport(
        session=session,
        observer=observer,
        secrets=Secrets(clock),
        timeout_seconds=timeout_seconds,
        max_body_bytes=max_body_bytes,
        clock=clock,
    )
    retrier = Retrier(observer, sleep=clock.sleep, random=lambda: 0.5)
    limiter = EndpointLimiter(10_000, clock=clock, sleep=clock.sleep)
    client = OctopusClient(
        transport=transport,
        credentials=credentials or TokenCredentials(name="default", token=Secret("t0ken")),
        limiter=limiter,
        retrier=retrier,
        observer=observer,
        terminal_statuses=terminal_statuses,
        clock=clock,
    )
    return World(client, transport, retrier, limiter, observer, clock)
