"""The status page: a Status as HTML."""

from __future__ import annotations

from datetime import UTC, datetime

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from exporter.web.status import Status

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Page:
    """The compiled template. `render` is pure and may run in any thread."""

    def __init__(self) -> None:
        environment = Environment(
            loader=PackageLoader("exporter.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {"age": age, "utc": utc, "yaml": _yaml}
        self._template = environment.get_template("status.html.jinja")

    def render(self, status: Status) -> str:
        return self._template.render(status=status)


def age(then_ms: int, now_ms: int) -> str:
    """Say how long ago a time is, in its largest unit."""
    seconds = max(0, now_ms - then_ms) // 1000
    size, unit = next((pair for pair in _UNITS if seconds >= pair[0]), _UNITS[-1])
    return f"{seconds // size} {unit}"


def utc(ms: int) -> str:
    """Write a time out, to the second."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _yaml(value: object) -> str:
    dumped: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return dumped
