from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from exporter.errors import ConfigError
from exporter.simulator.responses import DEFAULT_PROBABILITIES, Faults, SimulatedResponse, parse_faults

SAMPLES = Path(__file__).parent / "samples"
ALL = "throttle=1,errors=1,expiry=1,slow=1,broken=1"
GOOD = SimulatedResponse(200, b'{"meta_info":{"current_time":"2022-01-01T08:08:29Z"},"payload":{"list":[]}}')


def faults_of(text: str, seed: int = 1) -> Faults:
    return Faults(text, seed, slow_seconds=2.0)


def test_faults_are_named_with_or_without_a_probability() -> None:
    assert parse_faults(" throttle , errors=0.5,slow=0") == {
        "throttle": DEFAULT_PROBABILITIES["throttle"],
        "errors": 0.5,
        "slow": 0.0,
    }
    assert parse_faults("") == {}


def test_every_fault_that_cannot_be_used_gets_its_line() -> None:
    with pytest.raises(ConfigError) as raised:
        parse_faults("throttle,gremlins,slow=2,broken=often")
    assert raised.value.problems == [
        f"faults: 'gremlins' is unknown: expected any of {', '.join(DEFAULT_PROBABILITIES)}",
        "faults: 'slow=2': expected a probability from 0 to 1",
        "faults: 'broken=often': expected a probability from 0 to 1",
    ]


def test_the_same_seed_gives_the_same_faults() -> None:
    text = "throttle=0.3,errors=0.3,broken=0.3"
    one, other, another = faults_of(text), faults_of(text), faults_of(text, seed=2)
    drawn = [one.draw() for _ in range(100)]
    assert drawn == [other.draw() for _ in range(100)]
    assert drawn != [another.draw() for _ in range(100)]


def test_faults_come_as_often_as_they_should() -> None:
    faults = faults_of("throttle=0.25,slow=0,errors=1")
    counted = Counter(name for _ in range(4000) for name in faults.draw())
    assert counted["throttle"] == pytest.approx(1000, rel=0.1)
    assert (counted["errors"], counted["slow"], counted["broken"]) == (4000, 0, 0)


def test_switching_a_fault_off_leaves_the_others_their_lots() -> None:
    both, one = faults_of("throttle=0.5,broken=0.5"), faults_of("broken=0.5")
    assert [f - {"throttle"} for f in (both.draw() for _ in range(50))] == [one.draw() for _ in range(50)]


def test_faults_that_cannot_be_used_change_nothing() -> None:
    faults = faults_of("errors=1")
    with pytest.raises(ConfigError):
        faults.replace("gremlins")
    assert faults.draw() == {"errors"}


def test_throttling_answers_as_the_gateway_does_and_sometimes_says_when() -> None:
    faults = faults_of(ALL)
    answers = [faults.throttled("8e8a1e4e1b2c4d0fa3b2d6c1f0e9a7b5") for _ in range(100)]
    expected = json.loads((SAMPLES / "429-gateway-throttled.json").read_text())
    assert {answer.status for answer in answers} == {429}
    assert all(json.loads(answer.body) == expected for answer in answers)
    assert Counter(answer.headers.get("Retry-After") for answer in answers).keys() == {None, "1"}


def test_errors_come_in_every_status_and_shape() -> None:
    faults = faults_of(ALL)
    answers = [faults.failed("r") for _ in range(300)]
    assert {answer.status for answer in answers} == {500, 502, 503, 504}
    assert {answer.content_type for answer in answers} == {"application/json", "text/html"}
    bodies = {tuple(json.loads(a.body)) for a in answers if a.body.startswith(b"{")}
    assert {("error_code", "error_msg"), ("errorCode", "errorMsg"), ("code", "message")} <= bodies
    assert any(answer.body == b"" for answer in answers)


def test_answers_break_in_five_ways() -> None:
    faults = faults_of(ALL)
    broken = [faults.broken(GOOD) for _ in range(200)]
    kinds = {
        "cut": [a for a in broken if a.is_cut],
        "empty": [a for a in broken if not a.body],
        "html": [a for a in broken if a.content_type == "text/html"],
        "truncated": [a for a in broken if a.body and not a.is_cut and GOOD.body.startswith(a.body)],
        "without payload": [a for a in broken if a.body.endswith(b"}") and b"payload" not in a.body],
    }
    assert all(kinds.values())
    assert sum(map(len, kinds.values())) == 200
    assert {answer.status for answer in broken} == {200}


def test_a_slow_answer_is_kept_back_around_the_slow_seconds() -> None:
    faults = faults_of(ALL)
    delays = [faults.slowed(GOOD).delay_seconds for _ in range(50)]
    assert 1.0 <= min(delays) < max(delays) <= 3.0
