"""
What a job asked for: a `resource_spec` of the API, read into cores, GPUs and GiB of memory. Pure.

The API has a fixed menu of specs. Its grammar is `{cores}Core_{memory}GiB` for CPUs and
`{model}_{n}Gpu_{cores}Core_{memory}GiB` for GPUs, such as `2Core_4GiB` and `P100_1Gpu_2.1Core_4.1GiB`. The
underscores of its examples are not those of its grammar. So order, case and separators are free here, and a
model stands directly before its GPUs. With any other word a text is not read at all: a sum that is silently
wrong is worse than none.
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

_SEPARATORS = "_-+,;/ "
_SEPARATOR = f"[{re.escape(_SEPARATORS)}]"
_NO_SEPARATOR = f"[^{re.escape(_SEPARATORS)}]"
_QUANTITY = re.compile(
    rf"""
    (?:(?<!{_NO_SEPARATOR}) | (?<=core) | (?<=cores) | (?<=gpu) | (?<=gpus) | (?<=gib) | (?<=gibs))
    (?P<number>(?:0|[1-9][0-9]{{0,8}})(?:\.[0-9]{{1,9}})?)
    (?P<gap>[ _]?)
    (?P<unit>core|gpu|gib)s?
    (?={_SEPARATOR}|[0-9]|\Z)
    """,
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
# A comma or a slash between digits belongs to a number that is written in another way (1,5 or 1/2); a sign
# belongs to a number below zero.
_OTHER_NUMBER = re.compile(rf"(?<!{_NO_SEPARATOR})(?:[0-9]++[,/+]|[-+])[0-9]", re.ASCII)
# Words and codes: "P100", "Tesla V100", "Ascend-910B", "A800-80G-SXM". A number by itself is no model.
_WORD = r"[^\W\d_]++ (?: -[0-9]+[a-z]? )? (?![^\W_])"
_CODE = r"[^\W\d_]++ [0-9] [^\W_]*+ (?: -[0-9]+g )? (?![^\W_])"
_MODEL = re.compile(rf"(?:{_CODE}|{_WORD}) (?: [ _-]++ (?:{_CODE}|{_WORD}) )*", re.IGNORECASE | re.VERBOSE)
# Words that name a resource, multiply one ("P100x2") or say how many there are. What they say would be lost.
_NO_MODEL = re.compile(
    r"core|[cgn]pu|mem|[gmkt]i?b|[0-9]x[0-9]|(?<![a-z0-9])x(?![a-z])"
    r"|replica|node|pod|worker|instance|half|(?<![a-z])no(?![a-z])|disk|\N{CJK UNIFIED IDEOGRAPH-8282}",
    re.ASCII | re.IGNORECASE,
)
_GPU_MEMORY = re.compile(r"[0-9]g(?![a-z0-9])", re.ASCII | re.IGNORECASE)


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

    A spec is a list of quantities ("2.1Core", "4 GiB"), each unit at most once, with at most one model before
    the GPUs ("P100", "Ascend-D910B"). Decimals after the third are rounded half to even.
    """
    if len(spec) > _MAX_CHARS or _OTHER_NUMBER.search(spec):
        return None
    found: dict[str, int] = {}
    position, model = 0, ""
    for piece in _QUANTITY.finditer(spec):
        unit, number = piece["unit"].lower(), Decimal(piece["number"])
        before = spec[position : piece.start()].strip(_SEPARATORS)
        if before and not (unit == "gpu" and _is_model(before, piece["gap"])):
            return None
        if unit in found or number > _MOST:
            return None
        found[unit] = int((number * 1000).to_integral_value(ROUND_HALF_EVEN))
        position, model = piece.end(), before or model
    # "P100-4G" alone may be 4 GiB of the job's memory.
    may_be_memory = _GPU_MEMORY.search(model) is not None and "gib" not in found
    if not found or spec[position:].strip(_SEPARATORS) or may_be_memory:
        return None
    return Resources(found.get("core", 0), found.get("gpu", 0), found.get("gib", 0))


def _is_model(words: str, gap: str) -> bool:
    """Tell whether words before a number of GPUs are their model; a `gap` is between the number and "Gpu"."""
    # In "RTX 3090 Gpu" the number is that of the model.
    has_number = any(map(str.isnumeric, words))
    return bool(has_number or not gap) and _MODEL.fullmatch(words) is not None and not _NO_MODEL.search(words)


def is_unreadable(spec: str) -> bool:
    """Tell whether a row has a spec that cannot be read; a missing one is not unreadable."""
    return spec != "" and parse_spec(spec) is None
