"""
What a job asked for: a `resource_spec` of the API, read into cores, GPUs and GiB of memory. Pure.

The API has a fixed menu of specs. Its grammar is `{cores}Core_{memory}GiB` for CPUs and
`{model}_{n}Gpu_{cores}Core_{memory}GiB` for GPUs, such as `2Core_4GiB` and `P100_1Gpu_2.1Core_4.1GiB`. The
underscores of its examples are not those of its grammar. So the order of the quantities, case and separators
are free here. Besides quantities, a spec may have one model, in the first place and before its GPUs. With any
other word it is not read at all: a sum that is silently wrong is worse than none.
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
_QUANTITY = rf"""
    (?P<number>(?:0|[1-9][0-9]{{0,8}})(?:\.[0-9]{{1,9}})?)
    [ _]?
    (?P<unit>core|gpu|gib)s?
    (?=[{_SEPARATORS}0-9]|\Z)
    [{_SEPARATORS}]*+
"""
_FLAGS = re.ASCII | re.IGNORECASE | re.VERBOSE
_NEXT = re.compile(_QUANTITY, _FLAGS)
# What stands before the first quantity is the model.
_FIRST = re.compile(rf"(?<![^{_SEPARATORS}]){_QUANTITY}", _FLAGS)
# A comma or a slash between digits belongs to a number that is written in another way (1,5 or 1/2); a sign
# belongs to a number below zero.
_OTHER_NUMBER = re.compile(rf"(?<![^{_SEPARATORS}])(?:[0-9]++[,/+]|[-+])[0-9]", re.ASCII)
# "P100", "Tesla V100", "Ascend-910B" or "A800-80G-SXM". A code of up to three letters and a number is read
# whatever it is, but without a maker only with a capital. After any longer word the number may be how many
# ("Replicas3", "Nodes-2").
_MAKER = "(?:nvidia|tesla|geforce|quadro|ascend|atlas|昇腾)"
_MODEL = re.compile(
    rf"""
    (?: (?:{_MAKER}[ _-]?)+[a-z]{{1,3}} | {_MAKER}-? | (?-i:[A-Z])[a-z]{{0,2}} )
    [0-9]{{1,4}}(?:[a-z]{{1,2}}[0-9]?)?
    (?: -(?:sxm[0-9]?|pcie?|nvl|[0-9]+g) )*
    """,
    _FLAGS,
)
# Short codes that name a resource, or multiply one ("P100x2").
_RESOURCE_WORD = re.compile(r"[cgn]pu|mem|[gmkt]i?b|pod|(?<![a-z])x(?![a-z])", re.ASCII | re.IGNORECASE)
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

    A spec is a list of quantities ("2.1Core", "4 GiB"), each unit at most once. If GPUs are the first, their
    model may stand before them ("P100", "Ascend-D910B"). Decimals after the third are rounded half to even.
    """
    if len(spec) > _MAX_CHARS or _OTHER_NUMBER.search(spec):
        return None
    piece = _FIRST.search(spec)
    if piece is None:
        return None
    model = spec[: piece.start()].strip("_-+,;/ ")
    if model and not (piece["unit"].lower() == "gpu" and _is_model(model)):
        return None
    found: dict[str, int] = {}
    position = piece.start()
    while (piece := _NEXT.match(spec, position)) is not None:
        unit, number = piece["unit"].lower(), Decimal(piece["number"])
        if unit in found or number > _MOST:
            return None
        found[unit] = int((number * 1000).to_integral_value(ROUND_HALF_EVEN))
        position = piece.end()
    # "P100-4G" alone may be 4 GiB of the job's memory.
    may_be_memory = _GPU_MEMORY.search(model) is not None and "gib" not in found
    if position < len(spec) or may_be_memory:
        return None
    return Resources(found.get("core", 0), found.get("gpu", 0), found.get("gib", 0))


def _is_model(words: str) -> bool:
    return _MODEL.fullmatch(words) is not None and _RESOURCE_WORD.search(words) is None


def is_unreadable(spec: str) -> bool:
    """Tell whether a row has a spec that cannot be read; a missing one is not unreadable."""
    return spec != "" and parse_spec(spec) is None
