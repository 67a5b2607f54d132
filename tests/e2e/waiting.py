"""Wait for another process: check repeatedly until a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Only a failing test waits this long, also on a slow machine.
PATIENCE_SECONDS = 180.0
_LOOK_SECONDS = 0.03


def until(look: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """Call until the result is truthy, and return it. After the deadline, fail with `what` was expected."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}; last seen: {seen!r}"
        time.sleep(_LOOK_SECONDS)
    return seen
