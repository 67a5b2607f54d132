"""
The committed rules, made from templates/ and settings.yaml.

    python -m prometheus.generate [--check]

With settings of your own: `octopus-exporter files rules --settings mine.yaml`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from exporter.errors import ConfigError
from exporter.rules import generate, load_settings

RULES = Path(__file__).parent / "rules"


def main(folder: Path, *, check: bool) -> int:
    """Write the rules, or with `check` say which differ; give the exit code."""
    try:
        texts = generate(load_settings())
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if check:
        differing = [name for name, text in texts.items() if _text(folder / name) != text]
        sys.stderr.writelines(f"{folder / name}: differs from what is generated\n" for name in differing)
        return int(bool(differing))
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the committed rules from templates and settings.")
    parser.add_argument("--output", type=Path, default=RULES)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 where a file differs")
    chosen = parser.parse_args()
    sys.exit(main(chosen.output, check=chosen.check))
