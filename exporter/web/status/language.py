"""In which language the status page speaks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

Language = Literal["en", "zh"]
# What the `lang` attribute of the page says.
TAGS: dict[Language, str] = {"en": "en", "zh": "zh-CN"}
DEFAULT: Language = "en"

_WEIGHT = re.compile(r"q=(0(\.\d{0,3})?|1(\.0{0,3})?)")


def choose_language(wanted: str, remembered: str, accept_language: str) -> Language:
    """
    Choose by what the link asks for, else by what was chosen before, else by what the browser prefers.

    Shape: each as it came, "" where there was none; what is not ours counts as nothing.
    """
    return known(wanted) or known(remembered) or _preferred(accept_language) or DEFAULT


def known(tag: str) -> Language | None:
    """Give the language of a tag such as zh-Hans-CN, None where it is not one of ours."""
    primary = tag.strip().lower().partition("-")[0]
    return next((language for language in TAGS if language == primary), None)


def _preferred(accept_language: str) -> Language | None:
    """Source: RFC 9110, section 12.5.4. Of two that are liked as much, the first."""
    liked = [(weight, language) for language, weight in _offers(accept_language) if weight > 0]
    return max(liked, key=lambda offer: offer[0])[1] if liked else None


def _offers(accept_language: str) -> Iterator[tuple[Language, float]]:
    for element in accept_language.split(","):
        tag, _, parameter = element.partition(";")
        language = known(tag)
        weight = _WEIGHT.fullmatch(parameter.strip().lower())
        if language is not None and (weight or not parameter.strip()):
            yield language, float(weight[1]) if weight else 1.0
