"""Flags that win over the file, as on every Prometheus exporter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from exporter.config.problems import show
from exporter.config.section import Section

FLAGS = {
    "listen": "--web.listen-address",
    "config_file": "--web.config.file",
    "level": "--log.level",
    "format": "--log.format",
}

_SectionT = TypeVar("_SectionT", bound=Section)


@dataclass(slots=True)
class Overrides:
    """Puts flags into sections, gathering what is wrong with them."""

    problems: list[str] = field(default_factory=list)

    def apply(self, section: _SectionT, flags: Mapping[str, object]) -> _SectionT:
        """Give the section with the flags that are not None in it; as it was, if one of them is wrong."""
        try:
            changed = type(section).model_validate(flags)
        except ValidationError as exc:
            told = [details for details in exc.errors(include_url=False) if details["type"] != "too_short"]
            # A list that is too short has lost an entry that is wrong, which is told by itself.
            self.problems += [_line(details) for details in told]
            return section
        return section.model_copy(update={key: getattr(changed, key) for key in changed.model_fields_set})


def _line(details: ErrorDetails) -> str:
    """Write what is wrong with a flag; what is `refused` says itself what was found."""
    flag = FLAGS[str(details["loc"][0])]
    if details["type"] == "refused":
        return f"{flag}: {details['msg']}"
    return f"{flag}: found {show((), details['input'])}, {details['msg']}"
