"""How the status page says things: texts, times, spans, numbers and sizes, in one language."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup, escape

from exporter.errors import without_controls
from exporter.web.status.language import TAGS, Language
from exporter.web.status.texts import GLOSSES_ZH, TEXTS

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
# Calendars end with the year 9999.
_LAST_YEAR_MS = 253_402_300_799_999
NOT_SHOWN = "\N{EN DASH}"
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


class Wording:
    """Speaks one language; a call gives a text by its key. Units: times in Unix milliseconds."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self.tag = TAGS[language]
        self._texts = {key: escape(getattr(text, language)) for key, text in TEXTS.items()}

    def __call__(self, key: str, **places: object) -> Markup:
        """Give a text, with its places filled in: what is not Markup is escaped."""
        text = self._texts[key]
        return text.format(**places) if places else text

    def gloss(self, word: str) -> str:
        """Say what one of the API's own words means; "" where it speaks for itself."""
        return GLOSSES_ZH.get(word, "") if self.language == "zh" else ""

    def ago(self, then_ms: int, now_ms: int) -> str:
        """Say how long ago a time is, or in how long it will be; NOT_SHOWN for one that is not shown."""
        if not _is_shown(then_ms):
            return NOT_SHOWN
        seconds = (now_ms - then_ms) // 1000
        if seconds < 0:
            return self("in", span=self.span(-seconds))
        return self("ago", span=self.span(seconds)) if seconds else self("now")

    def span(self, seconds: float) -> str:
        """Write a duration in its two largest units; one short of 10 seconds with its fractions."""
        if 0 < seconds < 10 and seconds != int(seconds):
            return self("unit.s", n=f"{seconds:.2f}")
        return " ".join(self(f"unit.{unit}", n=n) for unit, n in two_units(round(seconds)))

    def age(self, then_ms: int, now_ms: int) -> str:
        """Write how long a thing has been there; a clock that is off makes no negative age."""
        if not _is_shown(then_ms):
            return NOT_SHOWN
        return self.span(max(0, now_ms - then_ms) // 1000)


def two_units(seconds: int) -> list[tuple[str, int]]:
    """Split a duration into its largest unit and, if there is anything of it, the one below."""
    first = next((at for at, (_, size) in enumerate(_UNITS) if seconds >= size), len(_UNITS) - 1)
    parts = []
    for unit, size in _UNITS[first : first + 2]:
        parts.append((unit, seconds // size))
        seconds %= size
    return [(unit, n) for unit, n in parts if n] or [("s", 0)]


def utc(ms: int) -> str:
    """Write a time out, to the second; NOT_SHOWN for one outside the years 1970 to 9999."""
    return (
        datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        if _is_shown(ms)
        else NOT_SHOWN
    )


def iso(ms: int) -> str:
    """Write a time for a machine; "" for one outside the years 1970 to 9999."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if _is_shown(ms) else ""


def _is_shown(ms: float) -> bool:
    return 0 <= ms <= _LAST_YEAR_MS


def number(value: float) -> str:
    """Write a whole number with its thousands apart."""
    return f"{value:,}"


def size(count: int) -> str:
    """Write a number of bytes in a unit that leaves it short."""
    value, unit = float(count), _SIZES[0]
    for larger in _SIZES[1:]:
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def excerpt(text: str, most: int) -> str:
    """Cut a text that is longer than anybody reads, and replace its control characters."""
    text = without_controls(text)
    return text if len(text) <= most else text[:most] + "…"
