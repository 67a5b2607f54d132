"""
What a Prometheus has of the live series, by its HTTP API: labels, first samples, retention, overlaps, rules.

VictoriaMetrics, Mimir and Thanos answer the same queries. They may lack the other endpoints: then
retention, version or rules are unknown, and a line says so.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote, urlsplit

from exporter.backfill.plan import BackfillOptions, BackfillPlan, LiveSeries, TargetPlan, matchers, utc_text
from exporter.backfill.rule_history import RecordingRule
from exporter.config.durations import format_duration, parse_duration
from exporter.errors import ApiError, BackfillError, ConfigError, one_line
from exporter.exposition.families import JOB_SUBMITTING_DURATION, JOBS, JOBS_COMPLETED
from exporter.masking import Secrets
from exporter.model import Target, TargetKey
from exporter.octopus.messages import NullObserver, Request, Response, split_endpoint
from exporter.octopus.transport import Transport, open_session

_TIMEOUT_SECONDS = 120.0
# Each job type of a target has series of these statuses from the first publication on.
_STATUSES = "FINISHED|RUN_FAILED"
# One of these families has the first sample of a target. Live, all families begin together. In a history that
# is loaded, the gauges begin first, and a run may start before another one ends.
_FIRST = (JOBS.name, JOBS_COMPLETED.name, f"{JOB_SUBMITTING_DURATION.name}_count")
# The last one is empty, for the histogram, which has no status.
_FIRST_STATUSES = f"{_STATUSES}|QUEUING|RUNNING|"
# Prometheus uses a sample for five minutes: a series that is sampled this often is seen at each step.
_STEP_MS = 300_000
# From this version on, Prometheus loads blocks that overlap others without a flag.
_OVERLAPS_SINCE = (2, 39)
_OWN_LABELS = frozenset({"__name__", *JOBS_COMPLETED.labels})

_UNASKED = (
    "without --prometheus it is unknown how long Prometheus keeps samples (15d by default; it deletes older"
    " blocks), whether it has samples of this time already, and when its first live sample was. So the"
    " history ends at the first poll"
)

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Instance:
    """The series of a target that one exporter gives. Units: `first_ms`, of the first sample."""

    labels: Labels
    first_ms: int
    is_live: bool


async def fit_retention(options: BackfillOptions) -> tuple[BackfillOptions, Sequence[str]]:
    """
    Let the history begin no earlier than Prometheus keeps samples: it deletes older ones at once.

    Shape: the options with this beginning, and lines to print. Called first.
    Raises: BackfillError (no answer, no Prometheus); ConfigError (an unusable URL, or one too old a version).
    """
    async with _opened(options) as api:
        await api.query("vector(1)", options.now_ms)
        await _refuse_old(api)
        found = await api.try_get("/api/v1/status/runtimeinfo")
        if found is None or not isinstance(found.get("storageRetention"), str):
            return options, [
                f"{api.name} does not say how long it keeps samples: it must keep all of the history"
            ]
        notes = []
        for part in found["storageRetention"].split(" or "):
            try:
                kept_ms = round(parse_duration(part.strip()) * 1000)
            except ValueError:
                notes.append(f"{api.name} keeps no more than {part} and deletes the oldest blocks first")
                continue
            oldest_ms = options.now_ms - kept_ms
            # 0 says that there is no limit.
            if kept_ms > 0 and options.from_ms < oldest_ms:
                step_ms = options.step_ms
                options = replace(options, from_ms=-(-oldest_ms // step_ms) * step_ms)
                notes.append(
                    f"{api.name} deletes samples after {format_duration(kept_ms / 1000)}: the history begins"
                    f" at {utc_text(options.from_ms)}; for more, raise --storage.tsdb.retention.time first"
                )
        return options, notes


async def _refuse_old(api: _Api) -> None:
    """Refuse a Prometheus that does not load blocks which overlap its own."""
    build = await api.try_get("/api/v1/status/buildinfo") or {}
    version = str(build.get("version", ""))
    numbers = version.split(".")[:2]
    if len(numbers) < 2 or not all(number.isdigit() for number in numbers):
        return
    # VictoriaMetrics gives 2.24.0 here, whatever its own version is, and has no such flags.
    flags = await api.try_get("/api/v1/status/flags") or {}
    allowed = str(flags.get("storage.tsdb.allow-overlapping-blocks", "true"))
    if tuple(map(int, numbers)) < _OVERLAPS_SINCE and allowed == "false":
        problem = (
            f"--prometheus: {api.name} has version {version}, which loads no blocks that overlap others;"
            " expected 2.39 or later, or the flag --storage.tsdb.allow-overlapping-blocks"
        )
        raise ConfigError([problem])


async def find_live_series(
    options: BackfillOptions, targets: Sequence[Target]
) -> Mapping[TargetKey, LiveSeries]:
    """
    Read what Prometheus has of the live series of each target; called first, with `options.prometheus` given.

    Several exporters may export the same target. Rules and dashboards take the largest value of them. So one
    exporter gets the history: of those that are scraped now, the one with the oldest sample.
    `options.labels` choose another one.
    Shape: a target without a live series is left out.
    Raises: BackfillError (no answer, no Prometheus); ConfigError (--prometheus, --label: what to give).
    """
    found: dict[TargetKey, LiveSeries] = {}
    problems: list[str] = []
    async with _opened(options) as api:
        for target in targets:
            instances = await _instances(api, options, target.key)
            matching = [one for one in instances if _matches(one.labels, options.labels)]
            if instances and not matching:
                there = " and ".join(sorted(_differing([one.labels for one in instances])))
                problems.append(
                    f"--label: {api.name} has no series of {target.key.text} with these labels;"
                    f" it has them with {there}"
                )
            if matching:
                found[target.key] = _live_series(matching)
    if problems:
        raise ConfigError(problems)
    if not found and not {"job", "instance"} <= options.labels.keys():
        problem = (
            f"--prometheus: {api.name} has no series {JOBS_COMPLETED.name} of these targets: let it scrape"
            " the exporter first, or give the labels that it will add, as --label job=octopus"
            " --label instance=exporter:10877"
        )
        raise ConfigError([problem])
    return found


def _live_series(instances: Iterable[_Instance]) -> LiveSeries:
    ranked = sorted(instances, key=lambda one: (not one.is_live, one.first_ms, one.labels))
    chosen = ranked[0]
    return LiveSeries(dict(chosen.labels), min(one.first_ms for one in ranked), chosen.first_ms)


def _matches(labels: Labels, given: Mapping[str, str]) -> bool:
    """Tell whether no given label contradicts those of a series; one that it lacks does not."""
    return all(given.get(name, value) == value for name, value in labels)


async def _instances(api: _Api, options: BackfillOptions, key: TargetKey) -> list[_Instance]:
    """Read which exporters export a target, and the first sample of each since the history begins."""
    selector = _selector(key, status=_FIRST_STATUSES, names="|".join(_FIRST))
    # Without their names, series of two families may have the same labels.
    times = " or ".join(f"timestamp({_selector(key, status=_FIRST_STATUSES, names=name)})" for name in _FIRST)
    live = await api.query(times, options.now_ms)
    span_ms = max(options.now_ms - options.from_ms, 0) + 2 * _STEP_MS
    earliest = await api.query(f"min_over_time(({times})[{span_ms}ms:{_STEP_MS}ms])", options.now_ms)
    # The first step at which a series is seen may be up to a step after its first sample: the samples
    # themselves tell.
    near_ms = {round(float(one["value"][1]) * 1000) for one in (*live, *earliest)}
    first_ms: dict[Labels, int] = {}
    for at_ms in near_ms:
        for one in await api.query(f"{selector}[{_STEP_MS}ms]", at_ms):
            labels = _added(one["metric"])
            found_ms = [round(float(at) * 1000) for at, _ in one["values"]]
            first_ms[labels] = min(*found_ms, first_ms.get(labels, found_ms[0]))
    scraped = {_added(one["metric"]) for one in live}
    return [_Instance(labels, at_ms, labels in scraped) for labels, at_ms in first_ms.items()]


def _added(metric: Mapping[str, str]) -> Labels:
    """Give the labels that Prometheus has added to the exporter's own."""
    return tuple(sorted((name, value) for name, value in metric.items() if name not in _OWN_LABELS))


