"""Outputs of events: lines stay whole, a file may be rotated, and nothing waits for ever."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import signal
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest

from exporter.events.sinks import FileSink, StreamSink, Written
from exporter.log.writer import writing_to

LONG = b"x" * 3 * 4096 + b"\n"


def never() -> bool:
    return False


def own_turn(_descriptor: int) -> threading.Lock:
    return threading.Lock()


def write(sink: FileSink | StreamSink, *lines: bytes) -> Written:
    return sink.write(lines, never)


class TestFile:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "events.log"

    @pytest.fixture
    def sink(self, file: Path) -> Iterator[FileSink]:
        sink = FileSink(file, own_turn)
        yield sink
        sink.close()

    def test_is_made_and_added_to(self, file: Path, sink: FileSink) -> None:
        assert write(sink, b"1\n", LONG) == Written(2)
        assert write(sink, b"2\n") == Written(1)
        assert file.read_bytes() == b"1\n" + LONG + b"2\n"
        assert file.stat().st_mode & 0o007 == 0

    def test_that_was_renamed_is_made_anew(self, file: Path, sink: FileSink) -> None:
        write(sink, b"1\n")
        old = file.rename(file.with_name("events.log.1"))
        write(sink, b"2\n")
        assert (old.read_bytes(), file.read_bytes()) == (b"1\n", b"2\n")

    def test_that_was_replaced_is_taken(self, file: Path, sink: FileSink) -> None:
        """logrotate's `create` puts an empty file in its place."""
        write(sink, b"1\n")
        file.rename(file.with_name("events.log.1"))
        file.touch()
        write(sink, b"2\n")
        assert file.read_bytes() == b"2\n"

    def test_that_was_cut_to_nothing_goes_on_from_its_start(self, file: Path, sink: FileSink) -> None:
        """logrotate's `copytruncate`."""
        write(sink, b"1\n", b"2\n")
        os.truncate(file, 0)
        write(sink, b"3\n")
        assert file.read_bytes() == b"3\n"

    def test_that_ends_within_a_line_gets_a_line_end_first(self, file: Path, sink: FileSink) -> None:
        """As after a kill in the middle of a write."""
        file.write_bytes(b'1\n{"time":"20')
        assert write(sink, b"2\n", b"3\n") == Written(2)
        assert write(sink, b"4\n") == Written(1)
        assert file.read_bytes() == b'1\n{"time":"20\n2\n3\n4\n'

    def test_that_ends_with_a_line_gets_none(self, file: Path, sink: FileSink) -> None:
        file.write_bytes(b"1\n")
        write(sink, b"2\n")
        assert file.read_bytes() == b"1\n2\n"

    def test_in_a_folder_that_is_missing_is_an_error_until_it_is_there(self, tmp_path: Path) -> None:
        sink = FileSink(tmp_path / "missing" / "events.log", own_turn)
        assert refused(sink) == (0, errno.ENOENT)
        (tmp_path / "missing").mkdir()
        assert write(sink, b"1\n") == Written(1)

    def test_that_is_a_folder_is_an_error(self, tmp_path: Path) -> None:
        assert refused(FileSink(tmp_path, own_turn)) == (0, errno.EISDIR)

    def test_on_a_full_disk_is_an_error(self) -> None:
        assert refused(FileSink(Path("/dev/full"), own_turn)) == (0, errno.ENOSPC)

    def test_that_grows_too_large_has_whole_lines_and_goes_on_with_one(
        self, file: Path, sink: FileSink
    ) -> None:
        """A limit of the file's size stands in for a disk that fills up in the middle of a line."""
        with file_size_limit(10):
            written = write(sink, b"12345\n", b"67890\n", b"abcde\n")
            assert (written.lines, written.error and written.error.errno) == (1, errno.EFBIG)
            assert file.read_bytes() == b"12345\n6789"
            assert refused(sink) == (0, errno.EFBIG)
        assert write(sink, b"67890\n", b"abcde\n") == Written(2)
        assert file.read_bytes() == b"12345\n6789\n67890\nabcde\n"

    def test_that_is_a_pipe_without_a_reader_is_an_error(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        sink = FileSink(pipe, own_turn)
        assert refused(sink) == (0, errno.ENXIO)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        assert write(sink, b"1\n") == Written(1)
        assert os.read(reader, 100) == b"1\n"
        os.close(reader)
        assert refused(sink) == (0, errno.EPIPE)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        assert write(sink, b"2\n") == Written(1)
        assert os.read(reader, 100) == b"2\n"
        os.close(reader)


def refused(sink: FileSink) -> tuple[int, int | None]:
    written = write(sink, b"67890\n")
    assert written.error is not None
    return written.lines, written.error.errno


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


class TestStream:
    def test_takes_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with piped(monkeypatch) as reader:
            assert write(StreamSink("stdout", own_turn), b"1\n", b"2\n") == Written(2)
            assert os.read(reader, 100) == b"1\n2\n"

    def test_that_nobody_reads_any_more_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w") as stdout:
            monkeypatch.setattr(sys, "stdout", stdout)
            written = write(StreamSink("stdout", own_turn), b"1\n")
        assert written.lines == 0
        assert isinstance(written.error, BrokenPipeError)

    def test_that_is_closed_is_an_error(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        with (tmp_path / "closed").open("w") as stdout:
            monkeypatch.setattr(sys, "stdout", stdout)
        written = write(StreamSink("stdout", own_turn), b"1\n")
        assert (written.lines, str(written.error)) == (0, "[Errno 9] stdout is closed")

    def test_that_was_never_there_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Python has None for a stream that was closed when the process started."""
        monkeypatch.setattr(sys, "stderr", None)
        written = write(StreamSink("stderr", own_turn), b"1\n")
        assert (written.lines, str(written.error)) == (0, "[Errno 9] stderr is closed")

    def test_that_is_a_terminal_takes_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keyboard, screen = os.openpty()
        with os.fdopen(screen, "w") as terminal, os.fdopen(keyboard, "rb"):
            monkeypatch.setattr(sys, "stdout", terminal)
            assert write(StreamSink("stdout", own_turn), b"1\n", b"2\n") == Written(2)
            assert os.read(keyboard, 100) == b"1\r\n2\r\n"

    @pytest.mark.parametrize("line", [b"y" * 99 + b"\n", LONG], ids=["short", "long"])
    def test_whose_reader_has_stopped_is_waited_for(
        self, line: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If writing is called off meanwhile, whole lines count as written, and no others."""
        lines, off = [line] * (200_000 // len(line)), threading.Event()
        with piped(monkeypatch) as reader, ThreadPoolExecutor(1) as thread:
            sink = StreamSink("stdout", own_turn)
            writing = thread.submit(sink.write, lines, off.is_set)
            has_room = select.poll()
            has_room.register(sys.stdout, select.POLLOUT)
            while has_room.poll(0):
                pass
            off.set()
            result = writing.result(60)
            assert result.error is None
            assert 0 < result.lines < len(lines)
            read = os.read(reader, readable(reader))
            assert read.count(b"\n") == result.lines

            rest = lines[result.lines :]
            again = thread.submit(sink.write, rest, never)
            cut = b"" if read.endswith(b"\n") else b"\n"
            read += read_bytes(reader, len(cut) + sum(map(len, rest)))
            assert again.result(60) == Written(len(rest))
        whole = [one for one in read.splitlines(keepends=True) if one == line]
        assert whole == lines
        # A line that is longer than what a pipe takes at once may be cut, and the next one begins anew.
        assert len(read.splitlines()) == len(lines) + len(cut)
        assert not cut or line is LONG

    @pytest.mark.parametrize("kind", ["pipe", "file"])
    def test_shared_with_the_log_has_no_torn_lines(
        self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        turn, lines, texts = threading.Lock(), [LONG] * 100, [f"{'l' * 70_000}\n"] * 40
        wanted = sum(map(len, lines)) + sum(map(len, texts))
        file = (tmp_path / "both").open("a") if kind == "file" else None
        with piped(monkeypatch, file) as reader, ThreadPoolExecutor(2) as threads:
            log = writing_to(sys.stdout, turn)
            reading = None if file else threads.submit(read_bytes, reader, wanted)
            logging = threads.submit(lambda: [log(text) for text in texts])
            assert write(StreamSink("stdout", lambda _: turn), *lines) == Written(len(lines))
            logging.result(60)
            read = reading.result(60) if reading else (tmp_path / "both").read_bytes()
        assert {len(line) for line in read.splitlines()} == {len(LONG) - 1, 70_000}
        assert len(read) == wanted


@contextmanager
def piped(monkeypatch: pytest.MonkeyPatch, instead: TextIO | None = None) -> Iterator[int]:
    """Let standard output be a pipe (or this file) for a while; give the pipe's other end."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"), os.fdopen(writer, "w") as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", instead or pipe)
        yield reader
        if instead is not None:
            instead.close()


def readable(reader: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, b"\0\0\0\0"))[0])


def read_bytes(reader: int, wanted: int) -> bytes:
    read = bytearray()
    while len(read) < wanted:
        read += os.read(reader, wanted - len(read))
    return bytes(read)
