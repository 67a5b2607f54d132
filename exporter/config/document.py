"""
Read a YAML file into plain values, with the position of each value.

Numbers and dates stay text. The type of the key decides what the text means. Otherwise YAML would change a
project id such as 0755 or a workspace such as 1e3 into another number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from exporter.config.problems import Location, Problem, spell
from exporter.errors import ConfigError

_LARGEST_BYTES = 1_048_576
# With aliases, a small file can describe a huge or endless tree. Real files are far below both limits.
_MOST_VALUES = 100_000
_DEEPEST = 16

_TEXT_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "timestamp", "merge", "value")}
_NULL_TAG = "tag:yaml.org,2002:null"
_BOOL_TAG = "tag:yaml.org,2002:bool"
_PLAIN_TAGS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_BOOLEANS = yaml.SafeLoader.bool_values

# A pattern of PyYAML's message -> what most likely has to be changed in the file.
_HINTS = {
    r"found character '\\t'": "found a tab, expected spaces for indentation",
    r"mapping values are not allowed here": "found a second ': ', expected quotes around a value with one",
    r"found character": "found a character that begins no value, expected quotes",
    r"expected <block end>": "found a line out of line, expected the indentation of those above",
    r"could not find expected ':'": "found a line without ': ', expected key: value",
    r"expected ',' or '[\]}]'": "found no end of a list or mapping, expected ',' or a bracket",
    r"found unexpected end of stream": "found the end of the file, expected the closing quote",
    r"found unexpected document separator": "found ---, expected the closing quote",
    r"found undefined alias": "found an alias (*) that nothing defines, expected quotes",
    r"found duplicate anchor": "found an anchor (&) a second time, expected each once",
    r"but found another document": "found a second document, expected one",
    r"found un(known|defined)": "found an unknown escape or tag, expected plain YAML",
}


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A position in the file; both numbers begin at 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Document:
    """A file as plain values: dict, list, str, bool, None. Shape: `marks` has the position of each value."""

    file: Path
    tree: object
    marks: Mapping[Location, Mark]
    problems: tuple[Problem, ...]

    def lines(self, problems: Iterable[Problem]) -> list[str]:
        """Write problems as `file:line:column: path: message`, in the order of the file."""
        ordered = sorted(problems, key=lambda problem: self._mark(problem.location))
        return [self._line(problem) for problem in ordered]

    def _line(self, problem: Problem) -> str:
        mark = self._mark(problem.location)
        parts = (f"{self.file}:{mark.line}:{mark.column}", spell(problem.location), problem.message)
        return ": ".join(part for part in parts if part)

    def _mark(self, location: Location) -> Mark:
        """Give the position of a value, or of the section in which it is missing."""
        while location and location not in self.marks:
            location = location[:-1]
        return self.marks.get(location, Mark(1, 1))


def read_document(file: Path, wanted: str) -> Document:
    """
    Read a YAML file.

    Shape: `wanted` says what is expected at the top.
    Raises: ConfigError (the file cannot be read, is not UTF-8 or YAML, or has no mapping at the top).
    """
    try:
        with file.open("rb") as stream:
            # One byte more shows that a file is too large, without reading the rest of it.
            content = stream.read(_LARGEST_BYTES + 1)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "no file name"
        raise ConfigError([f"{file}: cannot be read ({reason}), expected a YAML file"]) from exc
    document = parse_document(file, content, wanted)
    if document.tree is None:
        raise ConfigError([f"{file}: is empty, expected {wanted}"])
    return document


def parse_document(file: Path, content: bytes, wanted: str) -> Document:
    """
    Parse the content of a YAML file.

    Shape: `wanted` says what is expected at the top; the tree is a mapping, or None if the file is empty.
    Raises: ConfigError (the content is too large, not UTF-8 or YAML, or has no mapping at the top).
    """
    builder = _Builder(file)
    node = _compose(file, _decode(file, content))
    tree = None if node is None else builder.build(node, ())
    if not isinstance(tree, dict | None):
        fault = "is a list" if isinstance(tree, list) else "is a single value"
        raise ConfigError([f"{file}: {fault}, expected {wanted}"])
    return Document(file, tree, builder.marks, tuple(builder.problems))


def _decode(file: Path, content: bytes) -> str:
    if len(content) > _LARGEST_BYTES:
        raise ConfigError([f"{file}: is larger than 1 MiB, expected a configuration"])
    try:
        # Some editors put a byte order mark first.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise ConfigError([f"{file}:{line}: is not UTF-8, expected UTF-8 text"]) from exc


def _compose(file: Path, text: str) -> yaml.Node | None:
    try:
        # Not yaml.load: only nodes have positions, and numbers as they were written.
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        # PyYAML's own message quotes words of the file. One of them may be a password without quotes.
        mark = exc.problem_mark or exc.context_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else f"{file}"
        said = exc.problem or exc.context or ""
        hints = (hint for pattern, hint in _HINTS.items() if re.search(pattern, said))
        hint = next(hints, "found something that is not YAML, expected key: value")
        raise ConfigError([f"{where}: {hint}"]) from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise ConfigError([f"{file}:{line}: found a control character, expected printable text"]) from exc
    except RecursionError as exc:
        raise _too_deep(file) from exc
    except (ValueError, OverflowError) as exc:  # from chr(): PyYAML passes it the number of "\UFFFFFFFF"
        raise ConfigError([f"{file}: found an escape that is no character, expected plain YAML"]) from exc
    return node


def _too_deep(file: Path) -> ConfigError:
    return ConfigError([f"{file}: is nested more than {_DEEPEST} levels deep, expected a configuration"])


class _Builder:
    """Turns YAML nodes into values, and collects their marks and the problems that do not stop it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.marks: dict[Location, Mark] = {}
        self.problems: list[Problem] = []

    def build(self, node: yaml.Node, location: Location) -> object:
        self.marks[location] = Mark(node.start_mark.line + 1, node.start_mark.column + 1)
        if len(location) > _DEEPEST:
            raise _too_deep(self._file)
        if len(self.marks) > _MOST_VALUES:
            raise ConfigError([f"{self._file}: has more than {_MOST_VALUES} values, expected fewer"])
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, location)
        if node.tag not in _PLAIN_TAGS:
            self.problems.append(Problem(location, "found a YAML tag, expected plain YAML"))
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*location, index)) for index, item in enumerate(node.value)]
        return self._mapping(node, location)

    def _mapping(self, node: yaml.Node, location: Location) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                message = (
                    "found a list or mapping as a key, expected a word (quote a text that begins with {)"
                )
                self.problems.append(Problem(location, message))
            # PyYAML would keep the last of two equal keys and say nothing.
            elif key in values:
                again, first = key_node.start_mark.line + 1, self.marks[(*location, key)].line
                message = f"found again in line {again}, expected only the one in line {first}"
                self.problems.append(Problem((*location, key), message))
            else:
                values[key] = self.build(value_node, (*location, key))
        return values

    def _scalar(self, node: yaml.ScalarNode, location: Location) -> str | bool | None:
        text: str = node.value
        if node.tag == _NULL_TAG:
            return None
        if node.tag == _BOOL_TAG and text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        if node.tag not in _TEXT_TAGS:
            self.problems.append(Problem(location, "found a YAML tag, expected plain YAML"))
        return text
