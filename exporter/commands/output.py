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
from typing import TYPE_CHECKING, Any, TextIO, cast

from exporter.errors import OutputError, ReaderGone

if TYPE_CHECKING:
    from rich.table import Table

_ESCAPING = "octopus-exporter.escape"
_INPUT, _OUTPUT, _ERRORS = 0, 1, 2


@contextmanager
def guarded_streams() -> Iterator[None]:
    """
    Guard the standard streams during the block.

    A write to standard output that fails raises OutputError, also in a library. Messages that standard error
    does not take are lost, and change no exit code.
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
            # Here, because at the end of the process a failure would be a traceback.
            sys.stdout.flush()
    finally:
        sys.stdout = stdout
        if escaped and codecs.lookup(stdout.encoding).name != "utf-8":
            print_error(
                f"standard output has the encoding {stdout.encoding}: characters that it does not have"
                " are written as escapes: set PYTHONIOENCODING=utf-8 to see them"
            )
        print_error("")  # flushes what a library has written, or discards it


def print_line(text: str) -> None:
    """Print a line for people. Raises: OutputError."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_table(table: Table, *, width: int | None = None) -> None:
    """
    Print a table for people; its cells are text without markup.

    Shape: `width` is the largest width where the output is no terminal. Raises: OutputError.
    """
    from rich.console import Console  # noqa: PLC0415 - at its first use

    console = Console(file=sys.stdout, markup=False, emoji=False, highlight=False)
    if width is not None and not console.is_terminal:
        console.width = width
    console.print(table)


def print_data(text: str) -> None:
    """Print data for programs, unchanged and in UTF-8. Raises: OutputError."""
    if isinstance(sys.stdout, _Guarded):
        sys.stdout.write_bytes(text.encode("utf-8", "backslashreplace"))
    else:
        sys.stdout.write(text)


def print_error(message: str) -> None:
    """Print a message of one or more lines on standard error; it is lost if that cannot be written to."""
    try:
        for line in message.splitlines():
            sys.stderr.write(f"octopus-exporter: {line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        # At exit Python would flush what is left, fail again and change the exit code.
        _redirect_to_null(_ERRORS)


class _Guarded:
    """Turns failed writes into OutputErrors. Later writes fail too: some libraries ignore the first error."""

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
            # What was printed as text comes before these bytes.
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
            # Discard what is left in the buffers: at exit Python would try to write it, and fail again.
            _redirect_to_null(_OUTPUT)
            if isinstance(exc, BrokenPipeError):
                self._failure = ReaderGone("nobody reads standard output any more")
            else:
                reason = "it is closed" if exc.errno == errno.EBADF else exc.strerror or str(exc)
                self._failure = OutputError(f"cannot write to standard output: {reason}")
            raise self._failure from exc


def _redirect_to_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def _fill_closed_descriptors() -> None:
    """
    Open the standard descriptors that were closed before the start, so that no socket of ours gets one.

    They are opened for reading only: a command that prints fails, and no line or event counts as written.
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
