"""Durations as text: as Prometheus writes them (`30s`, `1h30m`, `500ms`) and as Go does (`1.5s`)."""

from __future__ import annotations

import re

# From long to short, as a duration has to have them.
_UNITS_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
# Prometheus keeps a duration as nanoseconds in 64 bits, so it refuses longer ones.
_LONGEST_MS = (2**63 - 1) // 1_000_000

PATTERN = "0|" + "".join(rf"(?:(?P<{unit}>[0-9]+){unit})?" for unit in _UNITS_MS)
_DURATION = re.compile(PATTERN)

# Unicode has two characters for micro, and Go accepts both.
_GO_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_GO_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_GO_DURATION = re.compile(rf"(?:{_GO_PART.pattern})+")


def parse_duration(text: str) -> float:
    """
    Parse a duration.

    Shape: the units y w d h m s ms in this order, each at most once; only 0 needs no unit.
    Units: seconds.
    Raises: ValueError (another text, or more than about 292 years).
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
    """Write a duration with the units d h m s ms; `parse_duration` gives it back, to the millisecond."""
    left = round(seconds * 1000)
    spelled = ""
    # Without weeks and years: 30d is easier to read than 4w2d.
    for unit in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, _UNITS_MS[unit])
        spelled += f"{count}{unit}" if count else ""
    return spelled or "0s"


def parse_go_duration(text: str) -> float:
    """
    Parse a duration in Go's format; only 0 needs no unit.

    Units: seconds. Raises: ValueError (another text, or a negative duration).
    Source: Go, time.ParseDuration, read 2026-11.
    """
    if text == "0":
        return 0.0
    if not _GO_DURATION.fullmatch(text):
        raise ValueError("not a duration")
    return sum(float(number) * _GO_SECONDS[unit] for number, unit in _GO_PART.findall(text))
