"""
What a job asked for: a `resource_spec` of the API, read into cores, GPUs and GiB of memory. Pure.

The API has a fixed menu of specs. Its grammar is `{cores}Core_{memory}GiB` for CPUs and
`{model}_{n}Gpu_{cores}Core_{memory}GiB` for GPUs, such as `2Core_4GiB` and `P100_1Gpu_2.1Core_4.1GiB`. The
underscores of its examples are not those of its grammar. So order, case and separators are free here. But a
text that may mean something else is not read at all: a sum that is silently wrong is worse than none.
Source: Huawei Cloud Octopus API reference, "querying the list of internal jobs", field resource_spec, 2026.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache

# The API's own specs have fewer than 40 characters. A label is cut at 200, and what is left of a spec that
# was cut could be read as a smaller one.
_MAX_CHARS = 150
_MOST = 1_000_000
# What a message about an unreadable spec says is expected.
SPEC_EXPECTED = "cores and memory such as 2Core_4GiB, with GPUs such as P100_1Gpu_2.1Core_4.1GiB"

_SEPARATORS = r"_\-+,;/ "
_PIECE = re.compile(
    rf"""
    (?P<before>[{_SEPARATORS}]*+)
    (?:
        (?P<number>[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?)
        (?P<gap>[ _]?)
        (?P<unit>core|gpu|gib)s?
        (?=[{_SEPARATORS}0-9]|\Z)
      | (?P<word>[^{_SEPARATORS}]++)
    )
    """,
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
# A comma or a slash between digits belongs to a number that is written in another way (1,5 or 1/2); a sign
# belongs to a number below zero.
_OTHER_NUMBER = re.compile(rf"(?<![^{_SEPARATORS}])(?:[0-9]++[,/+]|[-+])[0-9]", re.ASCII)
# Words that name a resource, or multiply one ("P100x2"). If one is left unread, the others may mislead.
_RESOURCE_WORD = re.compile(
    r"core|[cgn]pu|mem|[gmkt]i?b|(?:\A|[0-9])[x*\N{MULTIPLICATION SIGN}](?:[0-9]|\Z)",
    re.ASCII | re.IGNORECASE,
)
# "910B" in "Ascend-910B"; and "80G", the memory of the GPU, in "A800-80G".
_MODEL_NUMBER = re.compile(r"[0-9]+[a-z]?", re.ASCII | re.IGNORECASE)
_GPU_MEMORY = re.compile(r"[0-9]+g", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Resources:
    """What a spec names, 0 for what it does not name. Units: thousandths of a core, of a GPU, of a GiB."""

    cores: int = 0
    gpus: int = 0
    memory: int = 0


@lru_cache(maxsize=1024)
def parse_spec(spec: str) -> Resources | None:
    """
    Read a spec. None if it cannot be read for certain; also for "", which means that the row has none.

    A spec is a list of quantities ("2.1Core", "4 GiB"), each unit at most once, and of words, which are the
    model ("P100", "Ascend-D910B"). It is not read if a number has no unit, except in the name of a model, if
    a word names a resource, or if no quantity is found. Decimals after the third are rounded half to even.
    """
    if len(spec) > _MAX_CHARS or _OTHER_NUMBER.search(spec):
        return None
    found: dict[str, int] = {}
    position, last_word, may_be_memory = 0, "", False
    while (piece := _PIECE.match(spec, position)) is not None:
        position = piece.end()
        if (word := piece["word"]) is not None:
            if not _is_of_a_model(word, piece["before"], last_word):
                return None
            may_be_memory = may_be_memory or _GPU_MEMORY.fullmatch(word) is not None
            last_word = word
            continue
        unit, number = piece["unit"].lower(), Decimal(piece["number"])
        # In "RTX 3090 Gpu" the number is that of the model.
        is_of_model = piece["gap"] and last_word and not _has_digit(last_word)
        if is_of_model or unit in found or number > _MOST:
            return None
        found[unit] = int((number * 1000).to_integral_value(ROUND_HALF_EVEN))
        last_word = ""
    # "P100-4G" alone may be 4 GiB of the job's memory.
    if not found or (may_be_memory and "gib" not in found):
        return None
    return Resources(found.get("core", 0), found.get("gpu", 0), found.get("gib", 0))


def _is_of_a_model(word: str, before: str, last_word: str) -> bool:
    """
    Tell whether a word that is no quantity is the name of a model, or a part of it.

    Shape: `before` are the separators before it, `last_word` the word before these, "" if that is a quantity.
    """
    if _RESOURCE_WORD.search(word):
        return False
    if not word[0].isnumeric():
        return True
    # But not "4" in "2Core_4", nor "2" in "P100-2".
    pattern = _GPU_MEMORY if _has_digit(last_word) else _MODEL_NUMBER
    return before == "-" and last_word != "" and pattern.fullmatch(word) is not None


def _has_digit(word: str) -> bool:
    return any(map(str.isnumeric, word))


def is_unreadable(spec: str) -> bool:
    """Tell whether a row has a spec that cannot be read; a missing one is not unreadable."""
    return spec != "" and parse_spec(spec) is None
