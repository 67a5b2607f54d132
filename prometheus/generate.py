"""
The committed rules and example for Alertmanager, made from templates/ and settings.yaml.

    python -m prometheus.generate [--check] [--format prometheusrule]

The format `prometheusrule` gives the rules as the object of the Prometheus Operator, and nothing else.
With settings of your own: `octopus-exporter files rules --settings mine.yaml`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from exporter.commands.choices import RuleFormat
from exporter.errors import ConfigError
from exporter.rules import (
    ALERTMANAGER,
    RULE_OBJECT,
    RULES,
    as_prometheus_rule,
    generate,
    generate_alertmanager,
    load_settings,
)

FOLDER = Path(__file__).parent


def main(folder: Path, rule_format: RuleFormat, *, check: bool) -> int:
    """Write the files, or with `check` say which differ; give the exit code."""
    try:
        settings = load_settings()
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    rules = generate(settings)
    if rule_format is RuleFormat.PROMETHEUS_RULE:
        texts = {folder / "rules" / RULE_OBJECT: as_prometheus_rule(rules[RULES])}
    else:
        texts = {folder / "rules" / name: text for name, text in rules.items()}
        texts[folder / ALERTMANAGER] = generate_alertmanager(settings)
    if check:
        differing = [file for file, text in texts.items() if _text(file) != text]
        sys.stderr.writelines(f"{file}: differs from what is generated\n" for file in differing)
        return int(bool(differing))
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return 0


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make what is committed from templates and settings.")
    parser.add_argument("--output", type=Path, default=FOLDER)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 where a file differs")
    parser.add_argument("--format", type=RuleFormat, choices=RuleFormat, default=RuleFormat.PROMETHEUS)
    chosen = parser.parse_args()
    sys.exit(main(chosen.output, chosen.format, check=chosen.check))
