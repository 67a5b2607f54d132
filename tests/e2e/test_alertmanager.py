"""What a real Alertmanager makes of the alerts: what it mutes, groups and tells again, and the heartbeat."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import yaml

from exporter.rules import SETTINGS, Settings, generate_alertmanager
from tests.e2e.alertmanager import Alertmanager, Heartbeat, alertmanager, heartbeat
from tests.e2e.mail import Mail, Mailbox, mailbox
from tests.e2e.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]

Labels = dict[str, str]


def hurried() -> Settings:
    """Give settings of several clusters, with intervals of a second."""
    document = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    pace = {"group_wait": "1s", "group_interval": "1s", "heartbeat_interval": "1s"}
    document["alertmanager"] |= pace
    return Settings.model_validate(document | {"keep_labels": ["cluster"]})


@dataclass(frozen=True, slots=True)
class Stage:
    """An Alertmanager and what its receivers are told."""

    manager: Alertmanager
    box: Mailbox
    service: Heartbeat

    def mails(self, subject: str) -> list[Mail]:
        return [mail for mail in self.box.mails if subject in mail.subject]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as stack:
        box, service = stack.enter_context(mailbox()), stack.enter_context(heartbeat())
        folder = tmp_path_factory.mktemp("alertmanager")
        yield Stage(stack.enter_context(alertmanager(folder, hurried(), box, service)), box, service)


def one(alertname: str, severity: str, cluster: str, **labels: str) -> Labels:
    return {"alertname": alertname, "severity": severity, "cluster": cluster} | labels


P, JOB = {"project": "p"}, {"job": "octopus"}
RUNS = P | {"status": "RUN_FAILED"}
CUTS, TARGET = RUNS | {"job_type": "FRAME_EXTRACT"}, P | {"workspace": "0"}
CODE = P | {"job_type": "FRAME_EXTRACT", "msg_code": "3001"}
DOWN = one("OctopusExporterDown", "critical", "a", **JOB)
STALE = one("OctopusTargetStale", "critical", "a", **TARGET)
SPREAD = one("OctopusProjectFailedSpike", "critical", "a", **RUNS)
SPIKE = one("OctopusRunFailedSpike", "critical", "a", **CUTS)
HOST = one("HostSlow", "critical", "a", host="x")

# What fires, what fires beside it, and whether that is muted.
MUTES: dict[str, tuple[Labels, Labels, bool]] = {
    "no exporter: its targets": (DOWN, STALE, True),
    "no exporter: another cluster": (DOWN, STALE | {"cluster": "b"}, False),
    "no exporter: the heartbeat": (DOWN, one("OctopusWatchdog", "none", "a"), False),
    "stale: down": (STALE, one("OctopusTargetDown", "warning", "a", **TARGET), True),
    "stale: another workspace": (
        STALE,
        one("OctopusTargetDown", "warning", "a", **TARGET | {"workspace": "1"}),
        False,
    ),
    "stale: another cluster": (STALE, one("OctopusTargetDown", "warning", "b", **TARGET), False),
    "page: its warning": (SPIKE, SPIKE | {"severity": "warning"}, True),
    "page: another cluster": (SPIKE, SPIKE | {"severity": "warning", "cluster": "b"}, False),
    "page: its code": (SPIKE, one("OctopusErrorCodeTakesOver", "warning", "a", **CODE), True),
    "page: another type": (
        SPIKE,
        one("OctopusErrorCodeTakesOver", "warning", "a", **CODE | {"job_type": "PACKAGE_IMPORT"}),
        False,
    ),
    "page: the code of another cluster": (
        SPIKE,
        one("OctopusErrorCodeTakesOver", "warning", "b", **CODE),
        False,
    ),
    "page: nobody else's": (HOST, HOST | {"severity": "warning", "host": "y"}, False),
    "spread: a type": (SPREAD, SPIKE, True),
    "spread: a type that warns": (SPREAD, SPIKE | {"severity": "warning"}, True),
    "spread: its warning": (SPREAD, SPREAD | {"severity": "warning"}, True),
    "spread: its code": (SPREAD, one("OctopusErrorCodeTakesOver", "warning", "a", **CODE), True),
    "spread: another status": (
        SPREAD,
        one("OctopusSubmitFailedSpike", "critical", "a", **CUTS | {"status": "SUBMIT_FAILED"}),
        False,
    ),
    "spread: the warning of another status": (
        SPREAD,
        SPREAD | {"severity": "warning", "status": "SUBMIT_FAILED"},
        False,
    ),
    "spread: another cluster": (SPREAD, SPIKE | {"cluster": "b"}, False),
}


def test_an_alert_mutes_what_follows_from_it_and_nothing_else(stage: Stage) -> None:
    cases = {
        name: (in_place(source, name), in_place(target, name), muted)
        for name, (source, target, muted) in MUTES.items()
        if source["alertname"] in generate_alertmanager(hurried()) or source is HOST
    }
    alerts = [labels for source, target, _ in cases.values() for labels in (source, target)]
    stage.manager.tell(*alerts)

    def muted() -> dict[str, bool] | None:
        by_labels = {
            tuple(sorted(alert["labels"].items())): bool(alert["status"]["inhibitedBy"])
            for alert in stage.manager.alerts()
        }
        found = {name: by_labels.get(tuple(sorted(target.items()))) for name, (_, target, _) in cases.items()}
        return None if None in found.values() else {name: bool(value) for name, value in found.items()}

    wanted = {name: muted for name, (_, _, muted) in cases.items()}
    until(lambda: muted() == wanted, f"what is muted: {wanted}", seconds=20)
    stage.manager.tell(*alerts, seconds=0)


def in_place(labels: Labels, name: str) -> Labels:
    """Give the labels in clusters of this case alone."""
    return labels | {"cluster": f"{name}/{labels['cluster']}"}


def test_forty_projects_without_an_answer_are_one_notification(stage: Stage) -> None:
    projects = [f"project-{number:02}" for number in range(40)]
    stage.manager.tell(*(one("OctopusTargetStale", "critical", "forty", project=name) for name in projects))
    (mail,) = until(lambda: stage.mails("OctopusTargetStale (40 alerts)"), "a mail about forty projects")
    assert mail.to == "on-call@company.example"
    text, _, silence = mail.text.partition("\nSilence: ")
    assert text.count("OctopusTargetStale") == 20
    assert text.endswith("... and more: 40 alerts fire.")
    assert "/#/silences/new?filter=%7Balertname%3D%22OctopusTargetStale%22" in silence


def test_projects_whose_jobs_fail_are_a_notification_each(stage: Stage) -> None:
    alert = {"status": "RUN_FAILED", "job_type": "FRAME_EXTRACT"}
    spikes = [one("OctopusUploadFailedSpike", "critical", "jobs", project=p, **alert) for p in ("p", "q")]
    stage.manager.tell(*spikes)
    until(lambda: len(stage.mails("OctopusUploadFailedSpike")) == 2, "two mails")
    assert all("alerts" not in mail.subject for mail in stage.mails("OctopusUploadFailedSpike"))


def test_a_second_burst_is_told_while_another_alert_of_its_group_fires(stage: Stage) -> None:
    lasting, burst = (
        one("OctopusLedgerDrift", "warning", "again", project="p", status=status)
        for status in ("FINISHED", "STOPPED")
    )
    both, one_left, over = "2 条告警", "[警告] OctopusLedgerDrift", "已恢复"
    stage.manager.tell(lasting, burst)
    until(lambda: len(stage.mails(both)) == 1, "the first burst")
    stage.manager.tell(burst, seconds=0)
    until(lambda: [mail for mail in stage.mails(one_left) if over in mail.text], "its end")
    stage.manager.tell(burst)
    until(lambda: len(stage.mails(both)) == 2, "the second burst")


def test_the_heartbeat_beats_until_prometheus_no_longer_says_that_it_fires(stage: Stage) -> None:
    stage.service.times.clear()
    stage.manager.tell(one("OctopusWatchdog", "none", "heart"), seconds=5)
    until(lambda: len(stage.service.times) >= 3, "three heartbeats")
    until(lambda: time.monotonic() - stage.service.times[-1] > 4, "silence")
    assert stage.service.statuses == {"firing"}
