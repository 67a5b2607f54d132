"""
Choose format, coding and language by the headers Accept, Accept-Encoding and Accept-Language.

Shape: a header is "" if it is absent. An invalid weight counts as 0.
Source: RFC 9110, sections 12.4.2 (weights), 12.5.1 (Accept), 12.5.3 (Accept-Encoding), 12.5.4
(Accept-Language).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiohttp import web

from exporter.exposition.render import Format

_WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")
# Commas and semicolons in quoted strings do not separate.
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_PARAMETER = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')


@dataclass(frozen=True, slots=True)
class Offer:
    """One element of such a header. Shape: `name` is in lower case."""

    name: str
    version: str
    weight: float


def header(request: web.Request, name: str) -> str:
    """Return the values of a header, joined."""
    return ",".join(request.headers.getall(name, []))


def choose_format(accept: str) -> Format:
    """
    Choose the format with the highest weight; on a tie prefer OpenMetrics if it is named.

    A version that we do not speak is ignored. If nothing is acceptable, choose the text format: a scraper
    with an odd header still gets its metrics.
    """
    offered = offers(accept)
    named = _weight(offered, ("application/openmetrics-text",), ("", "1.0.0"))
    openmetrics = _weight(offered, ("application/openmetrics-text", "application/*", "*/*"), ("", "1.0.0"))
    text = _weight(offered, ("text/plain", "text/*", "*/*"), ("", "0.0.4"))
    return Format.OPENMETRICS if (openmetrics, named) > (text, 0) else Format.TEXT


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether to compress: gzip is accepted, and its weight is not below that of no compression."""
    offered = offers(accept_encoding)
    gzip = _weight(offered, ("gzip", "x-gzip", "*"))
    return gzip > 0 and gzip >= _weight(offered, ("identity",))


def offers(value: str) -> list[Offer]:
    """Read the elements of such a header, in their order."""
    found = []
    for element in _ELEMENT.findall(value.lower()):
        name, *parameters = _PARAMETER.findall(element) or [""]
        pairs = (parameter.partition("=") for parameter in parameters)
        values = {key.strip(): text.strip().strip('"') for key, _, text in pairs}
        weight = values.get("q", "1")
        # By the expression, because float() also takes nan, which no comparison could order.
        valid = _WEIGHT.fullmatch(weight) is not None
        if element.strip():
            found.append(Offer(name.strip(), values.get("version", ""), float(weight) if valid else 0))
    return found


def _weight(offered: list[Offer], names: tuple[str, ...], versions: tuple[str, ...] = ("",)) -> float:
    """Return the weight of the first name that is offered. Shape: `names` go from specific to general."""
    for name in names:
        weights = [offer.weight for offer in offered if offer.name == name and offer.version in versions]
        if weights:
            return max(weights)
    return 0
