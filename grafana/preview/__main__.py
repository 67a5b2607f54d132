"""
Draw the dashboards as PNG files, with the data of a Prometheus.

    python -m grafana.preview --prometheus http://127.0.0.1:9090 --output docs/images
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from grafana.preview.pictures import THEMES, draw_all
from grafana.preview.queries import Prometheus, QueryError


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m grafana.preview", description="Draw the dashboards.")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="the URL of Prometheus")
    parser.add_argument("--output", type=Path, default=Path("docs/images"), help="the folder to write to")
    parser.add_argument("--at", type=float, default=None, help="the end of the time range, in Unix seconds")
    parser.add_argument("--scrape", type=int, default=30, help="its scrape interval, in seconds")
    parser.add_argument("--theme", choices=THEMES, default="dark", help="the colours of the page")
    arguments = parser.parse_args()
    end = time.time() if arguments.at is None else arguments.at
    try:
        draw_all(Prometheus(arguments.prometheus), end, arguments.scrape, arguments.output, arguments.theme)
    except (QueryError, OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
