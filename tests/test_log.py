"""The log: one line per event, in either format, with nothing secret in it."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TextIO

import pytest
import structlog
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import Secret
from exporter.log import Log, LogFormat, LogLevel
from exporter.masking import Secrets

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """Give the logging of the other tests back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@contextmanager
def configured(
    level: LogLevel, format_: LogFormat, stream: TextIO, secrets: Secrets | None = None
) -> Iterator[Log]:
    """Log to a stream; at the end of the block everything is written."""
    with Log(secrets or Secrets(), stream) as log:
        log.configure(level, format_)
        yield log


def json_lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class TestLines:
    @time_machine.travel(datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC), tick=False)
    def test_are_logfmt(self, stream: io.StringIO) -> None:
        with configured("info", "logfmt", stream):
            structlog.get_logger().info("poll done", project="a b", jobs=3, complete=True, workspace=None)
        assert stream.getvalue() == (
            'ts=2026-01-02T03:04:05.678Z level=info msg="poll done" '
            'project="a b" jobs=3 complete=true workspace=\n'
        )

    @time_machine.travel(datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC), tick=False)
    def test_are_json(self, stream: io.StringIO) -> None:
        with configured("info", "json", stream):
            structlog.get_logger().warning("作业", project="a b", jobs=3)
        assert stream.getvalue() == (
            '{"ts": "2026-01-02T03:04:05.678Z", "level": "warning", "msg": "作业", '
            '"project": "a b", "jobs": 3}\n'
        )

    def test_of_other_loggers_go_the_same_way(self, stream: io.StringIO) -> None:
        with configured("info", "json", stream):
            logging.getLogger("aiohttp.server").error("request %s failed", "/metrics")
        (line,) = json_lines(stream)
        del line["ts"]
        assert line == {"level": "error", "msg": "request /metrics failed", "logger": "aiohttp.server"}

    def test_carry_what_is_bound_to_the_task(self, stream: io.StringIO) -> None:
        bound = structlog.contextvars.bound_contextvars(project="perception")
        with configured("info", "json", stream), bound:
            structlog.get_logger().info("poll done")
        assert json_lines(stream)[0]["project"] == "perception"

    @pytest.mark.parametrize("format_", ["logfmt", "json"])
    def test_are_one_each_even_with_an_exception(self, stream: io.StringIO, format_: LogFormat) -> None:
        with configured("info", format_, stream):
            try:
                raise ValueError("first\nsecond")
            except ValueError:
                structlog.get_logger().exception("bug\nhere")
                logging.getLogger("other").exception("bug\nthere")
        lines = stream.getvalue().splitlines()
        assert len(lines) == 2
        assert all("ValueError: first" in line for line in lines)

    @pytest.mark.parametrize(
        ("level", "logged"),
        [
            ("debug", ["debug", "info", "warning", "error"]),
            ("info", ["info", "warning", "error"]),
            ("warning", ["warning", "error"]),
            ("error", ["error"]),
        ],
    )
    def test_are_logged_from_the_level_up(
        self, stream: io.StringIO, level: LogLevel, logged: list[str]
    ) -> None:
        with configured(level, "json", stream):
            for method in ("debug", "info", "warning", "error"):
                getattr(structlog.get_logger(), method)("event")
                getattr(logging.getLogger("other"), method)("event")
        assert [line["level"] for line in json_lines(stream)] == [each for each in logged for _ in range(2)]

    def test_go_to_standard_error_by_default(self, capsys: pytest.CaptureFixture[str]) -> None:
        with configured("info", "logfmt", sys.stderr):
            structlog.get_logger().info("event")
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.endswith(" level=info msg=event\n")

    def test_come_once_and_as_told_last_after_configuring_again(self, stream: io.StringIO) -> None:
        others = list(logging.getLogger().handlers)
        with configured("info", "logfmt", stream) as log:
            log.configure("warning", "json")
            structlog.get_logger().info("event")
            structlog.get_logger().warning("event")
            assert set(others) < set(logging.getLogger().handlers)
        assert len(json_lines(stream)) == 1
        assert logging.getLogger().handlers == others

    @given(st.text())
    def test_do_not_break_on_any_text(self, text: str) -> None:
        stream = io.StringIO()
        with configured("info", "json", stream):
            structlog.get_logger().info(text, value=text, nested={text: [text]})
        with configured("info", "logfmt", stream):
            structlog.get_logger().info(text, value=text)
        assert stream.getvalue().count("\n") == 2
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", stream.getvalue())

    def test_hold_only_what_json_has(self, stream: io.StringIO) -> None:
        with configured("info", "json", stream):
            structlog.get_logger().info("event", value={("a", 1): [float("nan"), {1}, b"x", 1.5, object]})
        assert json_lines(stream)[0]["value"] == {"('a', 1)": ["nan", [1], "b'x'", 1.5, "<class 'object'>"]}


