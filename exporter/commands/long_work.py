"""What commands that take long have in common: how they are stopped, and how they show their progress."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from exporter.commands.output import print_error

_LINE_EVERY_SECONDS = 5.0


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, so that no unfinished file stays behind."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        print_error("asked to stop")
        raise SystemExit(1)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def work_progress(verb: str, what: str, unit: str, total: int) -> Iterator[Callable[[str, int], None]]:
    """
    Show progress on standard error: a bar on a terminal, else a line now and then.

    Shape: `what` is worked on first. The result takes what is worked on now, and how many units more are
    done.
    """
    if not sys.stderr.isatty():
        yield _progress_lines(verb, unit, total)
        return
    from rich.console import Console  # noqa: PLC0415 - at its first use
    from rich.progress import (  # noqa: PLC0415 - at its first use
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(f"{verb} {{task.description}}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda now, more: bars.update(bar, description=now, advance=more)


def _progress_lines(verb: str, unit: str, total: int) -> Callable[[str, int], None]:
    done, told_at = 0, time.monotonic()

    def on_more(now: str, more: int) -> None:
        nonlocal done, told_at
        done += more
        if time.monotonic() - told_at >= _LINE_EVERY_SECONDS:
            told_at = time.monotonic()
            print_error(f"{verb} {now}: {done:,} of {total:,} {unit}")

    return on_more


def mebibytes(number: int) -> str:
    """Write a number of bytes for people."""
    return f"{number / 1_048_576:,.1f} MiB"
