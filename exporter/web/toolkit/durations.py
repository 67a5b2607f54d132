"""Durations as Go spells them: `1s`, `500ms`, `1m30s`, `1.5s`."""

from __future__ import annotations

import re

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def parse_go_duration(text: str) -> float:
    """
    Read a duration; only 0 goes without a unit.

    Units: seconds. Raises: ValueError (anything else, negative ones included).
    Source: Go, time.ParseDuration, read 2026-11.
    """
    if text == "0":
        return 0.0
    if not _WHOLE.fullmatch(text):
        raise ValueError("not a duration")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
