"""The rules: the committed ones are the generated, Prometheus takes them, every alert fires and is silent."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from exporter import __version__
from exporter.config.durations import parse_duration
from exporter.errors import ConfigError
from exporter.exposition.families import FAMILIES
from exporter.model import FAILED_STATUSES, IN_FLIGHT_STATUSES, JOB_TYPES
from exporter.rules import (
    ALERTMANAGER,
    RULE_OBJECT,
    RULES,
    SETTINGS,
    Settings,
    generate,
    generate_alertmanager,
    load_settings,
)
from exporter.rules.settings import RESERVED_LABELS
from tests.charts import LIMIT_OF_ANNOTATIONS, LIMIT_OF_RULES, problems, size
from tests.e2e.prometheus import program
from tests.promql import nodes
from tests.promtool_rules import with_needed_rules

ROOT = Path(__file__).parent.parent
PROMETHEUS = ROOT / "prometheus"
RULE_FILE = PROMETHEUS / "rules" / RULES
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
ALERTMANAGERS = [PROMETHEUS / "alertmanager.yml", ROOT / "deploy" / "compose" / "alertmanager.yml"]

# It fires always, so there is nothing to wait for and nothing to resolve.
WATCHDOG = "OctopusWatchdog"
# The status page does not answer where the exporter is down.
WITHOUT_AN_EXPORTER = {"OctopusExporterDown", "OctopusExporterInstanceDown"}

_ALERTNAME = re.compile(r'alertname="(\w+)"')
_SEVERITY = re.compile(r'severity="(\w+)"')
_WINDOW = re.compile(r"\[(\w*[a-z])[\]:]")


def rules(text: str = RULE_FILE.read_text(encoding="utf-8")) -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(text)["groups"]:
        yield from group["rules"]


ALERTS = [rule for rule in rules() if "alert" in rule]


def changed(**sections: Any) -> Settings:
    """Give the settings with some sections' keys replaced."""
    document = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    for name, keys in sections.items():
        document[name] = document[name] | keys if isinstance(keys, dict) else keys
    return Settings.model_validate(document)


# --- the generator


def test_what_is_committed_is_what_is_generated() -> None:
    assert {RULES: RULE_FILE.read_text(encoding="utf-8")} == generate(load_settings())
    assert ALERTMANAGERS[0].read_text(encoding="utf-8") == generate_alertmanager(load_settings())


def test_check_tells_which_file_differs(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "prometheus.generate", "--output", tmp_path)
    written = {tmp_path / "rules" / RULES, tmp_path / ALERTMANAGER}
    assert told(*command, "--check") == (1, {f"{file}: differs from what is generated" for file in written})
    assert told(*command) == (0, set())
    assert told(*command, "--check") == (0, set())
    (tmp_path / ALERTMANAGER).write_text("mine\n")
    assert told(*command, "--check") == (1, {f"{tmp_path / ALERTMANAGER}: differs from what is generated"})


@pytest.mark.parametrize(
    "command",
    [
        (sys.executable, "-m", "prometheus.generate", "--format", "prometheusrule", "--output"),
        (sys.executable, "-m", "exporter", "files", "rules", "--format", "prometheusrule", "--output"),
    ],
    ids=["generate", "files"],
)
def test_the_operator_takes_the_rules_as_its_object(tmp_path: Path, command: tuple[str, ...]) -> None:
    """It checks the object's schema, its size, and the rules as Prometheus does."""
    assert told(*command, tmp_path) == (0, set())
    (file,) = tmp_path.rglob(RULE_OBJECT)
    rule = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    assert problems(rule) == []
    assert size(rule) < LIMIT_OF_ANNOTATIONS
    (tmp_path / "spec.yml").write_text(yaml.dump(rule["spec"], Dumper=yaml.CSafeDumper))
    assert (tmp_path / "spec.yml").stat().st_size < LIMIT_OF_RULES
    assert told(program("promtool"), "check", "rules", tmp_path / "spec.yml") == (0, set())


