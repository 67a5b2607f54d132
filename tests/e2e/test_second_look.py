"""`make prometheus`: a real Prometheus with the rules, in front of a real demo."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path
from signal import SIGINT, SIGTERM

import pytest

from tests.e2e.http import ask
from tests.e2e.processes import EXPORTER, first_line, free_port, started
from tests.e2e.prometheus import program
from tests.e2e.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]

WATCH = (sys.executable, "-m", "prometheus.demo")
RULES = Path(__file__).parents[2] / "prometheus" / "rules"


@pytest.mark.parametrize("end", [SIGINT, SIGTERM])
def test_it_scrapes_the_demo_with_the_rules_and_leaves_nothing_behind(tmp_path: Path, end: int) -> None:
    program("prometheus")
    demo = (*EXPORTER, "demo", "--port", "0", "--jobs", "200")
    with started(demo, tmp_path, name="demo") as exporter, socket.create_server(("127.0.0.1", 0)) as taken:
        metrics = first_line(exporter, "metrics")
        port = re.search(r":(\d+)/", metrics)
        assert port is not None
        # A port that is taken is not in the way: Debian's package starts a Prometheus of its own on 9090.
        command = (*WATCH, "--exporter", port[1], "--port", str(taken.getsockname()[1]))
        home = tmp_path / "scratch"
        home.mkdir()
        with started(command, tmp_path, name="watch", environment={"TMPDIR": str(home)}) as watch:
            alerts = first_line(watch, "alerts")
            url = alerts.removesuffix("/alerts")
            groups = ask(f"{url}/api/v1/rules").json["data"]["groups"]
            assert {Path(group["file"]).name for group in groups} == {
                file.name for file in RULES.glob("*.yml")
            }
            alerting = {
                rule["name"] for group in groups for rule in group["rules"] if rule["type"] == "alerting"
            }
            assert "OctopusRunFailedSpike" in alerting
            # "The demo is well where no alert fires."
            assert "OctopusWatchdog" not in alerting

            def jobs() -> float:
                found = ask(f"{url}/api/v1/query?query=sum(octopus_jobs)").json["data"]["result"]
                return float(found[0]["value"][1]) if found else 0

            until(lambda: jobs() >= 200, "the demo's jobs")
            # Until the first scrape the exporter seems to be down; that never lasts long enough to fire.
            until(lambda: ask(f"{url}/api/v1/alerts").json["data"]["alerts"] == [], "no alert")
            assert watch.stop(end)[0] == 0  # type: ignore[arg-type]
        assert list(home.iterdir()) == []
        assert "Traceback" not in watch.errors


def test_it_says_what_is_missing(tmp_path: Path) -> None:
    port = str(free_port())
    with started((*WATCH, "--exporter", port), tmp_path, name="watch") as watch:
        assert watch.wait() == 1
    assert watch.errors == (
        f"prometheus.demo: no demo answers on port {port}: start it in another terminal with `make demo`\n"
    )
    with started(WATCH, tmp_path, name="without", environment={"PATH": str(tmp_path)}) as watch:
        assert watch.wait() == 1
    assert watch.errors == (
        "prometheus.demo: prometheus is not installed: on Debian and Ubuntu, apt-get install prometheus\n"
    )
