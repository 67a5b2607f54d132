"""Where a text holds a secret, in whatever single encoding."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.masking.pieces import Needles, Span, occurrences
from exporter.masking.views import (
    AnyView,
    Compact,
    View,
    base64_views,
    escape_views,
    hex_views,
    without_line_ends,
)

_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


def find_secrets(text: bytes, needles: Needles) -> list[Span]:
    """Give the stretches of a UTF-8 text that hold secrets: in order, none touching another."""
    compact = Compact(text)
    return merged([*_long_ones(text, compact, needles), *_short_ones(text, compact, needles)])


def merged(spans: list[Span]) -> list[Span]:
    """Join stretches that touch or overlap."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _long_ones(text: bytes, compact: Compact, needles: Needles) -> Iterator[Span]:
    if not needles.long:
        return
    if needles.spaced:
        yield from (compact.span(*span) for span in needles.spaced.find(compact.data))
    views: list[AnyView] = [View(text), compact, *escape_views(text), *base64_views(compact)]
    views += hex_views(compact)
    # One look at them all first: a text that holds no secret costs this and no more.
    if needles.long.may_be_in(b"\0".join([view.data for view in views])):
        for view in views:
            yield from (view.span(*span) for span in needles.long.find(view.data))


def _short_ones(text: bytes, compact: Compact, needles: Needles) -> Iterator[Span]:
    if not needles.short:
        return
    in_base64, in_hex = compact.data.translate(_TO_STANDARD), compact.data.lower()
    wrapped = without_line_ends(text) if b"\n" in text else None
    for secret in needles.short:
        yield from secret.find(text)
        for digits in secret.base64:
            yield from (compact.span(*span) for span in occurrences(in_base64, digits))
        yield from (compact.span(*span) for span in occurrences(in_hex, secret.hex))
        view = compact if secret.wraps_at_blanks else wrapped
        if view is not None:
            yield from (view.span(*span) for span in secret.find_wrapped(view.data))
