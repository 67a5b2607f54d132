"""
The texts of the dashboards in all languages, by key.

grafana/catalogue has one file for each dashboard, and `shared.yaml` for all of them. Keys are nested; a leaf
has one text for each language.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import yaml

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

CATALOGUE = Path(__file__).parent / "catalogue"


@dataclass(frozen=True, slots=True)
class Texts:
    """
    The texts of a dashboard in one language.

    Shape: `leaves` has the texts of every key by language. `used` are the keys that were looked up; a test
    uses them to find texts that nothing shows.
    """

    language: Language
    leaves: Mapping[str, Mapping[str, str]]
    used: set[str] = field(default_factory=set)

    def __call__(self, key: str) -> str:
        """Return a text. Raises: KeyError, with the key, if the catalogue lacks it."""
        self.used.add(key)
        return self.leaves[key][self.language]


def texts(dashboard: str, language: Language) -> Texts:
    """Read the texts of a dashboard and those that all dashboards share."""
    return Texts(language, {**leaves("shared"), **leaves(dashboard)})


def leaves(name: str) -> dict[str, dict[str, str]]:
    """Read one file of the catalogue: the texts by language of each key, as `panel.title`."""
    return dict(_leaves(yaml.safe_load((CATALOGUE / f"{name}.yaml").read_text(encoding="utf-8")), ""))


def _leaves(node: Mapping[str, object], prefix: str) -> Iterator[tuple[str, dict[str, str]]]:
    for key, value in node.items():
        if not isinstance(value, dict):
            raise TypeError(
                f"{prefix}{key}: expected a text for each of {', '.join(LANGUAGES)}, got {value!r}"
            )
        if set(value) & set(LANGUAGES):
            yield prefix + key, value
        else:
            yield from _leaves(value, f"{prefix}{key}.")
