"""Endpoints to read and control the simulator. An error gives 400 and one line of JSON: {"error": "…"}."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal, TypeVar

import msgspec
from aiohttp import web

from exporter.errors import ConfigError
from exporter.model import is_failed
from exporter.simulator.lifecycle import STAGES, Incident
from exporter.simulator.settings import DEFAULT_WORKSPACE, Quirks
from exporter.simulator.simulator import FOREVER_MS, Simulator
from exporter.simulator.world import World

Name = Annotated[str, msgspec.Meta(pattern="^[A-Z][A-Z0-9_]{0,63}$")]
T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_INDEX = """octopus-exporter simulator: a stand-in for Huawei Cloud Octopus and its IAM, with invented jobs.

  POST /v3/auth/tokens                          a token, for the demo's user and password
  GET  /v1.0/{{project_id}}/data/{path}       the job list, with X-Auth-Token or an AK/SK signature
       projects: {projects}
       workspaces: {workspaces}

  GET  /simulator/account?since_ms=&until_ms=   what the jobs did, exactly
  GET  /simulator/requests                      what was asked so far
  POST /simulator/clock   {{"speed": 60, "advance_seconds": 3600}}
  POST /simulator/faults  {{"faults": "throttle,errors=0.1"}}
  POST /simulator/quirks  {{"clamp_limit": 100, "omit_total": true}}
  POST /simulator/jobs    {{"job_type": "FRAME_EXTRACT", "count": 50, "outcome": "RUN_FAILED"}}
  POST /simulator/incident {{"job_type": "FRAME_EXTRACT", "seconds": 3600}}

All options and the demo's credentials: docs/simulator.md
"""


class ClockOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Jump forward by simulated seconds, then set the speed. Either may be left out."""

    speed: float | None = None
    advance_seconds: float = 0.0


class FaultsOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Replace the faults; "" turns them all off."""

    faults: str


class JobsOrder(msgspec.Struct, forbid_unknown_fields=True):
    """
    Create jobs now.

    Shape: with `outcome` None they run like all other jobs. They reach any other outcome within seconds; a
    terminal status ends their run, and so does an undocumented status with `ends`; else they stay in it.
    `project` None means the first one. `msg_code` 0 gives no code, None draws one. The field named by
    `numbered` differs from job to job: a type or an outcome gets the suffix _1, _2, …, and a code is
    increased by 1, 2, …; in a spec, each {n} becomes the number. `resource_spec` "" gives none, None one of
    the type's.
    """

    job_type: Name
    count: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1
    outcome: Name | None = None
    msg_code: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    msg_error: str | None = None
    ends: bool = False
    resource_spec: Annotated[str, msgspec.Meta(max_length=1000)] | None = None
    numbered: Literal["job_type", "outcome", "msg_code", "resource_spec"] | None = None
    workspace: str = DEFAULT_WORKSPACE
    project: str | None = None


class IncidentOrder(msgspec.Struct, forbid_unknown_fields=True):
    """
    Make runs fail for some time.

    Shape: None as `job_type`, `project` or `workspace` means all of them; `share` is the part of the runs
    that fail; `msg_code` as in JobsOrder. Units: `seconds` of simulated time; 0 ends the incident of the same
    job type, project, workspace and outcome.
    """

    job_type: Name | None = None
    outcome: Literal["SUBMIT_FAILED", "RUN_FAILED", "UPLOAD_FAILED"] = "RUN_FAILED"
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    seconds: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 3600.0
    msg_code: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    msg_error: str | None = None
    workspace: str | None = None
    project: str | None = None


class Control:
    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.index),
            web.get("/simulator/account", _plain(self.account)),
            web.get("/simulator/requests", self.requests),
            web.post("/simulator/clock", _plain(self.clock)),
            web.post("/simulator/faults", _plain(self.faults)),
            web.post("/simulator/quirks", _plain(self.quirks)),
            web.post("/simulator/jobs", _plain(self.jobs)),
            web.post("/simulator/incident", _plain(self.incident)),
        ]

    async def index(self, _: web.Request) -> web.Response:
        settings = self._simulator.settings
        projects, workspaces = ", ".join(settings.projects), ", ".join(settings.workspaces)
        return web.Response(text=_INDEX.format(path=settings.path, projects=projects, workspaces=workspaces))

    async def account(self, request: web.Request) -> web.Response:
        since_ms = _whole_number(request, "since_ms", 0)
        until_ms = _whole_number(request, "until_ms", FOREVER_MS)
        return _json(self._simulator.account(since_ms, until_ms))

    async def requests(self, _: web.Request) -> web.Response:
        counted = self._simulator.requests
        answers = {
            kind: {str(status): n for (k, status), n in sorted(counted.items()) if k == kind}
            for kind in ("list", "token")
        }
        return _json({kind: sum(by.values()) for kind, by in answers.items()} | {"answers": answers})

    async def clock(self, request: web.Request) -> web.Response:
        order = await _order(request, ClockOrder)
        clock = self._simulator.clock
        clock.jump(order.advance_seconds)
        if order.speed is not None:
            clock.set_speed(order.speed)
        return _json({"now_ms": self._simulator.present().now_ms, "speed": clock.speed})

    async def faults(self, request: web.Request) -> web.Response:
        order = await _order(request, FaultsOrder)
        self._simulator.faults.replace(order.faults)
        return _json({"faults": order.faults})

    async def quirks(self, request: web.Request) -> web.Response:
        self._simulator.quirks = await _order(request, Quirks)
        return _json(self._simulator.quirks)

    async def jobs(self, request: web.Request) -> web.Response:
        order = await _order(request, JobsOrder)
        project = order.project or self._simulator.settings.projects[0]
        world = self._simulator.present()
        listing = world.find_listing(project, order.workspace)
        if listing is None:
            raise ConfigError([f"workspace: {order.workspace!r}: not one of project {project}'s workspaces"])
        if order.msg_code and not is_failed(order.outcome or ""):
            raise ConfigError([f"msg_code: {order.msg_code}: only with an outcome that failed"])
        if order.numbered in ("outcome", "msg_code") and order.outcome is None:
            raise ConfigError([f"numbered: {order.numbered!r}: only with an outcome"])
        if order.numbered == "resource_spec" and "{n}" not in (order.resource_spec or ""):
            raise ConfigError(["numbered: 'resource_spec': only with a resource_spec that has {n} in it"])
        if order.ends and (order.outcome is None or order.outcome in STAGES):
            raise ConfigError(["ends: only with an outcome that is not in flight"])
        _learn_message(world, order)
        ids = [
            # As the rows are served, not as the table numbers them.
            number + self._simulator.quirks.id_offset
            for one in _one_by_one(order)
            for number in world.inject(
                listing, one.job_type, one.count, one.outcome, one.msg_code, one.ends, one.resource_spec
            )
        ]
        return _json({"ids": ids})

    async def incident(self, request: web.Request) -> web.Response:
        order = await _order(request, IncidentOrder)
        world = self._simulator.present()
        listings = frozenset(
            number
            for number, listing in enumerate(world.listings)
            if order.project in (None, listing.project_id) and order.workspace in (None, listing.workspace_id)
        )
        if not listings:
            raise ConfigError(
                [f"project, workspace: {order.project!r}, {order.workspace!r}: not one of this simulator's"]
            )
        _learn_message(world, order)
        until_ms = world.now_ms + int(order.seconds * 1000)
        world.incidents.begin(
            Incident(listings, order.job_type, order.outcome, order.share, until_ms, order.msg_code)
        )
        return _json({"until_ms": until_ms})


def _one_by_one(order: JobsOrder) -> list[JobsOrder]:
    """Split a numbered order into one order for each job."""
    if order.numbered is None:
        return [order]
    orders = []
    for n in range(1, order.count + 1):
        value: object = f"{getattr(order, order.numbered)}_{n}"
        if order.numbered == "msg_code":
            value = (order.msg_code or 0) + n
        elif order.numbered == "resource_spec":
            value = (order.resource_spec or "").replace("{n}", str(n))
        orders.append(msgspec.structs.replace(order, count=1, **{order.numbered: value}))
    return orders


def _learn_message(world: World, order: JobsOrder | IncidentOrder) -> None:
    if order.msg_error and not order.msg_code:
        raise ConfigError(["msg_error: found without msg_code, expected both"])
    # The table keeps numbers only, so a code has one message for all jobs.
    if order.msg_code and order.msg_error:
        world.messages[order.msg_code] = order.msg_error


def _plain(handler: Handler) -> Handler:
    """Answer an invalid order with 400 and one readable line."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except (ConfigError, msgspec.MsgspecError) as error:
            return _json({"error": str(error)}, 400)

    return answer


async def _order(request: web.Request, kind: type[T]) -> T:
    return msgspec.json.decode(await request.read(), type=kind)


def _whole_number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name) or str(default)
    if not text.isascii() or not text.isdigit():
        raise ConfigError([f"{name}: {text!r}: expected a whole number of milliseconds"])
    return int(text)


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body) + b"\n", status=status, content_type="application/json"
    )
