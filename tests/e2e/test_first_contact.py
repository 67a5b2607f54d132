"""`check --online` against odd servers: what it finds out is what each was told to do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.exporting import Exporter, password, project
from tests.e2e.processes import run
from tests.e2e.simulation import simulations, start_ms

pytestmark = pytest.mark.e2e

HOUR = 3600.0
YEARS_9999 = 200_000_000_000.0


@dataclass(frozen=True, slots=True)
class Server:
    """
    A server and what is to be found out about it.

    Shape: `finds` are paths into the findings with the value there; a function judges it.
    """

    quirks: Mapping[str, Any] = field(default_factory=dict)
    finds: Mapping[str, Any] = field(default_factory=dict)
    jobs: int = 300
    settings: Mapping[str, Any] = field(default_factory=dict)


def row(what: str, **order: Any) -> Mapping[str, Any]:
    """Make every row odd, or those the order names."""
    return {"odd_rows": [{"what": what, **order}]}


def near(seconds: float) -> Any:
    """The simulators' time stands still while the check goes on."""
    return lambda found: abs(found - seconds) < HOUR / 4


PLAIN = {
    "filters.statuses.used": "array",
    "filters.statuses.one_value": "works",
    "filters.statuses.repeated_keys": "works",
    "filters.statuses.comma": "refused",
    "filters.job_types.used": "array",
    "filters.job_types.repeated_keys": "works",
    "filters.start_time": "works",
    "filters.id": "works",
    "filters.workspace_id": "works",
    "filters.offset": "works",
    "filters.changes_only": True,
    "page.longest": 200,
    "page.is_largest": True,
    "page.above": "refused",
    "page.repeated_rows": 0,
    "order": ["created, descending"],
    "totals.verdict": "agree",
    "totals.forms": ["number"],
    "clock.current_time": "read",
    "rows.unreadable": [],
    "rows.rows": 300,
    "rows.workspace_ids": "as asked",
    "rows.durations_in_flight": 0,
    "rows.other_fields": [],
    "body.json": "clean",
    "body.empty_list": ["list"],
}
SERVERS = {
    "plain": Server(finds=PLAIN),
    "few-jobs": Server(jobs=5, finds={"page.longest": 5, "page.is_largest": False, "page.above": "refused"}),
    "no-job": Server(
        jobs=0,
        settings={"jobs_per_day": 0},
        finds={"filters.statuses.used": "unknown", "filters.id": "unknown", "order": [], "rows.rows": 0},
    ),
    # Filters
    "first-value-only": Server(
        {"first_value_only": True},
        {
            "filters.statuses.one_value": "works",
            "filters.statuses.repeated_keys": "first value only",
            "filters.statuses.used": "single",
            "filters.job_types.repeated_keys": "first value only",
            "filters.job_types.used": "single",
            "filters.changes_only": True,
        },
    ),
    "first-value-only-in-full-pages": Server(
        {"first_value_only": True, "clamp_limit": 20, "total_of_page": True},
        {
            "filters.statuses.repeated_keys": "first value only",
            "filters.statuses.used": "single",
            "filters.job_types.repeated_keys": "first value only",
        },
    ),
    "both-values-in-full-pages": Server(
        {"clamp_limit": 5, "omit_total": True},
        {"filters.statuses.repeated_keys": "works", "filters.job_types.repeated_keys": "works"},
        jobs=2000,
    ),
    "comma-arrays": Server(
        {"comma_arrays": True},
        {
            "filters.statuses.repeated_keys": "first value only",
            "filters.statuses.comma": "works",
            "filters.statuses.used": "comma",
            "filters.job_types.used": "comma",
        },
    ),
    "statuses-ignored": Server(
        {"ignore_filters": ["statuses"]},
        {
            "filters.statuses.one_value": "ignored",
            "filters.statuses.repeated_keys": "ignored",
            "filters.statuses.comma": "ignored",
            "filters.statuses.used": "none",
            "filters.job_types.used": "array",
            "filters.changes_only": False,
        },
    ),
    "job-types-ignored": Server(
        {"ignore_filters": ["job_types"]},
        {"filters.job_types.used": "none", "filters.statuses.used": "array"},
    ),
    "start-time-ignored": Server(
        {"ignore_filters": ["start_time"]}, {"filters.start_time": "ignored", "filters.changes_only": False}
    ),
    "id-ignored": Server(
        {"ignore_filters": ["id"]}, {"filters.id": "ignored", "filters.start_time": "works"}
    ),
    "workspace-ignored": Server(
        {"ignore_filters": ["workspace_id"]},
        {"filters.workspace_id": "ignored", "filters.changes_only": False},
    ),
    "all-ignored": Server(
        {"ignore_filters": ["workspace_id", "job_types", "statuses", "start_time", "id"]},
        {
            "filters.statuses.used": "none",
            "filters.job_types.used": "none",
            "filters.id": "ignored",
            "filters.offset": "works",
            "page.longest": 200,
            "totals.verdict": "agree",
        },
    ),
    # Pages
    "limit-clamped-at-100": Server(
        {"clamp_limit": 100},
        {"page.longest": 100, "page.is_largest": True, "page.above": "clamped", "totals.verdict": "agree"},
    ),
    "limit-clamped-at-7": Server(
        {"clamp_limit": 7}, {"page.longest": 7, "page.is_largest": True, "page.above": "clamped"}
    ),
    "limit-above-100-refused": Server(
        {"max_limit": 100}, {"page.longest": 100, "page.is_largest": True, "page.above": "refused"}
    ),
    "limit-above-117-refused": Server(
        {"max_limit": 117}, {"page.longest": 117, "page.is_largest": True, "page.above": "refused"}
    ),
    "limit-up-to-1000": Server(
        {"max_limit": 1000}, {"page.longest": 300, "page.is_largest": False, "page.above": "accepted"}
    ),
    "answers-of-40-MB": Server(
        {"row_padding_bytes": 200_000}, {"page.longest": 100, "page.above": "too long"}
    ),
    "rows-repeated": Server({"repeat_rows": 3}, {"page.repeated_rows": 3, "totals.verdict": "agree"}),
    # Order
    "list-that-moves": Server({"shift": "insert"}, {**PLAIN, "rows.rows": lambda found: found > 300}),
    "one-row-from-the-year-10000": Server(row("year-10000", ids=[250]), PLAIN),
    "created-ascending": Server(settings={"order": "created-asc"}, finds={"order": ["created, ascending"]}),
    "updated-descending": Server(settings={"order": "update-desc"}, finds={"order": ["updated, descending"]}),
    # Totals
    "total-missing": Server({"omit_total": True}, {"totals.verdict": "missing", "totals.forms": ["missing"]}),
    "total-null": Server({"total_form": "null"}, {"totals.verdict": "missing", "totals.forms": ["null"]}),
    "total-minus-one": Server(
        {"total_fixed": -1}, {"totals.verdict": "unusable", "totals.forms": ["negative"]}
    ),
    "total-always-50": Server({"total_fixed": 50}, {"totals.verdict": "constant"}),
    "total-string": Server({"total_form": "string"}, {"totals.verdict": "agree", "totals.forms": ["text"]}),
    "total-float": Server({"total_form": "float"}, {"totals.verdict": "agree", "totals.forms": ["fraction"]}),
    "total-capped-at-250": Server({"total_cap": 250}, {"totals.verdict": "capped", "totals.cap": 250}),
    "total-capped-at-0": Server({"total_cap": 0}, {"totals.verdict": "capped", "totals.cap": 0}),
    "total-of-the-page": Server({"total_of_page": True}, {"totals.verdict": "of the page"}),
    "total-of-the-page-few": Server({"total_of_page": True}, {"totals.verdict": "of the page"}, jobs=90),
    "total-too-low": Server({"total_surplus": -3}, {"totals.verdict": "too low", "totals.rows_off": -3}),
    "total-too-high": Server({"total_surplus": 3}, {"totals.verdict": "too high", "totals.rows_off": 3}),
    "total-far-too-high": Server(
        {"total_surplus": 5000}, {"totals.verdict": "too high", "totals.rows_off": 5000}
    ),
    "rows-hidden": Server({"hidden_ids": [20, 50]}, {"totals.verdict": "too high"}, jobs=150),
    # Empty lists
    "empty-list-null": Server({"empty_list": "null"}, {"body.empty_list": ["null"], "filters.id": "works"}),
    "empty-list-missing": Server({"empty_list": "missing"}, {"body.empty_list": ["missing"]}),
    "empty-list-no-content": Server(
        {"empty_list": "no-content"}, {"body.empty_list": ["no content"], "filters.workspace_id": "works"}
    ),
    # Clocks
    "clock-an-hour-ahead": Server(
        {"clock_ahead_seconds": HOUR}, {"clock.most": near(HOUR), "clock.polls_go_by": near(0)}
    ),
    "clock-an-hour-behind": Server({"clock_ahead_seconds": -HOUR}, {"clock.least": near(-HOUR)}),
    "clock-jumps": Server(
        {"clock_jumps_seconds": [0, HOUR, -HOUR]}, {"clock.least": near(-HOUR), "clock.most": near(HOUR)}
    ),
    "clock-says-year-9999": Server(
        {"clock_text": "9999-12-31T23:59:59Z"}, {"clock.most": lambda found: found > YEARS_9999}
    ),
    "clock-says-soon": Server({"clock_text": "soon"}, {"clock.current_time": "other", "clock.most": None}),
    "all-clocks-ahead": Server(
        finds={
            "clock.most": near(2 * HOUR),
            "clock.rows_ahead": lambda found: found > HOUR,
            "clock.polls_go_by": lambda found: found > HOUR,
        },
        settings={"start_ms": 2 * HOUR},
    ),
    # Rows
    "nulls": Server(
        {"null_absent": True},
        {"rows.fields.end_at": lambda found: "null" in found and "missing" not in found},
    ),
    "workspace-left-out": Server(
        {"omit_workspace_id": True},
        {"rows.workspace_ids": "missing", "rows.fields.workspace_id": {"missing": 300}},
    ),
    "undocumented-field": Server({"extra_fields": True}, {"rows.other_fields": ["extra_info"]}),
    "growing-durations": Server({"growing_durations": True}, {"rows.durations_in_flight": lambda n: n > 0}),
    "ids-beyond-2^53": Server({"id_offset": 2**53}, {"filters.id": "works", "rows.rows": 300}),
    "numbers-as-text": Server(
        row("numbers-text"), {"rows.fields.id": {"number as text": 300}, "rows.unreadable": []}
    ),
    "numbers-with-fraction": Server(row("numbers-float"), {"rows.fields.create_at": {"fraction": 300}}),
    "none-is-zero": Server(row("none-zero"), {"rows.fields.end_at": lambda found: "zero" in found}),
    "none-is-empty": Server(row("none-empty"), {"rows.fields.end_at": lambda found: "empty text" in found}),
    "none-is-minus-one": Server(
        row("none-minus-one"), {"rows.fields.end_at": lambda found: "negative" in found}
    ),
    "update-missing": Server(row("update-missing"), {"rows.fields.update_at": {"missing": 300}}),
    "texts-cut": Server(row("text-surrogate"), {"body.json": "repaired", "rows.unreadable": []}),
    "byte-order-mark": Server({"bom": True}, {"body.json": "repaired"}),
    "gbk": Server({"charset": "gbk", **row("text-chinese")}, {"body.json": "repaired"}),
    "utf-16": Server({"charset": "utf-16"}, {"body.json": "repaired", "rows.rows": 300}),
}
UNREADABLE = {
    "null-row": ("row", "null"),
    "text-row": ("row", "text"),
    "no-id": ("id", "missing"),
    "id-null": ("id", "null"),
    "id-text": ("id", "text"),
    "id-huge": ("id", "number"),
    "no-type": ("job_type", "missing"),
    "type-null": ("job_type", "null"),
    "no-status": ("status", "missing"),
    "status-number": ("status", "number"),
    "no-created": ("create_at", "missing"),
    "created-text": ("create_at", "text"),
    "seconds": ("create_at", "in seconds"),
}
for what, (name, kind) in UNREADABLE.items():
    SERVERS[f"one-row-{what}"] = Server(
        row(what, ids=[250]), {"rows.unreadable": [{"field": name, "found": kind, "rows": 1}]}
    )


