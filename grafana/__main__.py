"""
Write the dashboards as Grafana reads them.

    python -m grafana [--interval 30s] [--status-page URL] [--repository URL] [--output grafana/dashboards]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from exporter.config.durations import parse_duration
from grafana.files import DASHBOARDS, POLL_INTERVAL, files
from grafana.places import STATUS_PAGE, Places


def duration(text: str) -> str:
    """Take a duration as it is. Raises: ValueError, which argparse tells in a line."""
    parse_duration(text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m grafana", description="Write the dashboards.")
    how_often = "poll.interval, as 30s (the default)"
    parser.add_argument("--interval", type=duration, default=POLL_INTERVAL, help=how_often)
    page = f"the exporter's status page, as readers reach it ({STATUS_PAGE})"
    parser.add_argument("--status-page", default=STATUS_PAGE, metavar="URL", help=page)
    runbooks = "the repository in which the runbooks are read; none: no link to them"
    parser.add_argument("--repository", default="", metavar="URL", help=runbooks)
    parser.add_argument("--output", type=Path, default=DASHBOARDS, help="the folder to write to")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    places = Places(arguments.status_page.rstrip("/"), arguments.repository)
    for name, content in files(arguments.interval, places).items():
        (arguments.output / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