def told(*command: str | Path) -> tuple[int, set[str]]:
    """Run a command; give its exit code and the lines of its standard error."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, set(done.stderr.splitlines())


def test_settings_leave_out_what_stays_as_shipped(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("links: {grafana: https://grafana.example}\nspike: {least: 6, pause: 5m}\nstuck:\n")
    assert load_settings(file) == changed(
        links={"grafana": "https://grafana.example"}, spike={"least": 6, "pause": "5m"}
    )


DURATION = "expected a duration such as 30s, 5m, 1h30m or 30d, at least 1ms, at most"
ADDRESS = 'expected an address such as https://grafana.example, or ""'


def test_settings_that_are_wrong_are_named_all_at_once(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "utc_offset: 8\n"
        "spike: {short: soon, least: 0.5, page: {score: 5}}\n"
        "links: {status_page: exporter:10877}\n"
        "keep_label: []\n"
        "keep_labels: cluster\n"
        "stuck: {default: {running: 6h}}\n"
        "exporter: {throttled: {window: 15m, share: 2, for: 15m}}\n"
        "baseline: {days: 29, lest: 1d, known: {runs: 0, failed: 1}}\n"
        "alertmanager: {group_by: [instance]}\n"
        "watchdog: 1\n"
    )
    with pytest.raises(ConfigError) as raised:
        load_settings(file)
    told = [problem.removeprefix(f"{file}:") for problem in raised.value.problems]
    assert told == [
        "1:13: utc_offset: found 8, expected an offset such as +08:00, in quotes",
        f"2:16: spike.short: found soon, {DURATION} 1y",
        "2:29: spike.least: found 0.5, expected a number of 1 or more",
        "2:40: spike.page.ratio: missing, expected a value",
        f"3:22: links.status_page: found exporter:10877, {ADDRESS}",
        f"4:13: keep_label: unknown key, expected one of {', '.join(Settings.model_fields)}",
        "5:14: keep_labels: found cluster, expected a list",
        "6:28: stuck.default.running: found running, expected QUEUING, LAUNCHING, RUNNING or UPLOADING",
        "7:44: exporter.throttled.share: found 2, expected a number between 0 and 1",
        "8:18: baseline.days: found 29, expected a whole number from 1 to 28",
        "8:28: baseline.lest: unknown key, expected one of days, day, least, known, unknown",
        "8:46: baseline.known.runs: found 0, expected a number above 0",
        "9:27: alertmanager.group_by[0]: found instance, expected project, job_type or status",
        "10:11: watchdog: found 1, expected true or false",
    ]


def problems_of(folder: Path, text: str) -> list[str]:
    """Give what is wrong with settings, without the file's name."""
    file = folder / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_settings(file)
    return [problem.removeprefix(f"{file}:") for problem in raised.value.problems]


def test_settings_that_contradict_each_other_are_named_all_at_once(tmp_path: Path) -> None:
    told = problems_of(
        tmp_path,
        "spike:\n"
        "  short: 1h\n"
        "  long: 10m\n"
        "  page: {score: 4, ratio: 0.3}\n"
        "  warn: {score: 5, ratio: 0.5}\n"
        "baseline: {days: 2, day: 12h, least: 1d1s}\n"
        "keep_labels: [cluster, status, cluster, 2nd]\n",
    )
    assert told == [
        "3:9: spike.long: found 10m, expected more than spike.short, 1h",
        "5:17: spike.warn.score: found 5, expected spike.page.score, 4, or less",
        "5:27: spike.warn.ratio: found 0.5, expected spike.page.ratio, 0.3, or less",
        "6:38: baseline.least: found 1d1s, expected at most baseline.days times baseline.day, 1d",
        f"7:24: keep_labels[1]: found status, {KEPT}",
        "7:32: keep_labels[2]: found cluster, expected each label once",
        "7:41: keep_labels[3]: found 2nd, expected the name of a label",
    ]


