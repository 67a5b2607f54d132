"""The alerts, from jobs to a real Alertmanager: what should fire does, with its words, and nothing else."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import __version__
from exporter.rules import SETTINGS, Settings, generate
from tests.e2e.alertmanager import PROMETHEUS, Alert, Alertmanager, Key, alertmanager, heartbeat
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter, password, project
from tests.e2e.mail import Mail, Mailbox, mailbox
from tests.e2e.processes import Program, free_port, started
from tests.e2e.prometheus import Prometheus, program
from tests.e2e.simulation import Simulation
from tests.e2e.waiting import PATIENCE_SECONDS, until

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]

ADVANCE_SECONDS = 20
SPIKES = {
    "RUN_FAILED": "FRAME_EXTRACT",
    "SUBMIT_FAILED": "PACKAGE_IMPORT",
    "UPLOAD_FAILED": "SCENARIO_TO_SIM",
}
SPEC = "V100_8Gpu_64Core_512GiB"
USUAL_WAIT = (
    f'project_resource_spec:octopus_resource_submitting_duration_seconds:limit{{resource_spec="{SPEC}"}}'
)
# (alert, project or job, severity)
OF_JOBS = {
    *(
        (f"Octopus{kind}FailedSpike", "perception", severity)
        for kind in ("Run", "Submit", "Upload")
        for severity in ("critical", "warning")
    ),
    ("OctopusErrorCodeTakesOver", "perception", "warning"),
    ("OctopusJobStuckQueuing", "perception", "warning"),
    ("OctopusJobStuckRunning", "perception", "warning"),
    ("OctopusBacklogGrowing", "perception", "warning"),
    ("OctopusBacklogClearsLate", "perception", "warning"),
    ("OctopusResourceWaitLong", "perception", "warning"),
}
OF_POLLS = {
    ("OctopusCredentialsRefused", "refused", "critical"),
    ("OctopusTargetDown", "refused", "warning"),
    ("OctopusTargetStale", "refused", "critical"),
    ("OctopusThrottled", "throttled", "warning"),
    ("OctopusTargetDown", "throttled", "warning"),
    ("OctopusTargetStale", "throttled", "critical"),
    ("OctopusConfigReloadFailed", "octopus", "warning"),
}
WITH_THE_EXPORTER = {
    ("OctopusExporterDown", "octopus", "critical"),
    ("OctopusTargetStale", "perception", "critical"),
}

# What it says first, and where it leads.
SPIKE = r"FRAME_EXTRACT in perception: \d+ of \d+ runs ended RUN_FAILED in 20s"
WHY = r"Codes: .*(9001|not seen before).*\nWhy: .*\b[12]0s: .*\nSince [0-9:]{5} UTC"
ROOTS = {
    "octopus_repository": "https://git.example/team/octopus-exporter",
    "octopus_grafana": "https://grafana.example",
    "octopus_status_page": "http://exporter.example:10877",
}
RUNBOOK = f"{ROOTS['octopus_repository']}/blob/v{__version__}/docs/runbooks/OctopusRunFailedSpike.md"
DASHBOARD = (
    f"{ROOTS['octopus_grafana']}/d/octopus-project"
    "?var-project=perception&var-job_type=FRAME_EXTRACT&from=now-6h&to=now"
)
STATUS = (
    f"{ROOTS['octopus_status_page']}/?project=perception&job_type=FRAME_EXTRACT&status=RUN_FAILED&since=20s"
)


def test_what_should_fire_reaches_alertmanager_and_nothing_else_does(
    tmp_path: Path, simulate: Simulate
) -> None:
    # Late by what it will be advanced, so that no job is from the future.
    start_ms = int((time.time() - 2 * ADVANCE_SECONDS) * 1000)
    settings: dict[str, Any] = {"jobs": 0, "jobs_per_day": 0, "start_ms": start_ms, "speed": 1.0}
    simulator, throttling = simulate(**settings), simulate(**settings)
    exporter = Exporter(tmp_path / "exporter", simulator.url)
    # Longer than a spike takes to be told: the mail comes before the code of its failures does.
    exporter.change(web={"enable_lifecycle": True}, metrics={"new_series_hold": "10s"})
    with (
        mailbox() as box,
        heartbeat() as service,
        alertmanager(tmp_path, hurried(), box, service) as manager,
        exporter.ready() as running,
        watching(tmp_path, exporter.port, manager.url) as server,
    ):
        live_normally(simulator, server)
        # A machine that is too busy for some scrapes brings these early.
        assert manager.look().keys() <= WITH_THE_EXPORTER

        add_troubled_projects(exporter, running, simulator, throttling)
        fail_and_get_stuck(simulator, server, manager)
        manager.wait_for(OF_JOBS | OF_POLLS)
        check_inhibition(manager)
        check_mails(box)
        running.kill()
        manager.wait_for(WITH_THE_EXPORTER)
        assert manager.seen.keys() == OF_JOBS | OF_POLLS | WITH_THE_EXPORTER
        check_words(manager)
        until(lambda: len(service.times) >= 3, "heartbeats")


def live_normally(simulator: Simulation, server: Prometheus) -> None:
    """Let runs finish, and one of each kind fail, until the rules know what is usual."""
    simulator.create_jobs(job_type="FRAME_EXTRACT", count=40, outcome="FINISHED")
    for status, job_type in SPIKES.items():
        simulator.create_jobs(job_type=job_type, outcome=status, msg_code=1001)
    simulator.advance(ADVANCE_SECONDS)
    server.wait_for("sum(octopus_jobs_completed_total)", 43)
    usual = "count(project:octopus_job_runs:is_known)"
    server.wait_for(usual, 1)


def add_troubled_projects(
    exporter: Exporter, running: Program, simulator: Simulation, throttling: Simulation
) -> None:
    """Reload with a project whose password is wrong and one that is throttled, then with a wrong file."""
    exporter.config["projects"] = [
        project(simulator.url, credentials="default"),
        project(simulator.url, "refused", "a" * 32, credentials="wrong"),
        project(throttling.url, "throttled", credentials="throttling"),
    ]
    exporter.change(
        credentials={
            "wrong": password(simulator.url, password="wrong"),
            "throttling": password(throttling.url),
        }
    )
    exporter.write()
    running.tell(signal.SIGHUP)
    exporter.scrape_until("octopus_up", 1, project="throttled")
    throttling.set_faults("throttle=1")
    exporter.file.write_text("projects: {}\n")
    running.tell(signal.SIGHUP)
    exporter.scrape_until("octopus_exporter_config_last_reload_successful", 0)


def fail_and_get_stuck(simulator: Simulation, server: Prometheus, manager: Alertmanager) -> None:
    """Let many runs fail, some run without end, and a queue grow."""
    for status, job_type in SPIKES.items():
        simulator.create_jobs(job_type=job_type, count=15, outcome=status, msg_code=9001)
    simulator.create_jobs(job_type="SCENARIO_EXTRACT", count=6, outcome="RUNNING")
    simulator.advance(ADVANCE_SECONDS)
    queue(simulator, server, manager)


def queue(simulator: Simulation, server: Prometheus, manager: Alertmanager) -> None:
    """
    Let jobs wait that nobody serves, until the alerts about waiting are told.

    Five jobs a second come into a queue. Jobs that ask for a resource start soon, until none of it is
    left.
    """
    expected = {
        (f"Octopus{what}", "perception", "warning")
        for what in ("BacklogGrowing", "BacklogClearsLate", "ResourceWaitLong")
    }
    asking = {"job_type": "PACKAGE_DELETE", "resource_spec": SPEC}
    simulator.create_jobs(count=30, outcome="FINISHED", **asking)
    deadline = time.monotonic() + PATIENCE_SECONDS
    is_left = True
    while not expected <= manager.seen.keys():
        assert time.monotonic() < deadline, f"not told: {expected - manager.seen.keys()}"
        # The usual wait is known for a minute.
        if is_left and server.query(USUAL_WAIT) is not None:
            simulator.create_jobs(count=4, outcome="QUEUING", **asking)
            is_left = False
        simulator.create_jobs(job_type="SCENARIO_AUTO_MINING", count=5, outcome="QUEUING")
        time.sleep(1)
        manager.look()


def check_words(manager: Alertmanager) -> None:
    """Every template was filled in; Prometheus writes its complaints into the text."""
    for key, alert in manager.seen.items():
        for text in alert["annotations"].values():
            assert [mark for mark in ("<error", "{{", "<no value>", "%!") if mark in text] == [], (key, text)
        assert {name for name in alert["labels"] if name.startswith("octopus_")} == set()
    spike = manager.seen["OctopusRunFailedSpike", "perception", "critical"]["annotations"]
    assert re.fullmatch(rf"{SPIKE} \(usually \d+\)", spike["summary"])
    assert re.fullmatch(WHY, spike["description"])
    assert re.fullmatch(
        r"perception 的 FRAME_EXTRACT.20 秒内 \d+ 次运行中 \d+ 次 RUN_FAILED.*", spike["summary_zh"]
    )
    assert spike["runbook_url"] == RUNBOOK
    assert spike["dashboard_url"] == DASHBOARD
    assert spike["status_url"] == STATUS


def check_mails(box: Mailbox) -> None:
    """What the example's receivers are told: the summary, the codes and the links, in this order."""
    mail = mailed(box, "on-call@company.example", "RUN_FAILED in")
    assert re.fullmatch(rf"\[FIRING critical\] {SPIKE} \(usually \d+\)", mail.subject)
    told = mail.text.splitlines()
    assert told[0] in mail.subject
    # The code itself, if the mail comes after it has been held back as a new one.
    assert re.match(r"Codes: .*(9001|not seen before)", told[1])
    assert told[2].startswith("Why: ")
    links = [f"Status page: {STATUS}", f"Runbook: {RUNBOOK}", f"Dashboard: {DASHBOARD}"]
    assert told[4:7] == links
    chinese = mailed(box, "office@company.example", "个作业一直没有结束").text.strip().splitlines()
    page, runbook, dashboard, silence = (line.partition("http")[2] for line in chinese if "http" in line)
    assert re.fullmatch(r".+/\?project=perception&job_type=[A-Z_]+&lang=zh", page)
    assert runbook.endswith("/OctopusJobStuckRunning.md#中文")
    assert "/d/octopus-project-zh?" in dashboard
    assert "/#/silences/new?filter=%7Balertname%3D%22OctopusJobStuckRunning%22" in silence


