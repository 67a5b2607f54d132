"""Shows the progress of a full sync: bars on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from exporter.model import Progress, Target, TargetKey
from exporter.sync.poller import ProgressListener

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBars
    from rich.progress import TaskID

_EVERY_SECONDS = 5.0


class ProgressLines:
    """A log line every few seconds for each target in a full sync."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_at: dict[TargetKey, float] = {}

    def on_progress(self, target: Target, progress: Progress) -> None:
        now = self._clock()
        if now - self._logged_at.setdefault(target.key, now) >= _EVERY_SECONDS:
            self._logged_at[target.key] = now
            structlog.get_logger().info(
                "listing everything",
                project=target.project,
                workspace=target.workspace,
                jobs=progress.rows,
                total=progress.total,
            )

    def on_finished(self, target: Target) -> None:
        self._logged_at.pop(target.key, None)


class TerminalProgress:
    """A bar for each target in a full sync."""

    def __init__(self, bars: ProgressBars) -> None:
        self._bars = bars
        self._tasks: dict[TargetKey, TaskID] = {}

    def on_progress(self, target: Target, progress: Progress) -> None:
        if target.key not in self._tasks:
            name = f"{target.project}/{target.workspace}"
            self._tasks[target.key] = self._bars.add_task(name, total=progress.total)
        self._bars.update(self._tasks[target.key], completed=progress.rows, total=progress.total)

    def on_finished(self, target: Target) -> None:
        task = self._tasks.pop(target.key, None)
        if task is not None:
            self._bars.remove_task(task)


@contextmanager
def progress_listener() -> Iterator[ProgressListener]:
    """Show progress on standard error: as bars on a terminal, and as log lines elsewhere."""
    if not sys.stderr.isatty():
        yield ProgressLines()
        return
    from rich.console import Console  # noqa: PLC0415 - at its first use
    from rich.progress import (  # noqa: PLC0415 - at its first use
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as ProgressBars  # noqa: PLC0415 - at its first use

    console = Console(stderr=True)
    name = TextColumn("listing {task.description}")
    with ProgressBars(
        name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True
    ) as bars:
        yield TerminalProgress(bars)
