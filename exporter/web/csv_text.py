"""Rows as CSV (RFC 4180) that a spreadsheet opens without running anything in it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from exporter.errors import without_controls

# A spreadsheet takes a cell that begins so for a formula. The last four are the first four in full width.
# Source: OWASP, "CSV Injection", read 2026-11.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_text(rows: Iterable[Sequence[str | int | None]]) -> str:
    """
    Write rows; a text that a spreadsheet would take for a formula gets a leading apostrophe.

    Control characters but tabs and line ends are replaced."""
    text = io.StringIO()
    csv.writer(text).writerows([_harmless(cell) for cell in row] for row in rows)
    return text.getvalue()


def _harmless(cell: str | int | None) -> str | int | None:
    if not isinstance(cell, str):
        return cell
    plain = without_controls(cell)
    return f"'{plain}" if plain.startswith(_FORMULA) else plain
