"""What a Prometheus is asked for, and what is told where it answers otherwise than hoped."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from exporter.backfill.plan import BackfillOptions
from exporter.backfill.prometheus import find_live_series, find_rules, fit_retention
from exporter.commands.backfill import find_recording_rules
from exporter.errors import BackfillError, ConfigError
from exporter.model import Target
from tests.past_jobs import a_past, a_plan

T = TypeVar("T")
NOW_MS = 1_795_000_000_000
DAY_MS = 86_400_000
PASSWORD = "correct-horse-battery"
TARGET = Target("perception", "p1", "0", "0", "cn-north-11", "http://api", "system-jobs", (), "default")
NOTHING = {"resultType": "vector", "result": []}


def asked(
    answers: Mapping[str, Any], ask: Callable[[BackfillOptions], Awaitable[T]], **labels: str
) -> tuple[T, list[web.Request]]:
    """Ask a Prometheus that has these answers by path; the others it does not know."""
    requests: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        requests.append(request)
        found = answers.get(request.path.removeprefix("/prefix/api/v1/"))
        data = found(request.query["query"]) if callable(found) else found
        if data is None:
            return web.Response(status=404, text=f"no such path, {request.headers.get('Authorization')}")
        return web.json_response({"status": "success", "data": data})

    async def run() -> T:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        async with TestServer(app) as server:
            url = str(server.make_url("/prefix/")).replace("://", f"://reader:{PASSWORD}@")
            return await ask(BackfillOptions(NOW_MS, url, labels, NOW_MS - 30 * DAY_MS, 240_000))

    return asyncio.run(run()), requests


def test_the_past_begins_no_earlier_than_samples_are_kept() -> None:
    answers = {"query": NOTHING, "status/runtimeinfo": {"storageRetention": "15d or 10GiB"}}
    (options, notes), requests = asked(answers, fit_retention)
    assert NOW_MS - 15 * DAY_MS <= options.from_ms < NOW_MS - 15 * DAY_MS + options.step_ms
    assert [("15d" in note, "10GiB" in note) for note in notes] == [(True, False), (False, True)]
    # User and password are sent, and shown nowhere.
    assert requests[0].headers["Authorization"].startswith("Basic ")
    assert not any(PASSWORD in note for note in notes)


def test_a_server_that_does_not_tell_how_long_it_keeps_samples_is_named() -> None:
    (options, notes), _ = asked({"query": NOTHING}, fit_retention)
    assert options.from_ms == NOW_MS - 30 * DAY_MS
    assert "does not say how long it keeps samples" in notes[0]


def test_a_prometheus_that_loads_no_overlapping_blocks_is_refused() -> None:
    answers = {
        "query": NOTHING,
        "status/buildinfo": {"version": "2.37.1"},
        "status/flags": {"storage.tsdb.allow-overlapping-blocks": "false"},
    }
    with pytest.raises(ConfigError, match=r"2\.37\.1.*expected 2\.39"):
        asked(answers, fit_retention)


def test_no_prometheus_is_one_line_without_the_password() -> None:
    with pytest.raises(BackfillError) as refused:
        asked({}, fit_retention)
    assert "answers /api/v1/query with 404" in str(refused.value)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["prometheus:9090", "ftp://prometheus", "http://", "http://p?x=1", "http://[::1"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="--prometheus: not a URL"):
        asyncio.run(find_rules(BackfillOptions(NOW_MS, url, {}, NOW_MS - DAY_MS, 240_000)))


def two_instances(query: str) -> dict[str, Any]:
    """Answer as a Prometheus that scrapes b for longer than c, and has scraped a before."""
    first_ms = {"a": NOW_MS - 3 * DAY_MS, "b": NOW_MS - 2 * DAY_MS, "c": NOW_MS - DAY_MS}
    is_live, is_range = query.startswith("timestamp("), query.endswith("ms]")
    result = []
    for instance, at_ms in first_ms.items():
        metric = {"project": "perception", "workspace": "0", "job_type": "T", "status": "FINISHED"}
        one: dict[str, Any] = {"metric": {**metric, "job": "octopus", "instance": instance}}
        if is_range:
            one["values"] = [[at_ms / 1000, "0"], [at_ms / 1000 + 1, "0"]]
        else:
            one["value"] = [NOW_MS / 1000, str(at_ms / 1000 + 1)]
        if not (is_live and instance == "a"):
            result.append(one)
    return {"resultType": "vector", "result": result}


def test_the_instance_that_is_scraped_for_longest_gets_the_past() -> None:
    found, _ = asked({"query": two_instances}, lambda options: find_live_series(options, (TARGET,)))
    (series,) = found.values()
    assert series.labels == {"job": "octopus", "instance": "b"}
    # It ends before any of them.
    assert series.first_ms == NOW_MS - 3 * DAY_MS


def test_the_past_ends_before_the_first_sample_of_any_family() -> None:
    """In a history that is loaded, the gauges begin before the counters."""
    counted_ms, shown_ms = NOW_MS - DAY_MS, NOW_MS - DAY_MS - 28 * 60_000

    def loaded(query: str) -> dict[str, Any]:
        selectors = [
            tuple(map(json.loads, found))
            for found in re.findall(r'__name__=~("[^"]+")[^}]*status=~("[^"]+")', query)
        ]
        # Without their names, these are the same series.
        assert not any("|" in names for names, _ in selectors if "timestamp(" in query)
        first_ms = {
            ("octopus_jobs", "QUEUING"): shown_ms,
            ("octopus_jobs_completed_total", "FINISHED"): counted_ms,
        }
        result = []
        for (name, status), at_ms in first_ms.items():
            if any(re.fullmatch(names, name) and re.fullmatch(wanted, status) for names, wanted in selectors):
                metric = {
                    "__name__": name,
                    "project": "perception",
                    "status": status,
                    "job": "o",
                    "instance": "b",
                }
                is_range = query.endswith("ms]")
                sample = {"values": [[at_ms / 1000, "0"]]} if is_range else {"value": [0, str(at_ms / 1000)]}
                result.append({"metric": metric, **sample})
        return {"resultType": "vector", "result": result}

    found, _ = asked({"query": loaded}, lambda options: find_live_series(options, (TARGET,)))
    assert [series.first_ms for series in found.values()] == [shown_ms]


def test_a_label_chooses_another_instance() -> None:
    found, _ = asked(
        {"query": two_instances},
        lambda options: find_live_series(options, (TARGET,)),
        instance="c",
        cluster="x",
    )
    (series,) = found.values()
    assert series.labels == {"job": "octopus", "instance": "c"}
    assert series.first_ms == NOW_MS - DAY_MS


def test_a_label_that_no_series_has_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match="with instance=a, job=octopus and instance=b, job=octopus and ",
    ):
        asked({"query": two_instances}, lambda options: find_live_series(options, (TARGET,)), instance="d")


def test_without_live_series_it_is_said_what_to_do() -> None:
    with pytest.raises(ConfigError, match="let it scrape the exporter first"):
        asked({"query": NOTHING}, lambda options: find_live_series(options, (TARGET,)))


def test_recording_rules_are_read() -> None:
    rule = {"type": "recording", "name": "a:x", "query": "sum(octopus_jobs)", "labels": {"leg": "short"}}
    alert = {"type": "alerting", "name": "A", "query": "a:x > 1"}
    rules, _ = asked({"rules": {"groups": [{"interval": 30, "rules": [rule, alert]}]}}, find_rules)
    assert rules is not None
    assert [(one.record, one.labels, one.interval_seconds) for one in rules] == [
        ("a:x", (("leg", "short"),), 30)
    ]
    assert asked({}, find_rules)[0] is None


@pytest.mark.parametrize(
    ("workspaces", "lacking"), [(["0"], None), (["0", "1", "2"], "1, perception, workspace 2")]
)
def test_rules_have_no_history_while_a_workspace_of_their_project_has_none(
    workspaces: list[str], lacking: str | None
) -> None:
    """They add up the workspaces: what is made of some of them would stand among the true records."""

    def live(query: str) -> dict[str, Any]:
        assert query == 'group by (workspace) (octopus_jobs_completed_total{project="perception"})'
        result = [{"metric": {"workspace": name}, "value": [0, "1"]} for name in workspaces]
        return {"resultType": "vector", "result": result}

    rule = {"type": "recording", "name": "a:x", "query": "sum(octopus_jobs)"}
    answers = {"query": live, "rules": {"groups": [{"interval": 30, "rules": [rule]}]}}
    plan = a_plan(a_past(NOW_MS))
    (rules, notes), _ = asked(answers, lambda options: find_recording_rules(options, plan))
    assert [one.record for one in rules] == ([] if lacking else ["a:x"])
    assert (
        notes == []
        if lacking is None
        else notes[0].endswith(f"no samples of perception, workspace {lacking}")
    )


def test_the_history_of_the_rules_ends_where_the_first_live_series_begin() -> None:
    answers = {"query": NOTHING, "rules": None}
    plan = a_plan(a_past(NOW_MS), a_past(NOW_MS - DAY_MS))
    (rules, notes), _ = asked(answers, lambda options: find_recording_rules(options, plan))
    assert rules
    assert "ends at 2026-11-17 11:06 UTC, where the first live series begin" in notes[0]
