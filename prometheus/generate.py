"""
The committed rules and example for Alertmanager, made from templates/ and settings.yaml.

    python -m prometheus.generate [--check]

With settings of your own: `octopus-exporter files rules --settings mine.yaml`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from exporter.errors import ConfigError
from exporter.rules import ALERTMANAGER, generate, generate_alertmanager, load_settings

FOLDER = Path(__file__).parent


def main(folder: Path, *, check: bool) -> int:
    """Write the files, or with `check` say which differ; give the exit code."""
    try:
        settings = load_settings()
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    texts = {folder / "rules" / name: text for name, text in generate(settings).items()}
    texts[folder / ALERTMANAGER] = generate_alertmanager(settings)
    if check:
        differing = [file for file, text in texts.items() if _text(file) != text]
        sys.stderr.writelines(f"{file}: differs from what is generated\n" for file in differing)
        return int(bool(differing))
    for file, text in texts.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return 0


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make what is committed from templates and settings.")
    parser.add_argument("--output", type=Path, default=FOLDER)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 where a file differs")
    chosen = parser.parse_args()
    sys.exit(main(chosen.output, check=chosen.check))
