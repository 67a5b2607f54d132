"""Durations as Prometheus spells them: `30s`, `1h30m`, `500ms`."""

from __future__ import annotations

import re

_UNITS_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
# Prometheus keeps a duration in 64 bits of nanoseconds; what is longer would be no duration there.
_LONGEST_MS = (2**63 - 1) // 1_000_000

PATTERN = "0|" + "".join(rf"(?:(?P<{unit}>[0-9]+){unit})?" for unit in _UNITS_MS)
_DURATION = re.compile(PATTERN)


def parse_duration(text: str) -> float:
    """
    Read a duration.

    Shape: the units y w d h m s ms in this order, each at most once; only 0 goes without a unit.
    Units: seconds.
    Raises: ValueError (anything else, or more than some 292 years).
    Source: Prometheus, "Configuration", the <duration> placeholder, read 2026-11.
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError("not a duration")
    total_ms = sum(int(count) * _UNITS_MS[unit] for unit, count in match.groupdict("0").items())
    if total_ms > _LONGEST_MS:
        raise ValueError("too long a duration")
    return total_ms / 1000


def format_duration(seconds: float) -> str:
    """Spell a duration, to the millisecond, in days and what is left: what reads back as the same."""
    left = round(seconds * 1000)
    spelled = ""
    for unit in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, _UNITS_MS[unit])
        spelled += f"{count}{unit}" if count else ""
    return spelled or "0s"
