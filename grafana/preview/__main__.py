"""
Draw the dashboards as PNG files, through a headless Chromium.

    python -m grafana.preview --prometheus http://127.0.0.1:9090 --output docs/images
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from grafana.files import DASHBOARDS
from grafana.preview.answers import all_chosen
from grafana.preview.filling import Window
from grafana.preview.page import WIDTH, height, page
from grafana.preview.prometheus import Prometheus
from grafana.preview.view import DashboardView

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m grafana.preview", description="Draw the dashboards.")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="its URL")
    parser.add_argument("--output", type=Path, default=Path("docs/images"), help="the folder to write to")
    parser.add_argument("--at", type=float, default=None, help="the end of what is shown, in Unix seconds")
    parser.add_argument("--scrape", type=int, default=30, help="how often Prometheus scrapes, in seconds")
    arguments = parser.parse_args()
    end = time.time() if arguments.at is None else arguments.at
    arguments.output.mkdir(parents=True, exist_ok=True)
    for file in sorted(DASHBOARDS.glob("*.json")):
        dashboard = DashboardView.read(file)
        window = Window(end - dashboard.range_seconds, end, scrape=arguments.scrape)
        drawn = page(dashboard, Prometheus(arguments.prometheus), window, all_chosen(dashboard))
        picture = arguments.output / f"dashboard-{dashboard.uid.removeprefix('octopus-')}.png"
        photograph(drawn, picture, WIDTH, height(dashboard))
        shrink(picture)
        sys.stdout.write(f"{picture} {picture.stat().st_size // 1024} KiB\n")


def shrink(picture: Path) -> None:
    """Make do with fewer colours, to a third of the size, where pngquant is installed."""
    if shutil.which("pngquant"):
        command = ["pngquant", "--force", "--skip-if-larger", "--output", str(picture), "128", str(picture)]
        subprocess.run(command, check=True)  # noqa: S603 - our own picture


def photograph(html: str, picture: Path, width: int, tall: int) -> None:
    """Let a browser draw the page. Raises: FileNotFoundError without one; CalledProcessError."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise FileNotFoundError(f"no browser: expected one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "page.html"
        source.write_text(html, encoding="utf-8")
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}",
        ]
        command = [browser, *flags, f"--window-size={width},{tall}", f"--screenshot={picture.resolve()}"]
        subprocess.run([*command, source.as_uri()], check=True, capture_output=True)  # noqa: S603 - our own page


if __name__ == "__main__":
    main()
