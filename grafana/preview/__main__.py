"""
Draw the dashboards as PNG files, from what a Prometheus has.

    python -m grafana.preview --prometheus http://127.0.0.1:9090 --output docs/images
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from grafana.preview.page import THEMES
from grafana.preview.pictures import draw_all
from grafana.preview.queries import Prometheus


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m grafana.preview", description="Draw the dashboards.")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="its URL")
    parser.add_argument("--output", type=Path, default=Path("docs/images"), help="the folder to write to")
    parser.add_argument("--at", type=float, default=None, help="the end of what is shown, in Unix seconds")
    parser.add_argument("--scrape", type=int, default=30, help="how often Prometheus scrapes, in seconds")
    parser.add_argument("--theme", choices=THEMES, default="dark", help="the colours of the page")
    arguments = parser.parse_args()
    end = time.time() if arguments.at is None else arguments.at
    draw_all(Prometheus(arguments.prometheus), end, arguments.scrape, arguments.output, arguments.theme)


if __name__ == "__main__":
    main()
