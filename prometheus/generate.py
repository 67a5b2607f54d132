"""
The rules, made from templates/ and settings.yaml.

    python -m prometheus.generate [--settings FILE] [--output FOLDER] [--check]
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ValidationError

from exporter.config.durations import format_duration
from exporter.model import FAILED_STATUSES
from prometheus.settings import FOLDER, Settings, read_settings

FILES = ("octopus.yml",)
_SPIKE_SCRAPES = 10


def generate(settings: Settings) -> dict[str, str]:
    """Give the rule files' texts by name."""
    # Delimiters that neither PromQL nor Prometheus' own templates have; YAML needs no HTML escaping.
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(FOLDER / "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    environment.filters |= _filters(settings)
    words = settings.model_dump(by_alias=False) | {
        "baseline_interval": _baseline_interval(settings.intervals.evaluation),
        "failed_statuses": FAILED_STATUSES,
        "links_": settings.links.model_dump(),
        "kept": "".join(f", {label}" for label in settings.keep_labels),
    }
    # increase() stretches what it counts to the whole window: of few scrapes, it makes five failures of four.
    least = _SPIKE_SCRAPES * settings.intervals.scrape
    words["spike"] |= {name: max(words["spike"][name], least) for name in ("short", "long")}
    return {name: _tidy(environment.get_template(name).render(words)) for name in FILES}


def _tidy(text: str) -> str:
    """Leave one blank line where loops leave more, and none at the end."""
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _baseline_interval(evaluation: float) -> float:
    """Evaluate baselines rarely, but within the five minutes that Prometheus looks back for a sample."""
    return max(evaluation, min(4 * evaluation, 120))


def _filters(settings: Settings) -> dict[str, object]:
    least = settings.intervals.least_window

    def window(seconds: float) -> str:
        """Spell a window, widened to what the intervals ask for."""
        return format_duration(max(seconds, least))

    def pending(seconds: float) -> str:
        """Spell a `for`, two polls at least."""
        return format_duration(max(seconds, 2 * settings.intervals.poll))

    return {
        "duration": format_duration,
        "window": window,
        "pending": pending,
        "seconds": lambda seconds: f"{max(seconds, least):g}",
        "number": lambda value: f"{value:g}",
        "skew": lambda k: f"{(k * k - 1) / 6:g}",
        "camel": lambda status: "".join(word.capitalize() for word in status.split("_")),
    }


def main(settings: Path, output: Path, *, check: bool) -> int:
    """Write the rules, or with `check` say which differ; give the exit code."""
    try:
        texts = generate(read_settings(settings))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        sys.stderr.write(f"{settings}: {error}\n")
        return 2
    if check:
        differing = [name for name, text in texts.items() if _text(output / name) != text]
        sys.stderr.writelines(f"{output / name}: differs from what is generated\n" for name in differing)
        return int(bool(differing))
    output.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (output / name).write_text(text, encoding="utf-8")
    return 0


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the rules from templates and settings.")
    parser.add_argument("--settings", type=Path, default=FOLDER / "settings.yaml")
    parser.add_argument("--output", type=Path, default=FOLDER / "rules")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 where a file differs")
    chosen = parser.parse_args()
    sys.exit(main(chosen.settings, chosen.output, check=chosen.check))