async def check_history(options: BackfillOptions, plan: BackfillPlan) -> Sequence[str]:
    """
    Look for samples that Prometheus has of this time already, and for other instances; give warnings.

    Called with the whole plan, before the API is read and anything is written.
    Raises: BackfillError (no answer); ConfigError (these files must not be loaded).
    """
    if options.prometheus is None:
        return [_UNASKED]
    notes: list[str] = []
    problems: list[str] = []
    async with _opened(options) as api:
        for target in plan.targets:
            problems += await _loaded_before(api, target)
            notes += await _other_instances(api, options, target)
    if problems:
        raise ConfigError(problems)
    return notes


async def _loaded_before(api: _Api, plan: TargetPlan) -> list[str]:
    """Refuse a history where Prometheus has samples already: two histories of one series are no counter."""
    span_ms = plan.until_ms - plan.from_ms
    if span_ms <= 0:
        return []
    counted = await api.query(
        f"sum(count_over_time({_selector(plan.target.key, plan.labels)}[{span_ms}ms]))", plan.until_ms - 1
    )
    if not counted or float(counted[0]["value"][1]) == 0:
        return []
    problem = (
        f"--prometheus: {api.name} has samples of {plan.target.key.text} between {utc_text(plan.from_ms)}"
        f" and {utc_text(plan.until_ms)}: is its history loaded already? A shorter --from leaves them out"
    )
    return [problem]


