"""
Faults of this program: exceptions that nothing foresaw. They cost one piece of work and not the process.

Each is logged with its traceback when it is first met, and not again while it lasts.
"""

from __future__ import annotations

from typing import Any

import structlog


class FaultLog:
    """
    The faults that one recurring piece of work has met since it last succeeded.

    Shape: `words` go into each log line.
    """

    def __init__(self, **words: Any) -> None:
        self._words = words
        self._met: set[tuple[str, str, int]] = set()

    def met(self, what: str, exc: BaseException) -> None:
        """Log that `what` failed: with the traceback where this fault is new."""
        log, place = structlog.get_logger().bind(**self._words), _place(exc)
        if place in self._met:
            log.debug(f"{what} again", error=f"{type(exc).__name__}: {exc}")
            return
        self._met.add(place)
        log.error(f"{what}: a fault of the exporter, please report it", exc_info=exc)

    def over(self) -> None:
        """The work has succeeded: the next fault is logged whatever it is."""
        self._met.clear()


def _place(exc: BaseException) -> tuple[str, str, int]:
    """Give what tells faults apart: the kind of exception, and the line that raised it."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(exc).__name__, "", 0
    return type(exc).__name__, trace.tb_frame.f_code.co_filename, trace.tb_lineno