class TestAReaderThatStops:
    def test_holds_nobody_up_and_is_told_what_it_missed(self) -> None:
        reader, stream = pipe()
        # The thread waits from its first line on: nothing is written before all lines are logged.
        fill(stream.fileno())
        dropped: list[None] = []
        with stream, os.fdopen(reader) as read_end:
            lines = (line for line in read_end if line.strip())
            with Log(
                Secrets(), stream, on_dropped=lambda: dropped.append(None), max_waiting_bytes=50_000
            ) as log:
                log.configure("info", "json")
                for number in range(5_000):
                    structlog.get_logger().info("event", number=number, padding="x" * 50)
                assert dropped
                read = [json.loads(next(lines))]
                while read[-1]["msg"] == "event":
                    read.append(json.loads(next(lines)))
                structlog.get_logger().info("after")
            stream.close()
            read += map(json.loads, lines)
        missing = [line for line in read if line["msg"].startswith("log lines were dropped")]
        assert [line["level"] for line in missing] == ["warning"]
        assert missing[0]["lines"] == len(dropped)
        assert [line["number"] for line in read if line["msg"] == "event"] == list(
            range(5_000 - len(dropped))
        )
        assert read[-1]["msg"] == "after"

    def test_does_not_keep_the_process_from_ending(self) -> None:
        reader, stream = pipe()
        with Log(Secrets(), stream) as log:
            log.configure("info", "json")
            for _ in range(5_000):
                structlog.get_logger().info("event", padding="x" * 50)
        # Let the thread, which still waits for the pipe, come to its end.
        os.close(reader)
        with suppress(OSError):
            stream.close()

    def test_that_is_gone_costs_its_lines_only(self) -> None:
        reader, stream = pipe()
        dropped: list[None] = []
        os.close(reader)
        with stream, Log(Secrets(), stream, on_dropped=lambda: dropped.append(None)) as log:
            log.configure("info", "json")
            for _ in range(100):
                structlog.get_logger().info("event")
        assert len(dropped) == 100

    def test_may_have_made_the_pipe_non_blocking(self) -> None:
        reader, stream = pipe()
        os.set_blocking(stream.fileno(), False)
        with os.fdopen(reader) as lines, stream, Log(Secrets(), stream) as log:
            log.configure("info", "json")
            for number in range(3_000):
                structlog.get_logger().info("event", number=number)
            read = [json.loads(next(lines))["number"] for _ in range(3_000)]
        assert read == list(range(3_000))


def pipe() -> tuple[int, TextIO]:
    reader, writer = os.pipe()
    return reader, os.fdopen(writer, "w")


def fill(descriptor: int) -> None:
    """Leave no room in a pipe: fill it with empty lines."""
    os.set_blocking(descriptor, False)
    for size in (4096, 1):
        with suppress(BlockingIOError):
            while True:
                os.write(descriptor, b"\n" * size)
    os.set_blocking(descriptor, True)


class TestSecrets:
    @pytest.mark.parametrize("format_", ["logfmt", "json"])
    @pytest.mark.parametrize(
        "value",
        [
            Secret(SECRET),
            {"password": Secret(SECRET)},
            [Secret(SECRET)],
            {"X-Auth-Token": SECRET},
            {"headers": {"authorization": SECRET}},
            [{"x_subject_token": SECRET}],
            f"X-Auth-Token: {SECRET}",
            f"{{'Authorization': 'SDK-HMAC-SHA256 {SECRET}', 'Host': 'h'}}",
            f"<CIMultiDict('X-Subject-Token': '{SECRET}')>",
            f"(b'x-security-token', b'{SECRET}')",
            f'{{"user": {{"name": "u", "password": "{SECRET}"}}}}',
            f"cannot connect to http://proxy:{SECRET}@127.0.0.1:1/",
            f"postgresql://u:a@{SECRET}@db/octopus",
        ],
        ids=str,
    )
    def test_never_show(self, stream: io.StringIO, format_: LogFormat, value: object) -> None:
        with configured("debug", format_, stream):
            structlog.get_logger().info(f"event {value}", value=value)
            structlog.get_logger().info("event %s", value, token=SECRET, secret_key=SECRET)
            logging.getLogger("other").debug("event %s", value)
            try:
                raise ValueError(value)
            except ValueError:
                structlog.get_logger().exception("event")
        assert SECRET not in stream.getvalue()
        assert stream.getvalue().count("<secret>") >= 4

    @pytest.mark.parametrize(
        "text",
        [
            "credentials.default.password: missing, expected password or password_file",
            "https://octopus.cn-north-11.myhuaweicloud.com/v1.0/abc/data/system-jobs",
            "the token was refused: it has expired",
            '{"methods": ["password"], "password": {"user": {"name": "u"}}}',
            "mail a@b",
        ],
    )
    def test_are_not_seen_where_there_are_none(self, text: str) -> None:
        assert Secrets().masked(text) == text

    @pytest.mark.parametrize("format_", ["logfmt", "json"])
    def test_that_are_known_never_show_in_any_value(self, stream: io.StringIO, format_: LogFormat) -> None:
        token = base64.b64encode(bytes(range(200))).decode()
        echo = base64.b64encode(token[20:80].encode()).decode()
        with configured("info", format_, stream, Secrets.of(token)):
            structlog.get_logger().info(f"event {token[40:70]}", value=[{"nested": echo}], key=token)
            try:
                raise ValueError(token[7:30])
            except ValueError:
                logging.getLogger("aiohttp.server").exception("event %s", echo[10:50])
        written = stream.getvalue()
        assert not any(token[at : at + 12] in written for at in range(len(token) - 11))
        assert echo[10:50] not in written

    def test_of_four_digits_leave_times_and_levels_alone(self, stream: io.StringIO) -> None:
        with configured("info", "logfmt", stream, Secrets.of("2026", "info", "level")):
            structlog.get_logger().info("event", at="2026-01-02T03:04:05Z", count=2026)
        line = stream.getvalue()
        assert " level=info msg=event at=2026-01-02T03:04:05Z count=2026\n" in line
        assert "<secret>" not in line
