"""
Write the dashboards as Grafana reads them.

    python -m grafana [--interval 30s] [--output grafana/dashboards]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from grafana.files import DASHBOARDS, POLL_INTERVAL, files


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m grafana", description="Write the dashboards.")
    parser.add_argument("--interval", default=POLL_INTERVAL, help="poll.interval, as 30s (the default)")
    parser.add_argument("--output", type=Path, default=DASHBOARDS, help="the folder to write to")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, content in files(arguments.interval).items():
        (arguments.output / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
