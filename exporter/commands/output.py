"""
Printing on standard output and standard error, in any encoding, also where one of them is closed or full.

Texts for people (`print_line`, `print_table`) take the encoding of the stream: a character that it does not
have is written as an escape, `\\u611f`, and one line says what to set. Data for programs (`print_data`) is
always UTF-8.
"""

from __future__ import annotations

import codecs
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO, cast

from rich.console import Console
from rich.table import Table

from exporter.errors import OutputError, ReaderGone

_ESCAPING = "octopus-exporter.escape"
_INPUT, _OUTPUT, _ERRORS = 0, 1, 2


@contextmanager
def guarded_streams() -> Iterator[None]:
    """
    Make the standard streams fit to be written to, for as long as the block lasts.

    Every write to standard output in it, a library's too, raises OutputError where it fails. Messages that
    standard error does not take are lost, and change no exit code.
    """
    _fill_closed_descriptors()
    escaped = False

    def escape(error: UnicodeError) -> tuple[str | bytes, int]:
        nonlocal escaped
        escaped = True
        return codecs.backslashreplace_errors(error)

    codecs.register_error(_ESCAPING, escape)
    stdout = sys.stdout
    if isinstance(stdout, TextIOWrapper):
        stdout.reconfigure(errors=_ESCAPING)
        sys.stdout = cast("TextIO", _Guarded(stdout))
    try:
        try:
            yield
        finally:
            # Here and not at the end of the process, where a failure is a traceback.
            sys.stdout.flush()
    finally:
        sys.stdout = stdout
        if escaped and codecs.lookup(stdout.encoding).name != "utf-8":
            print_error(
                f"standard output has the encoding {stdout.encoding}: characters that it does not have"
                " are written as escapes: set PYTHONIOENCODING=utf-8 to see them"
            )
        print_error("")  # what a library has left in it goes out now, or nowhere


def print_line(text: str) -> None:
    """Print a line for people. Raises: OutputError."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_table(table: Table, *, width: int | None = None) -> None:
    """
    Print a table for people; what is in its cells is text and no markup.

    Shape: `width` is how wide it may be where no terminal shows it. Raises: OutputError.
    """
    console = Console(file=sys.stdout, markup=False, emoji=False, highlight=False)
    if width is not None and not console.is_terminal:
        console.width = width
    console.print(table)


def print_data(text: str) -> None:
    """Print what programs read, as it is and in UTF-8. Raises: OutputError."""
    if isinstance(sys.stdout, _Guarded):
        sys.stdout.write_bytes(text.encode("utf-8", "backslashreplace"))
    else:
        sys.stdout.write(text)


def print_error(message: str) -> None:
    """Print a message of one or more lines on standard error; where nobody reads it, it is lost."""
    try:
        for line in message.splitlines():
            sys.stderr.write(f"octopus-exporter: {line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        _put_nothing_behind(_ERRORS)


class _Guarded:
    """
    A text stream whose failures are OutputErrors.

    Once it has failed it fails for good: there are libraries that try a write and ignore what comes of it.
    """

    def __init__(self, stream: TextIOWrapper) -> None:
        self._stream = stream
        self._failure: OutputError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._failing():
            return self._stream.write(text)

    def write_bytes(self, data: bytes) -> None:
        with self._failing():
            self._stream.flush()
            self._stream.buffer.write(data)
            self._stream.buffer.flush()

    def flush(self) -> None:
        with self._failing():
            self._stream.flush()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except OSError as exc:
            # What is left in the buffers goes nowhere, or Python would try again at its end, and fail again.
            _put_nothing_behind(_OUTPUT)
            self._failure = _failure(exc)
            raise self._failure from exc


def _failure(exc: OSError) -> OutputError:
    if isinstance(exc, BrokenPipeError):
        return ReaderGone("nobody reads standard output any more")
    reason = "it is closed" if exc.errno == errno.EBADF else exc.strerror or str(exc)
    return OutputError(f"cannot write to standard output: {reason}")


def _put_nothing_behind(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def _fill_closed_descriptors() -> None:
    """
    Open what was closed before the start, so that no file or socket of ours gets its number.

    What is opened takes no writing: a command that prints says so, and no line or event counts as written.
    """
    for descriptor in (_INPUT, _OUTPUT, _ERRORS):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = open(_OUTPUT, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for the process
    if sys.stderr is None:
        sys.stderr = open(_ERRORS, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - likewise
