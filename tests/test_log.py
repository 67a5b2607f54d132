"""The log: one line per event, in either format, with nothing secret in it."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import structlog
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import Secret
from exporter.log import LogFormat, LogLevel, configure, mask_text

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


def json_lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class TestLines:
    @time_machine.travel(datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC), tick=False)
    def test_are_logfmt(self, stream: io.StringIO) -> None:
        configure("info", "logfmt", stream)
        structlog.get_logger().info("poll done", project="a b", jobs=3, complete=True, workspace=None)
        assert stream.getvalue() == (
            'ts=2026-01-02T03:04:05.678Z level=info msg="poll done" '
            'project="a b" jobs=3 complete=true workspace=\n'
        )

    @time_machine.travel(datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC), tick=False)
    def test_are_json(self, stream: io.StringIO) -> None:
        configure("info", "json", stream)
        structlog.get_logger().warning("作业", project="a b", jobs=3)
        assert stream.getvalue() == (
            '{"ts": "2026-01-02T03:04:05.678Z", "level": "warning", "msg": "作业", '
            '"project": "a b", "jobs": 3}\n'
        )

    def test_of_other_loggers_go_the_same_way(self, stream: io.StringIO) -> None:
        configure("info", "json", stream)
        logging.getLogger("aiohttp.server").error("request %s failed", "/metrics")
        (line,) = json_lines(stream)
        del line["ts"]
        assert line == {"level": "error", "msg": "request /metrics failed", "logger": "aiohttp.server"}

    def test_carry_what_is_bound_to_the_task(self, stream: io.StringIO) -> None:
        configure("info", "json", stream)
        with structlog.contextvars.bound_contextvars(project="perception"):
            structlog.get_logger().info("poll done")
        assert json_lines(stream)[0]["project"] == "perception"

    @pytest.mark.parametrize("format_", ["logfmt", "json"])
    def test_are_one_each_even_with_an_exception(self, stream: io.StringIO, format_: LogFormat) -> None:
        configure("info", format_, stream)
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
        configure(level, "json", stream)
        for method in ("debug", "info", "warning", "error"):
            getattr(structlog.get_logger(), method)("event")
            getattr(logging.getLogger("other"), method)("event")
        assert [line["level"] for line in json_lines(stream)] == [each for each in logged for _ in range(2)]

    def test_go_to_standard_error_by_default(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure("info", "logfmt")
        structlog.get_logger().info("event")
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.endswith(" level=info msg=event\n")

    def test_come_once_after_configuring_again(self, stream: io.StringIO) -> None:
        others = [each for each in logging.getLogger().handlers if each.__module__ != "exporter.log"]
        configure("info", "json", sys.stderr)
        configure("warning", "json", stream)
        structlog.get_logger().info("event")
        structlog.get_logger().warning("event")
        assert len(json_lines(stream)) == 1
        assert set(others) < set(logging.getLogger().handlers)

    @given(st.text())
    def test_do_not_break_on_any_text(self, text: str) -> None:
        stream = io.StringIO()
        configure("info", "json", stream)
        structlog.get_logger().info(text, value=text, nested={text: [text]})
        configure("info", "logfmt", stream)
        structlog.get_logger().info(text, value=text)
        assert stream.getvalue().count("\n") == 2
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", stream.getvalue())

    def test_hold_only_what_json_has(self, stream: io.StringIO) -> None:
        configure("info", "json", stream)
        structlog.get_logger().info("event", value={("a", 1): [float("nan"), {1}, b"x", 1.5, object]})
        assert json_lines(stream)[0]["value"] == {"('a', 1)": ["nan", [1], "b'x'", 1.5, "<class 'object'>"]}


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
        configure("debug", format_, stream)
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
        assert mask_text(text) == text