async def _other_instances(api: _Api, options: BackfillOptions, plan: TargetPlan) -> list[str]:
    live = await api.query(_selector(plan.target.key, status=_STATUSES), options.now_ms)
    instances = {_added(one["metric"]) for one in live}
    if len(instances) < 2:
        return []
    *others, chosen = _differing([*instances, tuple(sorted(plan.labels.items()))])
    there = " and ".join(sorted(others))
    note = (
        f"{plan.target.key.text} is scraped with {there}: the series with {chosen}"
        " get the history. Rules and dashboards take the largest of them; --label NAME=VALUE chooses another"
    )
    return [note]


def _differing(all_labels: Sequence[Labels]) -> list[str]:
    """Name label sets by job and instance, and by what else is not the same in all of them."""
    alike = frozenset.intersection(*map(frozenset, all_labels))
    return [
        ", ".join(
            f"{name}={value}"
            for name, value in labels
            if name in {"job", "instance"} or (name, value) not in alike
        )
        for labels in all_labels
    ]


async def find_other_workspaces(options: BackfillOptions, plan: BackfillPlan) -> Sequence[TargetKey]:
    """
    Name the live workspaces that are not in the plan, of the projects that are.

    Recording rules add up the workspaces of a project. From some of them alone, the records would be too
    small, and would stand among those that Prometheus has.
    Raises: BackfillError (no answer); ConfigError (an unusable URL).
    """
    planned = {target.target.key for target in plan.targets}
    found: list[TargetKey] = []
    async with _opened(options) as api:
        for one in {key.project: key for key in planned}.values():
            selector = f"{JOBS_COMPLETED.name}{{{matchers({'project': one.project})}}}"
            live = await api.query(f"group by (workspace) ({selector})", options.now_ms)
            found += (replace(one, workspace=each["metric"].get("workspace", "")) for each in live)
    known = {(key.project, key.workspace) for key in planned}
    return [key for key in found if (key.project, key.workspace) not in known]


async def find_rules(options: BackfillOptions) -> Sequence[RecordingRule] | None:
    """
    Read the recording rules that Prometheus has loaded; None if it does not give them.

    Raises: BackfillError (no answer); ConfigError (an unusable URL).
    """
    async with _opened(options) as api:
        found = await api.try_get("/api/v1/rules", ("type", "record"))
    if found is None:
        return None
    return [
        RecordingRule(
            record=rule["name"],
            expression=rule["query"],
            labels=tuple(sorted((rule.get("labels") or {}).items())),
            interval_seconds=float(group.get("interval") or 60),
        )
        for group in found.get("groups") or ()
        for rule in group.get("rules") or ()
        if rule.get("type") == "recording"
    ]


