"""How the status page writes texts, times, durations, numbers and sizes, in each of its languages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from markupsafe import Markup, escape

from exporter.errors import without_controls
from exporter.web.status.texts import TEXTS, TRANSLATIONS_ZH

Language = Literal["en", "zh"]
# The `lang` attribute of the page.
TAGS: dict[Language, str] = {"en": "en", "zh": "zh-CN"}

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
# The year 9999 is the last one that datetime knows.
_LAST_YEAR_MS = 253_402_300_799_999
NOT_SHOWN = "\N{EN DASH}"
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


class Wording:
    """The texts of one language, by key: `t("jobs")`. Units: times in Unix milliseconds."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self.tag = TAGS[language]
        # Escaped once here; `format` of Markup then escapes each value, which may come from the API.
        self._texts = {key: escape(getattr(text, language)) for key, text in TEXTS.items()}

    def __call__(self, key: str, **places: object) -> Markup:
        """Return a text with its places filled in. Values that are not Markup are escaped."""
        text = self._texts[key]
        return text.format(**places) if places else text

    def translation(self, word: str) -> str:
        """Translate a status or job type of the API; "" if the language needs no translation of it."""
        return TRANSLATIONS_ZH.get(word, "") if self.language == "zh" else ""

    def ago(self, then_ms: int, now_ms: int) -> str:
        """Write how long ago a time was, or how long until it comes; NOT_SHOWN for an invalid time."""
        if not _is_shown(then_ms):
            return NOT_SHOWN
        seconds = (now_ms - then_ms) // 1000
        if seconds < 0:
            return self("in", span=self.span(-seconds))
        return self("ago", span=self.span(seconds)) if seconds else self("now")

    def span(self, seconds: float) -> str:
        """Write a duration in its two largest units; below 10 seconds with fractions."""
        if 0 < seconds < 10 and seconds != int(seconds):
            return self("unit.s", n=f"{seconds:.2f}")
        left = round(seconds)
        first = next((at for at, (_, size) in enumerate(_UNITS) if left >= size), len(_UNITS) - 1)
        parts = []
        for unit, size in _UNITS[first : first + 2]:
            if left >= size:
                parts.append(self(f"unit.{unit}", n=left // size))
            left %= size
        return " ".join(parts) or self("unit.s", n=0)

    def age(self, then_ms: int, now_ms: int) -> str:
        """Write an age. It is never negative, even if a clock is wrong."""
        if not _is_shown(then_ms):
            return NOT_SHOWN
        return self.span(max(0, now_ms - then_ms) // 1000)


def utc(ms: int) -> str:
    """Write a time to the second; NOT_SHOWN for a time outside the years 1970 to 9999."""
    return (
        datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        if _is_shown(ms)
        else NOT_SHOWN
    )


def iso(ms: int) -> str:
    """Write a time as ISO 8601; "" for a time outside the years 1970 to 9999."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if _is_shown(ms) else ""


def _is_shown(ms: float) -> bool:
    return 0 <= ms <= _LAST_YEAR_MS


def number(value: float) -> str:
    """Write a number with thousands separators."""
    return f"{value:,}"


def amount(value: float) -> str:
    """Write a number that may have up to three decimals, without zeros at its end."""
    return f"{value:,.3f}".rstrip("0").rstrip(".")


def size(count: int) -> str:
    """Write a number of bytes in a fitting unit."""
    value, unit = float(count), _SIZES[0]
    for larger in _SIZES[1:]:
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def excerpt(text: str, most: int) -> str:
    """Cut a long text, and replace its control characters."""
    text = without_controls(text)
    return text if len(text) <= most else text[:most] + "…"
