"""
What is made from the chart: the table in its README, the texts in its schema, and the plain manifests.

    python -m deploy.helm.generate [--check]

Table and texts come from the comments in values.yaml. The manifests need the program `helm`, version 4;
without it they are left alone.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FOLDER = Path(__file__).resolve().parent
CHART = FOLDER / "octopus-exporter"
MANIFESTS = FOLDER.parent / "kubernetes"
# The names of the objects are those of a release with the chart's name.
RELEASE = "octopus-exporter"
_BEGIN, _END = "<!-- values: begin -->\n", "<!-- values: end -->\n"
# In the manifests: what only Helm needs, and the namespace, which kustomize sets.
_OF_HELM = re.compile(
    r"^ *(helm\.sh/chart: .*|app\.kubernetes\.io/managed-by: Helm|# Source: .*|namespace: default)\n",
    re.MULTILINE,
)


class Value(NamedTuple):
    """A key of values.yaml that has a description."""

    path: tuple[str, ...]
    default: Any
    description: str


def values(text: str) -> Iterator[Value]:
    """Give the described keys in their order. A description is a comment with "# --" above its key."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    yield from _described(root, (), text.splitlines(), yaml.safe_load(text))


def _described(
    node: Any, above: tuple[str, ...], lines: list[str], tree: Mapping[str, Any]
) -> Iterator[Value]:
    for key, value in node.value:
        path, default = (*above, key.value), tree[key.value]
        if description := _description(lines[: key.start_mark.line]):
            yield Value(path, default, description)
        elif isinstance(value, yaml.MappingNode):
            yield from _described(value, path, lines, default)


def _description(lines: list[str]) -> str:
    comment: list[str] = []
    for line in reversed(lines):
        if not line.lstrip().startswith("#"):
            return ""
        text = line.lstrip().removeprefix("#").strip()
        if text.startswith("-- "):
            return " ".join([text.removeprefix("-- "), *reversed(comment)])
        comment.append(text)
    return ""


def readme(text: str, described: list[Value]) -> str:
    """Replace the table between the two marks."""
    head, begin, rest = text.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    rows = [
        f"| `{'.'.join(value.path)}` | `{json.dumps(value.default)}` | {value.description} |\n"
        for value in described
    ]
    table = ["| key | default | description |\n", "|---|---|---|\n", *rows]
    return "".join([head, begin, "\n", *table, "\n", end, tail])


def schema(text: str, described: list[Value]) -> str:
    """Write the descriptions into the schema of the values."""
    document: dict[str, Any] = json.loads(text)
    for value in described:
        section = document
        for part in value.path:
            section = section["properties"][part]
        # Draft 7 ignores what stands beside a $ref; editors show it all the same.
        section["description"] = value.description
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def manifests(helm: str) -> Iterator[tuple[Path, str]]:
    """Render a file of each template for each of the folders with manifests."""
    for file in sorted((FOLDER / "manifests").glob("*.yaml")):
        rendered = render(helm, file, release=RELEASE)
        documents: dict[str, list[str]] = {}
        for document in re.split(r"^---\n", rendered, flags=re.MULTILINE)[1:]:
            # Its first line is "# Source: octopus-exporter/templates/services.yaml".
            name = document.partition("\n")[0].rpartition("/")[2]
            documents.setdefault(name, []).append(_OF_HELM.sub("", document).strip() + "\n")
        for name, texts in documents.items():
            yield MANIFESTS / file.stem / name, "---\n".join(texts)


def render(helm: str, *files: Path, release: str) -> str:
    """Render the chart with files of values. Raises: CalledProcessError, with what helm says in `stderr`."""
    command = [helm, "template", release, str(CHART), *(f"--values={file}" for file in files)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - found on the path


def made(helm: str | None) -> Iterator[tuple[Path, str]]:
    """Give all files that are made, with their texts."""
    described = list(values(_text(CHART / "values.yaml")))
    for name, make in (("README.md", readme), ("values.schema.json", schema)):
        yield CHART / name, make(_text(CHART / name), described)
    if helm:
        yield from manifests(helm)


def main(*, check: bool) -> int:
    """Write the files, or with `check` say which differ; give the exit code."""
    helm = shutil.which("helm")
    if helm is None:
        sys.stderr.write("helm is not installed: deploy/kubernetes is left as it is\n")
    differing = [(file, text) for file, text in made(helm) if not file.is_file() or _text(file) != text]
    if check:
        sys.stderr.writelines(f"{file}: differs from what is made from the chart\n" for file, _ in differing)
        return int(bool(differing))
    for file, text in differing:
        file.write_text(text, encoding="utf-8")
    return 0


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make what is committed from the chart.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 where a file differs")
    sys.exit(main(check=parser.parse_args().check))
