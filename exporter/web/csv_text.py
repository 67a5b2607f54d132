"""Rows as CSV (RFC 4180) that a spreadsheet opens without running anything in it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

# A spreadsheet takes a cell that begins so for a formula. The last four are the first four in full width.
# Source: OWASP, "CSV Injection", read 2026-11.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def csv_text(rows: Iterable[Sequence[str | int | None]]) -> str:
    """Write rows; a text that a spreadsheet would take for a formula gets a leading apostrophe.

    Control characters but tabs and line ends are replaced."""
    text = io.StringIO()
    csv.writer(text).writerows([_harmless(cell) for cell in row] for row in rows)
    return text.getvalue()


def _harmless(cell: str | int | None) -> str | int | None:
    if not isinstance(cell, str):
        return cell
    # A terminal obeys some control characters.
    plain = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", cell)
    return f"'{plain}" if plain.startswith(_FORMULA) else plain
