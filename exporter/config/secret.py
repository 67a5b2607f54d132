"""Secrets: values that are never shown, given by value, or by a file that is read at every use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

from exporter.errors import ConfigError
from exporter.masking import MASK

__all__ = ["MASK", "Secret", "is_secret_text", "scrub"]

# No token is as long; a wrong path may lead to a file of any length.
_LARGEST_BYTES = 65_536
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Secret:
    """A value that only `get` returns; repr, str, format, dumps and JSON give `<secret>`."""

    __slots__ = ("_file", "_value")

    def __init__(self, value: str | None = None, *, file: Path | None = None) -> None:
        self._value = value
        self._file = file

    @property
    def from_file(self) -> bool:
        return self._file is not None

    def get(self) -> str:
        """
        Return the secret. A file is read every time, so a rotated secret is used at once.

        Raises: ConfigError (a file that is missing, unreadable, empty, not UTF-8 or of several lines; neither
        value nor file).
        """
        if self._file is not None:
            return _read(self._file)
        if self._value is None:
            raise ConfigError(["no secret was given"])
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return (self._value, self._file) == (other._value, other._file)

    def __hash__(self) -> int:
        return hash((self._value, self._file))

    # The object itself: it never changes, and a secret need not be in memory twice.
    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


def is_secret_text(text: str) -> bool:
    """Check whether a text can be a secret: one line, not empty, and valid in UTF-8."""
    return bool(text) and not set(text) & set("\r\n\0") and not _LONE_SURROGATE.search(text)


def scrub(text: str) -> str:
    """Mask the parts of a URL that may be secret: the userinfo and the query."""
    scheme, separator, rest = text.partition("://") if "://" in text else ("", "", text)
    _, at, location = rest.rpartition("@")
    if separator:
        location, mark, _ = location.partition("?")
        location += mark and mark + MASK
    return scheme + separator + (at and MASK + at) + location


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST_BYTES + 1)
        text = content.decode()
    except OSError as exc:
        raise ConfigError([f"{file}: cannot be read ({exc.strerror}), expected a secret"]) from exc
    except UnicodeDecodeError:
        raise ConfigError([f"{file}: is not UTF-8, expected a secret"]) from None
    # One line end, as editors and `echo` add it. Blanks stay, because a password may end with one.
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret:
        raise ConfigError([f"{file}: is empty, expected a secret"])
    if len(content) > _LARGEST_BYTES or not is_secret_text(secret):
        raise ConfigError([f"{file}: has more than one line or is too long, expected one line with a secret"])
    return secret