@dataclass(frozen=True, slots=True)
class _Api:
    """The HTTP API of one Prometheus. Its user and password are in no text that it gives."""

    transport: Transport
    origin: str
    prefix: str
    headers: Mapping[str, str]
    secrets: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.origin + self.prefix

    async def query(self, expression: str, at_ms: int) -> list[dict[str, Any]]:
        """Evaluate an expression. Raises: BackfillError."""
        data = await self._get(
            "/api/v1/query", ("query", expression), ("time", f"{at_ms / 1000:.3f}"), ("timeout", "110s")
        )
        result = data.get("result")
        if not isinstance(result, list):
            raise BackfillError(f"--prometheus: {self.name} is not a Prometheus: its answer has no result")
        return result

    async def try_get(self, path: str, *query: tuple[str, str]) -> dict[str, Any] | None:
        """Read an endpoint that a server of another kind may not have: None then. Raises: BackfillError."""
        try:
            return await self._get(path, *query)
        except _NotThere:
            return None

    async def _get(self, path: str, *query: tuple[str, str]) -> dict[str, Any]:
        request = Request(
            "GET", self.origin, self.prefix + path, query, headers=self.headers, secrets=self.secrets
        )
        try:
            answer: Response = await self.transport.send(request, "", lambda response, _: response)
        except ApiError as error:
            raise BackfillError(f"--prometheus: {error.message}") from error
        try:
            decoded = json.loads(answer.body)
        except ValueError:
            decoded = None
        if isinstance(decoded, dict) and decoded.get("status") == "success":
            data = decoded.get("data")
            return data if isinstance(data, dict) else {}
        said = decoded.get("error") if isinstance(decoded, dict) else None
        raise _NotThere(f"--prometheus: {self._refusal(path, answer.status, str(said or ''))}")

    def _refusal(self, path: str, status: int, said: str) -> str:
        if status in {401, 403}:
            return (
                f"{self.name} refuses access (status {status}); a user and a password can be part of the URL,"
                " as http://user:password@prometheus:9090"
            )
        if said:
            return (
                f"{self.name} answers {path} with {status}: {one_line(self.transport.secrets.masked(said))}"
            )
        if status >= 500:
            return f"{self.name} answers {path} with {status}"
        return (
            f"{self.name} is not a Prometheus, or its URL has a path prefix that is missing here:"
            f" it answers {path} with {status}, and not with JSON of Prometheus"
        )


class _NotThere(BackfillError):
    """An endpoint that this server does not have, or does not give."""


@asynccontextmanager
async def _opened(options: BackfillOptions) -> AsyncIterator[_Api]:
    url = options.prometheus or ""
    if not _is_usable(url):
        # The URL is not quoted: its password may be anywhere in it.
        raise ConfigError(["--prometheus: not a URL, expected one such as http://prometheus:9090"])
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    headers = {}
    if user or password:
        encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {encoded}"
    secrets = tuple(filter(None, (password, parts.password)))
    origin, prefix = split_endpoint(url)
    async with open_session() as session:
        transport = Transport(
            session=session,
            observer=NullObserver(),
            secrets=Secrets.of(*secrets),
            timeout_seconds=_TIMEOUT_SECONDS,
        )
        yield _Api(transport, origin, prefix, headers, secrets)


def _is_usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no port
    except ValueError:
        return False
    return (
        parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and not parts.fragment
    )


def _selector(
    key: TargetKey,
    labels: Mapping[str, str] | None = None,
    status: str = ".+",
    names: str = JOBS_COMPLETED.name,
) -> str:
    own = {"project": key.project, "workspace": key.workspace, **(labels or {})}
    return f"{{__name__=~{json.dumps(names)},{matchers(own)},status=~{json.dumps(status)}}}"
