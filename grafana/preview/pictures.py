"""Pictures of dashboards, through a headless Chromium."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from grafana.files import DASHBOARDS
from grafana.preview.answers import all_chosen
from grafana.preview.filling import Window
from grafana.preview.page import WIDTH, Theme, height, page
from grafana.preview.prometheus import Prometheus
from grafana.preview.view import DashboardView

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def draw_all(prometheus: Prometheus, end: float, scrape: int, output: Path, theme: Theme = "dark") -> None:
    """
    Draw every dashboard as it opens, with everything chosen.

    Units: `end` is that of the shown time, in Unix seconds, `scrape` is seconds.
    Raises: QueryError; OSError; CalledProcessError.
    """
    output.mkdir(parents=True, exist_ok=True)
    for file in sorted(DASHBOARDS.glob("*.json")):
        dashboard = DashboardView.read(file)
        window = Window(end - dashboard.range_seconds, end, scrape=scrape)
        picture = output / f"dashboard-{dashboard.uid.removeprefix('octopus-')}.png"
        draw(dashboard, prometheus, window, {}, picture, theme)


def draw(
    dashboard: DashboardView,
    prometheus: Prometheus,
    window: Window,
    chosen: Mapping[str, str],
    picture: Path,
    theme: Theme = "dark",
    rows: int | None = None,
) -> None:
    """Draw a dashboard with these choices, and all of what is not chosen; its first `rows` alone."""
    shown = dashboard if rows is None else dashboard.cut(rows)
    drawn = page(shown, prometheus, window, {**all_chosen(shown), **chosen}, theme)
    photograph(drawn, picture, WIDTH, height(shown))
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