KEPT = "expected a label that the scrape adds, and none of the metrics, the rules or Prometheus"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("spike: {short: 2h}", "1:8: spike.long: found 1h, expected more than spike.short, 2h"),
        ("spike: {long: 10m}", "1:15: spike.long: found 10m, expected more than spike.short, 10m"),
        ("spike: {long: 2d}", "1:1: baseline.day: found 1d, expected at least the long window of spikes, 2d"),
        (
            "intervals: {poll: 1d}",
            "1:1: baseline.day: found 1d, expected at least the long window of spikes, 2d1m",
        ),
        (
            "baseline: {known: {runs: 20, failed: 30}}",
            "1:38: baseline.known.failed: found 30, expected less than runs, 20",
        ),
        ("clear: {window: 5m}", "1:17: clear.window: found 5m, expected more than clear.step, 10m"),
        ("clear: {limit: 8d}", "1:16: clear.limit: found 8d, expected less than clear.horizon, 7d"),
        ("stuck: {known: 10m}", "1:16: stuck.known: found 10m, expected more than stuck.for, 30m"),
        (
            "alertmanager: {group_by: [project, project]}",
            "1:26: alertmanager.group_by: found a list, expected each label once",
        ),
        (
            "alertmanager: {repeat_interval: 1m}",
            "1:33: alertmanager.repeat_interval: found 1m, expected alertmanager.group_interval, 5m, or more",
        ),
        ("keep_labels: [__name__]", f"1:15: keep_labels[0]: found __name__, {KEPT}"),
    ],
)
def test_settings_contradict_the_shipped_ones_in_one_line(tmp_path: Path, text: str, problem: str) -> None:
    assert problems_of(tmp_path, text) == [problem]


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("spike.pause", "0", f"{DURATION} 1y"),
        ("backlog.window", "0s", f"{DURATION} 1y"),
        ("baseline.day", "2y", f"{DURATION} 1y"),
        ("intervals.scrape", "6m", f"{DURATION} 5m"),
        ("intervals.evaluation", "1h", f"{DURATION} 5m"),
        ("intervals.poll", "-30s", f"{DURATION} 1y"),
        ("spike.least", "-1", "expected a number above 0"),
        ("spike.busy", "0", "expected a number above 0"),
        ("spike.ratio_score", "-6", "expected a number above 0"),
        ("error_code.share", "0", "expected a number above 0"),
        ("error_code.share", "1", "expected a number between 0 and 1"),
        ("error_code.k", "-4", "expected a number above 0"),
        ("backlog.growth", "1", "expected a number above 1"),
        ("clear.jobs", "0", "expected a whole number from 1 up"),
        ("clear.runs", "0", "expected a number above 0"),
        ("resource.share", "1", "expected a number between 0 and 1"),
        ("resource.factor", "0.5", "expected a number of 1 or more"),
        ("stalled.jobs", "0.5", "expected a whole number from 1 up"),
        ("stalled.factor", "0.5", "expected a number of 1 or more"),
        ("stuck.share", "1", "expected a number between 0 and 1"),
        ("stuck.known", "8d", f"{DURATION} 7d"),
        ("stalled.expected", "800", "expected a number of 100 or less"),
        ("alertmanager.heartbeat_interval", "1ms", f"{DURATION} 1y".replace("1ms", "1s")),
    ],
)
def test_a_number_out_of_its_range_is_refused(tmp_path: Path, key: str, value: str, wanted: str) -> None:
    section, name = key.split(".")
    (problem,) = problems_of(tmp_path, f"{section}: {{{name}: {value}}}")
    assert problem.partition(": ")[2] == f"{key}: found {value}, {wanted}"


def test_no_label_that_the_rules_use_can_be_kept() -> None:
    """Those of the metrics they read, those they group by or make, and those that Prometheus makes."""
    text = RULE_FILE.read_text(encoding="utf-8")
    used = {label for family in FAMILIES if family.name in text for label in family.labels}
    for names in re.findall(r"\b(?:by|on|without|group_left) \(([^)]*)\)", text):
        used |= set(filter(None, names.split(", ")))
    used |= set(re.findall(r'label_replace\(.+?, "(\w+)"', text))
    for rule in rules():
        used |= rule.get("labels", {}).keys()
    assert used
    assert used - RESERVED_LABELS == set()
    assert {"alertname", "alertstate", "le", "job", "instance"} <= RESERVED_LABELS
    # What a scrape may well add.
    assert RESERVED_LABELS.isdisjoint({"cluster", "region", "environment", "namespace"})


