"""
Write the dashboards as Grafana reads them.

    python -m grafana [--interval 30s] [--status-page URL] [--repository URL] [--output grafana/dashboards]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from exporter.config.durations import parse_duration
from grafana.boards import DASHBOARDS, POLL_INTERVAL, dashboard_files
from grafana.links import STATUS_PAGE, LinkSettings


def duration(text: str) -> str:
    """Check a duration and return it unchanged. Raises: ValueError, which argparse reports in one line."""
    parse_duration(text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m grafana", description="Write the dashboards.")
    poll = "poll.interval, as 30s (the default)"
    parser.add_argument("--interval", type=duration, default=POLL_INTERVAL, help=poll)
    page = f"the URL by which readers reach the exporter's status page ({STATUS_PAGE})"
    parser.add_argument("--status-page", default=STATUS_PAGE, metavar="URL", help=page)
    runbooks = "the repository with the runbooks; without it, there is no link to them"
    parser.add_argument("--repository", default="", metavar="URL", help=runbooks)
    parser.add_argument("--output", type=Path, default=DASHBOARDS, help="the folder to write to")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    settings = LinkSettings(arguments.status_page.rstrip("/"), arguments.repository)
    for name, content in dashboard_files(arguments.interval, settings).items():
        (arguments.output / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
