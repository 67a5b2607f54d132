"""
Pictures of dashboards, taken by a headless Chromium.

uPlot draws the graphs. It is fetched by npm once, and kept in the user's cache.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from grafana.boards import DASHBOARDS
from grafana.preview.page import WIDTH, page, page_height
from grafana.preview.queries import Prometheus, Window
from grafana.preview.view import DashboardView

Theme = Literal["dark", "light"]
THEMES: tuple[Theme, ...] = get_args(Theme)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
UPLOT = "uplot-1.6.32"
# The integrity that the npm registry states for this version: a mirror, too, has to deliver these bytes.
UPLOT_SHA512 = "KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw=="
PAGE_FILES = [Path(__file__).with_name(name) for name in ("page.css", "page.js")]
UPLOT_FILES = ("uPlot.iife.min.js", "uPlot.min.css")


def draw_all(prometheus: Prometheus, end: float, scrape: int, output: Path, theme: Theme = "dark") -> None:
    """
    Draw every dashboard as it opens, with all variables at All.

    Units: `end`, the end of the time range, in Unix seconds; `scrape` in seconds.
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
    """Draw a dashboard, or only its first `rows`. Variables that are not in `chosen` stand at All."""
    shown = dashboard if rows is None else dashboard.cut(rows)
    html = page(shown, prometheus, window, {**shown.everything, **chosen})
    photograph(html, picture, WIDTH, page_height(shown), theme)
    shrink(picture)
    sys.stdout.write(f"{picture} {picture.stat().st_size // 1024} KiB\n")


def shrink(picture: Path) -> None:
    """Make do with fewer colours, to a third of the size, where pngquant is installed."""
    if shutil.which("pngquant"):
        command = ["pngquant", "--force", "--skip-if-larger", "--output", str(picture), "128", str(picture)]
        subprocess.run(command, check=True)  # noqa: S603 - our own picture


def photograph(html: str, picture: Path, width: int, tall: int, theme: Theme) -> None:
    """Let a browser draw the page. Raises: FileNotFoundError without one; CalledProcessError."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise FileNotFoundError(f"no browser: expected one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "page.html"
        source.write_text(html, encoding="utf-8")
        for file in (*uplot(), *PAGE_FILES):
            shutil.copy(file, folder)
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--blink-settings=preferredColorScheme={THEMES.index(theme)}",
        ]
        size = [f"--window-size={width},{tall}", f"--user-data-dir={folder}"]
        command = [browser, *flags, *size, f"--screenshot={picture.resolve()}"]
        # The axes of the graphs show the browser's local time.
        clock = {**os.environ, "TZ": "UTC"}
        subprocess.run([*command, source.as_uri()], check=True, capture_output=True, env=clock)  # noqa: S603 - our own page


def uplot() -> list[Path]:
    """
    Return uPlot's files, fetched by npm if they are not in the cache.

    Raises: FileNotFoundError without npm; CalledProcessError; ValueError for a package with other content.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "octopus-exporter" / UPLOT
    files = [cache / name for name in UPLOT_FILES]
    if not all(file.exists() for file in files):
        with tempfile.TemporaryDirectory() as folder:
            command = ["npm", "pack", UPLOT.replace("-", "@"), "--silent", "--pack-destination", folder]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - a fixed command
            package = Path(folder) / f"{UPLOT}.tgz"
            digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
            if digest != UPLOT_SHA512:
                raise ValueError(f"{UPLOT}: expected sha512 {UPLOT_SHA512}, got {digest}")
            cache.mkdir(parents=True, exist_ok=True)
            with tarfile.open(package) as archive:
                for file in files:
                    member = archive.extractfile(f"package/dist/{file.name}")
                    assert member is not None  # noqa: S101 - the digest says so
                    file.write_bytes(member.read())
    return files