GROUPS = {
    "filters": ("plain", "all-ignored"),
    "pages": ("limit-clamped-at-100", "updated-descending"),
    "totals": ("total-missing", "empty-list-no-content"),
    "clocks": ("clock-an-hour-ahead", "all-clocks-ahead"),
    "rows": ("nulls", "utf-16"),
    "unreadable": ("one-row-null-row", "one-row-seconds"),
}


def group(name: str) -> Mapping[str, Server]:
    names, (first, last) = list(SERVERS), GROUPS[name]
    return {one: SERVERS[one] for one in names[names.index(first) : names.index(last) + 1]}


def test_every_server_is_in_one_group() -> None:
    assert [one for name in GROUPS for one in group(name)] == list(SERVERS)


@pytest.mark.parametrize("name", GROUPS)
def test_what_is_found_out_is_what_the_server_does(name: str, tmp_path: Path) -> None:
    """In less than 60 requests and a minute for each; the report says the same as the output."""
    servers = group(name)
    settings = [
        {
            "jobs": one.jobs,
            "quirks": one.quirks,
            **one.settings,
            "start_ms": start_ms(one.settings.get("start_ms", 0)),
        }
        for one in servers.values()
    ]
    with simulations(tmp_path / "simulators", *settings) as simulated:
        urls = {name: one.url for name, one in zip(servers, simulated, strict=True)}
        targets, reported = check_online(tmp_path / "exporter", urls)
        asked = [one.requests("list") for one in simulated]
    assert [one["cost"]["requests"] for one in targets] == asked
    assert max(asked) < 60
    assert [one["cost"]["complete"] for one in targets] == [True] * len(targets)
    # Nothing that the simulator shows by itself looks like a name, an id or a text.
    assert [one["findings"] for one in reported] == [one["findings"] for one in targets]
    assert list(mismatches(servers, targets)) == []


def check_online(folder: Path, urls: Mapping[str, str]) -> tuple[list[Any], list[Any]]:
    """Check targets in one run; give those of the output and those of the report."""
    exporter = Exporter(
        folder, "", projects=[project(url, name, credentials=name) for name, url in urls.items()]
    )
    exporter.config["credentials"] = {name: password(url) for name, url in urls.items()}
    arguments = ("--online", "--format", "json", "--report", "report.json")
    done = run(("check", "--config", exporter.write(), *arguments), folder)
    assert (done.returncode, done.stderr) == (0, "")
    # No ledger.
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "report.json"]
    targets = json.loads(done.stdout)["online"]
    return targets, json.loads((folder / "report.json").read_text())["targets"]


def mismatches(servers: Mapping[str, Server], targets: list[Any]) -> Iterator[tuple[str, str, Any]]:
    """Give the server, the path and what was found, where it is not what the server does."""
    for (name, server), target in zip(servers.items(), targets, strict=True):
        for path, expected in server.finds.items():
            found = at(target["findings"], path)
            if not (expected(found) if callable(expected) else found == expected):
                yield name, path, found


def at(found: Any, path: str) -> Any:
    for key in path.split("."):
        found = found[key]
    return found
