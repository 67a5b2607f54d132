"""
Write the dashboards as Grafana reads them.

    python -m grafana [--interval 30s] [--status-page URL] [--repository URL] [--output grafana/dashboards]
        [--core-hour PRICE] [--gpu-hour PRICE] [--gib-hour PRICE]
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from exporter.config.durations import parse_duration
from grafana.boards import DASHBOARDS, POLL_INTERVAL, dashboard_files
from grafana.links import STATUS_PAGE, LinkSettings
from grafana.resources import PRICES, Prices


def duration(text: str) -> str:
    """Check a duration and return it unchanged. Raises: ValueError, which argparse reports in one line."""
    parse_duration(text)
    return text


def price(text: str) -> float:
    """Read a price. Raises: ValueError."""
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError(text)
    return number


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m grafana", description="Write the dashboards.")
    poll = "poll.interval, as 30s (the default)"
    parser.add_argument("--interval", type=duration, default=POLL_INTERVAL, help=poll)
    page = f"the URL by which readers reach the exporter's status page ({STATUS_PAGE})"
    parser.add_argument("--status-page", default=STATUS_PAGE, metavar="URL", help=page)
    runbooks = "the repository with the runbooks; without it, there is no link to them"
    parser.add_argument("--repository", default="", metavar="URL", help=runbooks)
    for name in PRICES:
        default = getattr(Prices(), name)
        told = f"the default of the price of a {name.replace('_', '-')}, in any currency ({default:g})"
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=price, default=default, metavar="PRICE", help=told
        )
    parser.add_argument("--output", type=Path, default=DASHBOARDS, help="the folder to write to")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    settings = LinkSettings(arguments.status_page.rstrip("/"), arguments.repository)
    prices = Prices(**{name: getattr(arguments, name) for name in PRICES})
    for name, content in dashboard_files(arguments.interval, settings, prices).items():
        (arguments.output / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
