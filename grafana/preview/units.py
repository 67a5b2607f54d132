"""Numbers as Grafana writes them, by the names of its units."""

from __future__ import annotations

import math

_SECONDS = ((31_536_000, "y"), (604_800, "w"), (86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")


def written(value: float, unit: str, decimals: int | None = None) -> str:
    """Write a value in its unit; three digits where no decimals are asked for."""
    if not math.isfinite(value):
        return "-"
    if unit == "percentunit":
        return f"{_plain(value * 100, decimals)}%"
    if unit == "s":
        return _duration(value, decimals)
    if unit.startswith("suffix:"):
        return _plain(value, decimals) + unit.removeprefix("suffix:")
    if unit == "bytes":
        power = min(int(math.log(max(abs(value), 1), 1024)), len(_BYTES) - 1)
        return f"{_plain(value / 1024**power, decimals)} {_BYTES[power]}"
    number = f"{_plain(value / 1000, decimals)} K" if abs(value) >= 10_000 else _plain(value, decimals)
    return f"{number} req/s" if unit == "reqps" else number


def _duration(value: float, decimals: int | None) -> str:
    if abs(value) < 1 and value:
        return f"{_plain(value * 1000, decimals)} ms"
    size, name = next((one for one in _SECONDS if abs(value) >= one[0]), _SECONDS[-1])
    return f"{_plain(value / size, decimals if size == 1 else 1)} {name}"


def _plain(value: float, decimals: int | None) -> str:
    if decimals is None:
        decimals = 0 if abs(value) >= 100 or value == round(value) else 1 if abs(value) >= 10 else 2
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def ticks(low: float, high: float, unit: str, wanted: int = 5) -> list[float]:
    """Give round values that divide an axis."""
    if unit == "bytes":
        step = 2.0 ** math.ceil(math.log2((high - low) / wanted))
        return [number * step for number in range(math.floor(high / step) + 1)]
    bases = (1, 2, 5, 10, 15, 30) if unit == "s" and high - low >= 60 else (1, 2, 2.5, 5, 10)
    scale = _scale(high - low, unit, wanted)
    step = next(
        (base * scale for base in bases if (high - low) / (base * scale) <= wanted), bases[-1] * scale
    )
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def decades(high: float) -> list[float]:
    """Give the values that divide a logarithmic axis of seconds: it begins at one."""
    return [value for value in (1, 10, 60, 600, 3600, 36_000, 86_400, 864_000) if value <= high]


def _scale(span: float, unit: str, wanted: int) -> float:
    """Give the power that the steps of an axis are multiples of: of ten, or whole minutes, hours, days."""
    if unit == "s" and span >= 60:
        sizes = (86_400, 3600, 60, 1)
        return next((size for size in sizes if span / size >= wanted / 2), 1)
    return float(10.0 ** math.floor(math.log10(max(span / wanted, 1e-12))))