@pytest.mark.parametrize(("text", "problem"), [("", "is empty"), ("- a\n", "is a list"), ("a: [\n", "found")])
def test_settings_that_are_no_settings_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"mine\.yaml.*: {problem}") as raised:
        load_settings(file)
    assert len(raised.value.problems) == 1


def test_every_window_holds_two_polls_and_two_scrapes() -> None:
    """Where polls are rare, all windows follow."""
    settings = changed(intervals={"poll": "20m", "scrape": "2m"})
    windows = {parse_duration(window) for window in _WINDOW.findall(generate(settings)[RULES])}
    assert min(windows) == 2 * (20 + 2) * 60
    least = load_settings().intervals.least_window
    assert least == 120
    assert all(parse_duration(found) >= least for found in _WINDOW.findall(RULE_FILE.read_text()))


@pytest.mark.prometheus
def test_rare_scrapes_make_no_five_failures_of_four(tmp_path: Path) -> None:
    """A series that fails four times in six minutes, scraped every two, and had a day without failures."""
    settings = changed(intervals={"scrape": "2m", "evaluation": "2m"}, baseline={"days": 1, "least": "2h"})
    (tmp_path / RULES).write_text(generate(settings)[RULES])
    label = 'project="p",workspace="0",job="octopus",instance="a"'
    ended = f'octopus_jobs_completed_total{{{label},job_type="FRAME_EXTRACT",status='
    fires = 'count(ALERTS{alertname="OctopusRunFailedSpike"})'
    test = {
        "interval": "2m",
        "input_series": [
            {"series": f"octopus_poll_last_success_timestamp_seconds{{{label}}}", "values": "0+120x180"},
            {"series": f'{ended}"FINISHED"}}', "values": "0+4x180"},
            {"series": f'{ended}"RUN_FAILED"}}', "values": "3x120 4 5 6 7x57"},
        ],
        "promql_expr_test": [{"expr": fires, "eval_time": f"{at}m"} for at in range(240, 270)],
    }
    file = tmp_path / "test.yml"
    document = {"rule_files": [RULES], "evaluation_interval": "1m", "tests": [test]}
    file.write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [program("promtool"), "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_labels_to_keep_are_kept_everywhere() -> None:
    """In every grouping and matching but those with limits, which are the same for all."""
    text = generate(changed(keep_labels=["cluster"]))[RULES]
    groupings = re.findall(r"\b(?:by|on) \(([^)]*)\)", text)
    kept = [names for names in groupings if {"project", "credentials", "job"} & set(names.split(", "))]
    assert kept
    assert [names for names in kept if "cluster" not in names.split(", ")] == []
    assert set(groupings) - set(kept) <= {"", "status", "job_type", "job_type, status", "msg_code"}
    chosen = [names for names in re.findall(r"printf `([a-z_=%q,]+)`", text) if "project=" in names]
    assert chosen
    assert [names for names in chosen if "cluster=%q" not in names] == []


def test_the_watchdog_can_be_left_out() -> None:
    settings = changed(watchdog=False)
    assert {rule["alert"] for rule in ALERTS} - {
        rule["alert"] for rule in rules(generate(settings)[RULES]) if "alert" in rule
    } == {WATCHDOG}
    text = generate_alertmanager(settings)
    assert WATCHDOG not in text
    assert "heartbeat" not in text


def test_limits_speak_of_what_exists() -> None:
    stuck = load_settings().stuck
    assert set(stuck.default) == set(IN_FLIGHT_STATUSES)
    assert set(stuck.job_types) <= set(JOB_TYPES)
    assert all(set(limits) <= set(IN_FLIGHT_STATUSES) for limits in stuck.job_types.values())


# --- the rules


@pytest.mark.prometheus
def test_prometheus_takes_the_rules() -> None:
    done = subprocess.run(
        [program("promtool"), "check", "rules", "--lint-fatal", RULE_FILE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.prometheus
def test_prometheus_takes_the_scrape_configuration() -> None:
    command = [program("promtool"), "check", "config", str(PROMETHEUS / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.prometheus
@pytest.mark.parametrize("file", ALERTMANAGERS, ids=lambda file: file.parent.name)
def test_alertmanager_takes_the_example(file: Path) -> None:
    check_alertmanager(file)


def check_alertmanager(file: Path) -> None:
    done = subprocess.run(
        [program("amtool"), "check-config", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


OF_OURS: dict[str, dict[str, Any]] = {
    "of two clusters": {"keep_labels": ["cluster", "region"]},
    "one notification for all projects": {"alertmanager": {"group_by": []}},
    "without a watchdog": {"watchdog": False},
}


@pytest.mark.prometheus
@pytest.mark.parametrize("sections", OF_OURS.values(), ids=OF_OURS)
def test_alertmanager_takes_what_settings_of_ones_own_make(tmp_path: Path, sections: dict[str, Any]) -> None:
    (tmp_path / "octopus.tmpl").write_text((PROMETHEUS / "octopus.tmpl").read_text(encoding="utf-8"))
    (tmp_path / ALERTMANAGER).write_text(generate_alertmanager(changed(**sections)))
    check_alertmanager(tmp_path / ALERTMANAGER)


@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ({"alertname": WATCHDOG, "severity": "none"}, "heartbeat"),
        ({"alertname": "OctopusRunFailedSpike", "severity": "critical", "project": "p"}, "on-call"),
        ({"alertname": "OctopusTargetStale", "severity": "critical", "project": "p"}, "on-call"),
        ({"alertname": "OctopusRunFailedSpike", "severity": "warning", "project": "p"}, "office"),
        ({"alertname": "OctopusTargetDown", "severity": "warning", "project": "p"}, "office"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["alertname"],
)
def test_each_severity_goes_to_its_receiver(labels: dict[str, str], receiver: str) -> None:
    command = [program("amtool"), "config", "routes", "test", f"--config.file={ALERTMANAGERS[0]}"]
    pairs = [f"{name}={value}" for name, value in labels.items()]
    done = subprocess.run(
        [*command, f"--verify.receivers={receiver}", *pairs], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_alertmanager_groups_and_mutes_by_the_labels_to_keep() -> None:
    """Else a cluster without its exporter would hide that projects of another one are stale."""
    config = yaml.safe_load(generate_alertmanager(changed(keep_labels=["cluster"])))
    groupings = [route["group_by"] for route in routes(config["route"]) if "group_by" in route]
    equals = [rule["equal"] for rule in config["inhibit_rules"]]
    assert min(len(groupings), len(equals)) > 3
    assert [names for names in groupings + equals if "cluster" not in names] == []


def routes(route: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give a route and all those below."""
    yield route
    for below in route.get("routes", ()):
        yield from routes(below)


def test_alerts_about_the_exporter_are_one_notification_for_all_projects() -> None:
    """Those that lead to the exporter's dashboard, and no others."""
    route = yaml.safe_load(ALERTMANAGERS[0].read_text(encoding="utf-8"))["route"]
    together = [route for route in routes(route) if route.get("group_by") == ["alertname"]]
    (pattern,) = {
        re.sub(r'^alertname=~?"(.+)"$', r"\1", matcher)
        for route in together
        for matcher in route["matchers"]
        if WATCHDOG not in matcher
    }
    expected = {
        rule["alert"] for rule in ALERTS if "/d/octopus-exporter" in rule["annotations"]["dashboard_url"]
    }
    taken = {rule["alert"] for rule in ALERTS if re.fullmatch(pattern, rule["alert"])}
    assert taken == expected - {WATCHDOG}


@pytest.mark.parametrize("example", ALERTMANAGERS, ids=lambda file: file.parent.name)
def test_what_holds_an_alert_back_is_about_the_same(example: Path) -> None:
    """Else a target that is stale hides that another one of its project is down."""
    alerts = labels_by_alert()
    for rule in yaml.safe_load(example.read_text(encoding="utf-8"))["inhibit_rules"]:
        equal = set(rule.get("equal", ()))
        sources, targets = (_matched(rule[side], alerts) for side in ("source_matchers", "target_matchers"))
        assert sources, rule
        assert targets, rule
        assert WATCHDOG not in {kind.name for kind in targets}
        for source, target in product(sources, targets):
            if "alertname" not in equal or source.name == target.name:
                assert alerts[source] & alerts[target] <= equal, (source, target)
                # A label that one of them does not have is never equal.
                assert equal & (alerts[source] ^ alerts[target]) == set(), (source, target)


class Kind(NamedTuple):
    name: str
    severity: str


def labels_by_alert() -> dict[Kind, set[str]]:
    """Give the labels that tell alerts of a kind apart, as promtool's tests have them."""
    found: dict[Kind, set[str]] = {}
    for file in TESTS:
        for text in re.findall(r"labels: 'ALERTS\{(.+)\}'", file.read_text(encoding="utf-8")):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', text))
            kind = Kind(labels.pop("alertname"), labels.pop("severity"))
            found[kind] = labels.keys() - {"alertstate"}
    return found


def _matched(matchers: list[str], kinds: Iterable[Kind]) -> list[Kind]:
    """Give the kinds of alerts that all of the matchers, as alertname=~"One|Other", take."""
    split = [re.split(r"=~?", matcher) for matcher in matchers]
    return [
        kind
        for kind in kinds
        if all(
            re.fullmatch(value.strip('"'), kind.name if label == "alertname" else kind.severity)
            for label, value in split
        )
    ]


def test_the_compose_file_groups_and_holds_back_as_the_example_does() -> None:
    example, compose = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in ALERTMANAGERS)
    assert compose["inhibit_rules"] == example["inhibit_rules"]
    # Nobody is paged there: what pages goes the way of what warns.
    (page,) = (route for route in example["route"]["routes"] if 'severity="critical"' in route["matchers"])
    example["route"]["routes"].remove(page)
    example["route"]["receiver"] = "nobody"
    assert compose["route"] == example["route"]


def test_nothing_counts_the_watchdog_as_a_problem() -> None:
    """Wherever all of our alerts are asked for: the pages, and what dashboards are made of."""
    asked = [
        selector
        for folder in ("", "docs", "prometheus", "benchmarks", "grafana")
        for pattern in ("*.md", "*/*.md", "*/*.json")
        for file in (ROOT / folder).glob(pattern)
        if ".venv" not in file.parts
        for selector in re.findall(r"ALERTS\{([^}]*)\}", file.read_text(encoding="utf-8").replace("\\", ""))
        if re.search(r'alertname=~"Octopus[^A-Z]', selector)
    ]
    assert len(asked) > 6
    assert [selector for selector in asked if 'severity!="none"' not in selector] == []


def test_records_are_named_level_metric_operations() -> None:
    names = [rule["record"] for rule in rules() if "record" in rule]
    assert len(names) > 50
    assert [name for name in names if not re.fullmatch("[a-z_]+:octopus_[a-z_]+:[a-z_]+", name)] == []


def test_without_removes_what_the_rule_has_added() -> None:
    """Another label of the series would get past it, so pint.hcl allows `without` for these labels alone."""
    text = RULE_FILE.read_text(encoding="utf-8")
    removed = {label for labels in re.findall(r"without \(([^)]*)\)", text) for label in labels.split(", ")}
    added = set(re.findall(r'"(\w+)", "\w+", "", ""\)', text))
    assert removed
    assert removed <= added - {label for family in FAMILIES for label in family.labels}


def test_pint_has_nothing_to_say() -> None:
    """Runs where pint is installed; prometheus/README.md says how."""
    pint = shutil.which("pint")
    if pint is None:
        pytest.skip("pint is not installed")
    checks = "--no-color --offline --config prometheus/pint.hcl lint --min-severity info --fail-on info"
    command = [pint, *checks.split(), "prometheus/rules"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_alerts_say_what_is_wrong_and_where_to_go(rule: dict[str, Any]) -> None:
    watchdog = rule["alert"] == WATCHDOG
    assert rule["labels"]["severity"] in ({"none"} if watchdog else {"critical", "warning"})
    annotations = rule["annotations"]
    texts = {"summary", "description", "summary_zh", "description_zh"}
    links = {"runbook_url", "dashboard_url", "status_url"}
    if rule["alert"] in WITHOUT_AN_EXPORTER:
        links -= {"status_url"}
    assert annotations.keys() == texts | links
    assert f"/{rule['alert']}.md" in annotations["runbook_url"]
    assert all((max(annotations[name]) >= "一") == name.endswith("_zh") for name in texts)
    # What pages by a chance that is small enough need not last.
    assert ("for" in rule) == (not watchdog and not rule["alert"].endswith("FailedSpike"))


LINKS = {
    "repository": "https://git.example/team/octopus-exporter/",
    "grafana": "https://grafana.example/g/",
    "status_page": "http://exporter.example:10877/octopus",
}
ROOTS = {
    "runbook_url": f"https://git.example/team/octopus-exporter/blob/v{__version__}/docs/runbooks/",
    "dashboard_url": "https://grafana.example/g/d/octopus-",
    "status_url": "http://exporter.example:10877/octopus/?",
}


@pytest.mark.parametrize("links", [LINKS, LINKS | {"repository": f"{LINKS['repository']}blob/{{tag}}"}])
def test_links_begin_with_what_the_settings_say(links: dict[str, str]) -> None:
    for rule in rules(generate(changed(links=links))[RULES]):
        annotations = rule.get("annotations", {})
        for name, root in ROOTS.items():
            assert annotations.get(name, root).startswith(root)
        assert "$externalLabels" not in "".join(annotations.values())


def test_runbooks_are_read_on_the_site_where_there_is_one() -> None:
    for rule in rules(generate(changed(links=LINKS | {"site": "https://docs.example/octopus/"}))[RULES]):
        if "alert" in rule:
            assert rule["annotations"]["runbook_url"] == (
                f"https://docs.example/octopus/runbooks/{rule['alert']}/"
            )


def test_links_begin_with_external_labels_where_the_settings_say_nothing() -> None:
    labels = {"runbook_url": "repository", "dashboard_url": "grafana", "status_url": "status_page"}
    for rule in ALERTS:
        for name in rule["annotations"].keys() & labels:
            url = rule["annotations"][name]
            assert url.startswith(f"{{{{ with $externalLabels.octopus_{labels[name]} }}}}{{{{ . }}}}/"), url
            assert url.endswith("{{ end }}")


def test_times_are_in_the_time_zone_of_the_settings() -> None:
    text = generate(changed(utc_offset="+05:30"))[RULES]
    assert ") + 19800`" in text
    assert 'Format "15:04" }} UTC+05:30' in text


def test_windows_are_spelt_out_in_chinese() -> None:
    text = generate(changed(backlog={"step": "45m"}, spike={"long": "1d"}))[RULES]
    assert "队列在最近 1 小时 30 分钟内持续增长" in text
    assert "1 天内 {{ $all" in text


def test_every_kind_of_failure_has_its_spike_alert() -> None:
    watched = {
        (status, rule["labels"]["severity"])
        for rule in ALERTS
        for status in FAILED_STATUSES
        if rule["alert"].endswith("FailedSpike") and f'"{status}"' in rule["expr"]
    }
    assert watched == {
        (status, severity) for status in FAILED_STATUSES for severity in ("critical", "warning")
    }
    assert all("keep_firing_for" in rule for rule in ALERTS if rule["alert"].endswith("Spike"))


def test_every_alert_has_a_runbook_and_is_in_their_index() -> None:
    folder = ROOT / "docs" / "runbooks"
    names = {rule["alert"] for rule in ALERTS}
    assert {page.stem for page in folder.glob("Octopus*.md")} == names
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert {name for name in names if index.count(f"({name}.md") < 2} == set()


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "runbooks").glob("Octopus*.md")), ids=lambda p: p.stem
)
def test_a_runbook_is_in_both_languages_and_complete(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Look first", "What it means", "How bad it is", "Usual causes", "Silence it", "中文"]
    chinese = text.partition("## 中文")[2]
    assert [word for word in ("先看什么", "含义", "影响", "常见原因", "静默") if word not in chinese] == []
    assert f"alertname={page.stem} " in text


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_a_runbook_begins_with_the_page_of_its_alert_and_a_command(rule: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "runbooks" / f"{rule['alert']}.md").read_text(encoding="utf-8")
    begin, command, page, chinese = (re.search(pattern, text, re.MULTILINE) for pattern in FIRST_STEPS)
    assert begin
    assert command
    assert page
    assert chinese
    assert chinese[1] == page[1] + ("&" if "?" in page[1] else "?") + "lang=zh"
    asked = re.findall(r"[?&](\w+)=", page[1])
    linked = rule["annotations"].get("status_url", "")
    assert asked == re.findall(r"[?&](\w+)=", linked)


# Where a section begins, and what comes first in it.
FIRST_STEPS = (
    r"^Severity: .+\n\n## Look first\n\n- \*\*Status page:\*\* ",
    r"^- \*\*In a terminal:\*\* .+\n\n  ```sh\n  curl -s '?http://localhost:10877/[^\n]+ \|\n    jq ",
    r"^- \*\*Status page:\*\* <(http://localhost:10877/\S*)>$",
    r"^\*\*先看什么\*\*\n\n- \*\*状态页.\*\* <(http://localhost:10877/\S*)> ",
)


def test_instances_are_aggregated_away_before_anything_is_added_up() -> None:
    """Two exporters of one target count once: a sum is over a maximum, or a quotient of two sums."""
    import promql_parser

    for rule in rules():
        for node in nodes(promql_parser.parse(rule["expr"])):
            if isinstance(node, promql_parser.AggregateExpr) and str(node.op) == "sum":
                bare = nodes(node.expr, around=("max", "min"))
                names = {found.name for found in bare if isinstance(found, promql_parser.VectorSelector)}
                raw = {name for name in names if name and name.startswith("octopus_")}
                assert raw <= {"octopus_api_requests_total"}, rule["expr"]


# --- promtool's tests


@pytest.mark.prometheus
@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_alerts_fire_and_are_silent_as_told(tmp_path: Path, file: Path) -> None:
    """Each test has the rules that it needs: all of them together cost several times as much."""
    document = yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader)
    files = with_needed_rules(tmp_path, document, RULE_FILE.read_text(encoding="utf-8"))
    command = [program("promtool"), "test", "rules", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass(frozen=True, slots=True)
class Look:
    """One check of ALERTS; `fires` where it expects any."""

    test: str
    at: float
    alert: str
    severity: str | None
    fires: bool


def looks() -> Iterator[Look]:
    for file in TESTS:
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            for check in test.get("promql_expr_test", ()):
                alert, severity = _ALERTNAME.search(check["expr"]), _SEVERITY.search(check["expr"])
                assert alert, check["expr"]
                yield Look(
                    test["name"],
                    parse_duration(check["eval_time"]),
                    alert[1],
                    severity[1] if severity else None,
                    bool(check.get("exp_samples")),
                )


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_each_alert_is_seen_firing_resolved_and_silent(rule: dict[str, Any]) -> None:
    if rule["alert"] == WATCHDOG:
        assert [look.fires for look in looks() if look.alert == WATCHDOG] == [True, True]
        return
    mine = [
        look
        for look in looks()
        if look.alert == rule["alert"] and look.severity in {None, rule["labels"]["severity"]}
    ]
    fires = [look for look in mine if look.fires]
    before = {look.test for look in mine for fire in fires if look.test == fire.test and look.at < fire.at}
    resolved = [
        look
        for look in mine
        for fire in fires
        if not look.fires and look.test == fire.test and look.at > fire.at
    ]
    assert fires
    assert before
    assert resolved
    assert [look for look in mine if "silent" in look.test and not look.fires]
