"""
Which format and which coding a client wants, from its Accept and Accept-Encoding headers.

Shape: headers as they came, "" where there was none. A weight nobody can read counts as 0.
Source: RFC 9110, sections 12.4.2 (weights), 12.5.1 (Accept), 12.5.3 (Accept-Encoding).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from exporter.exposition.render import Format

_WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")
# What stands between commas or semicolons, of which those in quotes do not count.
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_PARAMETER = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')


@dataclass(frozen=True, slots=True)
class _Offer:
    """One element of such a header: what is accepted, in lower case, and how gladly."""

    name: str
    version: str
    weight: float


def choose_format(accept: str) -> Format:
    """
    Choose what is accepted most gladly; of what is as welcome, OpenMetrics where it is asked for by name.

    A version we do not speak is no offer to us. Nothing acceptable gets the text format: a scraper that says
    nonsense still gets its metrics.
    """
    offers = _offers(accept)
    named = _weight(offers, ("application/openmetrics-text",), ("", "1.0.0"))
    openmetrics = _weight(offers, ("application/openmetrics-text", "application/*", "*/*"), ("", "1.0.0"))
    text = _weight(offers, ("text/plain", "text/*", "*/*"), ("", "0.0.4"))
    return Format.OPENMETRICS if (openmetrics, named) > (text, 0) else Format.TEXT


def accepts_gzip(accept_encoding: str) -> bool:
    """Tell whether to compress: where gzip is wanted at least as gladly as no compression."""
    offers = _offers(accept_encoding)
    gzip = _weight(offers, ("gzip", "x-gzip", "*"))
    return gzip > 0 and gzip >= _weight(offers, ("identity",))


def _weight(offers: list[_Offer], names: tuple[str, ...], versions: tuple[str, ...] = ("",)) -> float:
    """Give the weight of the first name that is offered: the names go from the most to the least specific."""
    for name in names:
        weights = [offer.weight for offer in offers if offer.name == name and offer.version in versions]
        if weights:
            return max(weights)
    return 0


def _offers(header: str) -> list[_Offer]:
    return [_offer(element) for element in _ELEMENT.findall(header) if element.strip()]


def _offer(element: str) -> _Offer:
    name, *parameters = _PARAMETER.findall(element.lower()) or [""]
    pairs = (parameter.partition("=") for parameter in parameters)
    values = {key.strip(): value.strip().strip('"') for key, _, value in pairs}
    weight = values.get("q", "1")
    return _Offer(name.strip(), values.get("version", ""), float(weight) if _WEIGHT.fullmatch(weight) else 0)
