"""
Take the pictures of the status page in the docs: a real exporter in a staged spike, in a real Chromium.

Usage: python -m tests.e2e.status_pictures [FOLDER], docs/images by default. It takes a minute. It needs
Chromium and the fonts DejaVu and Noto Sans CJK; with pngquant, the files are a third of the size.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path
from typing import Any

from grafana.preview.pictures import shrink
from tests.e2e.browser import Tab, browser
from tests.e2e.exporting import Exporter, project
from tests.e2e.simulation import OTHER_PROJECT, PROJECT, Simulation, simulations
from tests.e2e.test_spike_page import DAMAGED, give_a_usual_day
from tests.e2e.waiting import until

PICTURES = (
    ("status-page.png", 1280, "en"),
    ("status-page.zh-CN.png", 1280, "zh"),
    ("status-page-phone.png", 390, "en"),
)
TIME_ZONE = "Asia/Shanghai"
# The targets, with the page above them.
BOTTOM = "document.querySelector('section[aria-labelledby=targets]').getBoundingClientRect().bottom"
MARGIN = 16
SETTINGS = {
    "jobs": 10_000,
    "jobs_per_day": 3000,
    "speed": 1.0,
    "start_ms": None,
    "projects": [PROJECT, OTHER_PROJECT],
    "workspaces": ["0", "7"],
}
FAILURES: tuple[dict[str, Any], ...] = (
    {"job_type": "FRAME_EXTRACT", "msg_code": 3001, "msg_error": DAMAGED, "count": 70},
    {"job_type": "SCENARIO_AUTO_MINING", "msg_code": 3101, "count": 6, "workspace": "7"},
    {
        "job_type": "PACKAGE_IMPORT",
        "outcome": "UPLOAD_FAILED",
        "msg_code": 4002,
        "count": 4,
        "project": OTHER_PROJECT,
    },
)


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as place, simulations(Path(place), SETTINGS) as (simulator,):
        targets = [
            project(simulator.url, "perception", workspaces=["0", "7"]),
            project(simulator.url, "mapping", OTHER_PROJECT),
        ]
        exporter = Exporter(Path(place) / "exporter", simulator.url, projects=targets)
        exporter.change(poll={"interval": "5s", "lookback": "30d"})
        with exporter.ready() as program:
            exporter.scrape_until_polled()
            assert program.stop()[0] == 0
        give_a_usual_day(exporter)
        with exporter.ready(), browser(Path(place)) as running:
            exporter.scrape_until_polled()
            fail_jobs(exporter, simulator)
            for name, width, language in PICTURES:
                with running.tab(width=width) as tab:
                    take(tab, f"http://127.0.0.1:{exporter.port}/?lang={language}", width, folder / name)


def fail_jobs(exporter: Exporter, simulator: Simulation) -> None:
    """Let these runs fail, and wait until all are counted."""
    orders = [{"outcome": "RUN_FAILED"} | failure for failure in FAILURES]
    jobs = {str(job_id) for order in orders for job_id in simulator.create_jobs(**order)}

    def counted() -> bool:
        failures = exporter.page("api/v1/failures").json["failures"]
        return jobs <= {run["job_id"] for run in failures}

    until(counted, f"{len(jobs)} failed runs")


def take(tab: Tab, url: str, width: int, picture: Path) -> None:
    """Take a picture of a page down to its targets."""
    tab.command("Emulation.setTimezoneOverride", timezoneId=TIME_ZONE)
    tab.open(url)
    height = int(tab.ask(BOTTOM)) + MARGIN
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    shot = tab.command("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
    picture.write_bytes(base64.b64decode(shot["data"]))
    shrink(picture)


if __name__ == "__main__":
    main(Path(*sys.argv[1:] or ("docs/images",)))