def mailed(box: Mailbox, to: str, subject: str) -> Mail:
    """Wait for a mail whose subject has these words."""

    def look() -> Mail | None:
        return next((mail for mail in box.mails if mail.to == to and subject in mail.subject), None)

    mail = until(look, f"a mail about {subject}")
    assert mail is not None
    return mail


def check_inhibition(manager: Alertmanager) -> None:
    """The example's rules hold back what follows from something else, while both are there."""
    down, refused = (
        ("OctopusTargetDown", "refused", "warning"),
        ("OctopusCredentialsRefused", "refused", "critical"),
    )
    warning, page = (
        ("OctopusRunFailedSpike", "perception", severity) for severity in ("warning", "critical")
    )

    def holds(now: dict[Key, Alert]) -> bool:
        if not {down, refused, warning, page} <= now.keys():
            return False
        by = {key: now[key]["status"]["inhibitedBy"] for key in (down, warning, page)}
        wanted = {down: [now[refused]["fingerprint"]], warning: [now[page]["fingerprint"]], page: []}
        return by == wanted

    until(lambda: manager.look() and any(map(holds, manager.looks)), "what is held back")


@contextmanager
def watching(folder: Path, exporter_port: int, alertmanager_url: str) -> Iterator[Prometheus]:
    """Run a Prometheus with the rules of a hurried world: everything in seconds."""
    place = folder / "prometheus"
    place.mkdir()
    (place / "rules").mkdir()
    for name, text in generate(hurried()).items():
        (place / "rules" / name).write_text(text)
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["global"]["external_labels"] = ROOTS
    (job,) = config["scrape_configs"]
    job["scrape_interval"] = "1s"
    job["static_configs"][0]["targets"] = [f"127.0.0.1:{exporter_port}"]
    managers = config["alerting"]["alertmanagers"]
    managers[0]["static_configs"][0]["targets"] = [alertmanager_url.removeprefix("http://")]
    (place / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        *(program("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"),
    ]
    with started(command, place, name="prometheus") as running:
        server = Prometheus(f"http://127.0.0.1:{port}", running)
        until(server.is_ready, f"Prometheus\n{running.errors}")
        yield server
        assert "err" not in running.errors, running.errors


def hurried() -> Settings:
    """Give settings in which an hour is twenty seconds."""
    document = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    changes: dict[str, dict[str, Any]] = {
        "intervals": {"poll": "1s", "audit": "10m", "scrape": "1s", "evaluation": "1s"},
        "spike": {"short": "10s", "long": "20s", "pause": "5m", "keep_firing_for": "5s"},
        "baseline": {"days": 1, "day": "20s", "least": "5s"},
        "error_code": {"for": "2s"},
        "stuck": {
            "for": "2s",
            "job_types": {},
            "default": dict.fromkeys(document["stuck"]["default"], "15s"),
        },
        "backlog": {"window": "4s", "step": "5s", "for": "2s"},
        "clear": {
            "step": "2s",
            "window": "5s",
            "horizon": "2m",
            "limit": "8s",
            "wait": "2s",
            "for": "2s",
            "keep_firing_for": "5s",
        },
        "resource": {
            "window": "10s",
            "share": 0.5,
            "factor": 1,
            "least": "5s",
            "for": "2s",
            "keep_firing_for": "5s",
        },
        "alertmanager": {"group_wait": "1s", "heartbeat_interval": "2s"},
        "stalled": {"least": "25s", "for": "3s"},
        "exporter": {
            "down": "4s",
            "target_down": "5s",
            "stale": "8s",
            "refused": "10s",
            "throttled": {"window": "10s", "share": 0.1, "for": "2s"},
            "clock_skew": {"limit": "1m", "for": "2s"},
        },
    }
    for section, keys in changes.items():
        document[section] |= keys
    return Settings.model_validate(document)
