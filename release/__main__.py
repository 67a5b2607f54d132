"""`python -m release`: build what a release consists of."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from exporter import __version__
from release.archives import epoch, write_checksums
from release.bundle import write_bundle
from release.distributions import build_python, pack_chart, write_bill_of_materials
from release.wheels import MACHINES, PYTHONS, Machine

_PARTS = {
    "bundle": "the bundle for networks without the internet",
    "all": "wheel, sdist, chart, bill of materials and bundle, with their checksums",
    "notes": "what the CHANGELOG says of this version",
}


def main() -> None:
    options = _options()
    if options.part == "notes":
        sys.stdout.write(release_notes(options.tag))
        return
    output: Path = options.output
    epoch()  # without it, stop before anything is built
    if options.part == "all" and output.exists():
        shutil.rmtree(output)
    output.mkdir(parents=True, exist_ok=True)
    machines = [Machine(one, python) for one in options.architecture for python in options.python]
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        built = output if options.part == "all" else scratch / "built"
        wheel, chart = build_python(built), pack_chart(built)
        if options.part == "all":
            write_bill_of_materials(output)
        archive, left_out = write_bundle(
            output,
            scratch,
            wheel,
            chart,
            machines,
            with_image=not options.no_image,
            builder=os.environ.get("BUILDER", ""),
        )
    if options.part == "all":
        write_checksums(output)
    for line in left_out:
        _say(f"left out of the bundle: {line}")
    for file in sorted(output.iterdir()) if options.part == "all" else [archive]:
        _say(f"{file}  {file.stat().st_size:,} bytes")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m release",
        description="Build what a release consists of; `make bundle` and `make release` call this.",
        epilog="SOURCE_DATE_EPOCH is the time that all files in archives get.",
    )
    parser.add_argument(
        "part", choices=_PARTS, help="; ".join(f"{part}: {is_}" for part, is_ in _PARTS.items())
    )
    parser.add_argument("--output", type=Path, default=Path("dist"), help="the folder; dist is the default")
    parser.add_argument("--architecture", nargs="+", choices=MACHINES, default=MACHINES, help="of the wheels")
    parser.add_argument("--python", nargs="+", choices=PYTHONS, default=PYTHONS, help="of the wheels")
    parser.add_argument("--tag", default=f"v{__version__}", help="that the notes are for")
    parser.add_argument("--no-image", action="store_true", help="leave the container image out")
    return parser.parse_args()


def release_notes(tag: str) -> str:
    """Return what the CHANGELOG says of this version. Exits where the tag is another version's."""
    if tag != f"v{__version__}":
        sys.exit(f"the tag is {tag}, and exporter/__init__.py says {__version__}")
    changes = Path("CHANGELOG.md").read_text(encoding="utf-8")
    heading = rf"^## \[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d$"
    section = re.search(heading + r"\n(.*?)(?=^## \[|\Z)", changes, re.MULTILINE | re.DOTALL)
    if section is None:
        sys.exit(f"CHANGELOG.md has no section [{__version__}] with a date")
    return section[1].strip() + "\n"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(map(str, error.cmd[:4]))}… has failed with exit code {error.returncode}")
    except KeyError as error:
        sys.exit(f"{error.args[0]} is not set; `make bundle` and `make release` set it")
