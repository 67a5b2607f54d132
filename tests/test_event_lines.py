"""An event's line: its fields and their order, in both formats, with nothing secret in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.events.lines import EventFormat, line_of
from exporter.masking import MASK, Secrets
from tests.events import event

FIELDS = (
    *("time", "event", "project", "project_id", "workspace", "job_type", "status", "job_id", "run"),
    *("msg_code", "resource_spec", "data_id", "created", "started", "ended"),
    *("submitting_seconds", "running_seconds", "msg_error"),
)
# As Loki and other readers of logfmt take it: a bare word, or a JSON string.
PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^\s"=\\]*)(?: |$)')


def line(format_: EventFormat, secrets: Secrets | None = None, **fields: object) -> str:
    text = line_of(format_, secrets or Secrets())(event(**fields)).decode()
    assert text.endswith("\n")
    return text[:-1]


def read_logfmt(text: str) -> dict[str, str]:
    pairs = PAIR.findall(text)
    assert "".join(f"{key}={value} " for key, value in pairs) == text + " "
    return {key: json.loads(value) if value.startswith('"') else value for key, value in pairs}


def test_a_line_of_json() -> None:
    assert line("json") == (
        '{"time":"2026-03-02T07:01:50.123Z","event":"run_ended","project":"perception","project_id":"0a1b2c",'
        '"workspace":"0","job_type":"FRAME_EXTRACT","status":"RUN_FAILED","job_id":"1","run":2,'
        '"msg_code":"3001","resource_spec":"2Core_4GiB","data_id":"pkg-7",'
        '"created":"2026-03-02T07:00:00.000Z","started":"2026-03-02T07:01:00.500Z",'
        '"ended":"2026-03-02T07:01:40.001Z","submitting_seconds":60.5,"running_seconds":39.501,'
        '"msg_error":"data package \\"a b\\" is damaged"}'
    )


def test_a_line_of_logfmt() -> None:
    assert line("logfmt") == (
        "time=2026-03-02T07:01:50.123Z event=run_ended project=perception project_id=0a1b2c workspace=0"
        " job_type=FRAME_EXTRACT status=RUN_FAILED job_id=1 run=2 msg_code=3001 resource_spec=2Core_4GiB"
        " data_id=pkg-7 created=2026-03-02T07:00:00.000Z started=2026-03-02T07:01:00.500Z"
        " ended=2026-03-02T07:01:40.001Z submitting_seconds=60.5 running_seconds=39.501"
        ' msg_error="data package \\"a b\\" is damaged"'
    )


def test_the_largest_id_is_exact() -> None:
    """A number in JSON is a float to JavaScript, and to LogQL."""
    assert json.loads(line("json", number=2**63 - 1))["job_id"] == str(2**63 - 1)


def test_a_run_that_never_started_has_all_fields() -> None:
    empty = {"started_ms": None, "submitting_ms": None, "running_ms": None, "msg_code": "", "data_id": ""}
    fields = json.loads(line("json", **empty, ended_ms=None, msg_error="", resource_spec=""))
    assert tuple(fields) == FIELDS
    assert {key for key, value in fields.items() if value is None} == {
        *("started", "ended", "submitting_seconds", "running_seconds"),
        *("msg_code", "msg_error", "data_id", "resource_spec"),
    }
    words = read_logfmt(line("logfmt", **empty, ended_ms=None, msg_error="", resource_spec=""))
    assert tuple(words) == FIELDS
    assert (words["started"], words["msg_error"]) == ("", "")


@pytest.mark.parametrize("at_ms", [-(2**62), 10**15, 2**62])
def test_a_time_that_no_calendar_has_is_left_out(at_ms: int) -> None:
    assert json.loads(line("json", created_ms=at_ms))["created"] is None


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_makes_one_line_that_reads_back(text: str) -> None:
    made = line("json", msg_error=text), line("logfmt", msg_error=text)
    assert all(len((one + "x").splitlines()) == 1 for one in made)
    assert not any(re.search(r"[\x00-\x1f\x7f-\x9f]", one) for one in made)
    assert json.loads(made[0])["msg_error"] == (text or None)
    assert read_logfmt(made[1])["msg_error"] == text


def test_secrets_are_masked_in_all_that_a_server_says() -> None:
    secret = "wJalrXUtnFEMI/K7MDENG"
    said = dict.fromkeys(("msg_error", "data_id", "resource_spec", "msg_code", "job_type", "status"), secret)
    text = line("json", Secrets.of(secret), **said)
    assert secret not in text
    assert text.count(MASK) == len(said)


def test_ids_times_and_configured_names_are_not_masked() -> None:
    secrets = Secrets.of("2026", "perception", "1234")
    secrets.never_mask(["perception"])
    fields = json.loads(line("json", secrets, number=1234, msg_code="1234"))
    assert (fields["time"][:4], fields["project"], fields["job_id"]) == ("2026", "perception", "1234")
    assert fields["msg_code"] == "1234"


def test_lines_of_two_targets_tell_them_apart() -> None:
    one = event()
    other = replace(one, target=replace(one.target, workspace="7"))
    assert json.loads(line_of("json", Secrets())(other))["workspace"] == "7"
