"""
What goes wrong between a client and the API: drawn by chance, the same for the same seed and requests.

Pure: nothing waits or is cut here, the answers only say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random

from exporter.errors import ConfigError
from exporter.simulator.answers import Answer, gateway_error, json_answer, service_error

DEFAULT_PROBABILITIES: Mapping[str, float] = {
    "throttle": 0.05,
    "errors": 0.05,
    "expiry": 0.02,
    "slow": 0.05,
    "broken": 0.03,
    "garbled": 0.03,
    "blank": 0.02,
    "revoke": 0.02,
}

_THROTTLED = "The throttling threshold has been reached: policy ip over ratelimit,limit:5,time:1 second"


def parse_faults(text: str) -> dict[str, float]:
    """
    Read `name` or `name=probability`, separated by commas.

    Raises: ConfigError, with a line for each part that cannot be used.
    """
    chosen: dict[str, float] = {}
    problems: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, given = (piece.strip() for piece in part.partition("="))
        probability = _probability(given) if given else DEFAULT_PROBABILITIES.get(name)
        if name not in DEFAULT_PROBABILITIES:
            problems.append(
                f"faults: {name!r} is unknown: expected any of {', '.join(DEFAULT_PROBABILITIES)}"
            )
        elif probability is None:
            problems.append(f"faults: {part!r}: expected a probability from 0 to 1")
        else:
            chosen[name] = probability
    if problems:
        raise ConfigError(problems)
    return chosen


def _probability(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


class Faults:
    """
    Decide for one request after the other what befalls it.

    Each request draws one lot per fault, whichever are on: switching one on or off leaves the others' alone.
    """

    def __init__(self, text: str, seed: int, slow_seconds: float) -> None:
        self._probabilities = parse_faults(text)
        self._rng = Random(f"faults {seed}")
        self._slow_seconds = slow_seconds

    def replace(self, text: str) -> None:
        """
        Go on with other faults.

        Raises: ConfigError, and nothing changes.
        """
        self._probabilities = parse_faults(text)

    def draw(self) -> frozenset[str]:
        """Draw what befalls the next request."""
        lots = {name: self._rng.random() for name in DEFAULT_PROBABILITIES}
        return frozenset(name for name, lot in lots.items() if lot < self._probabilities.get(name, 0.0))

    def throttled(self, request_id: str) -> Answer:
        """Refuse with 429; one in three says when to come back."""
        headers = {"Retry-After": "1"} if self._rng.random() < 1 / 3 else {}
        return gateway_error(429, "APIGW.0308", _THROTTLED, request_id, headers)

    def failed(self, request_id: str) -> Answer:
        """Fail with 500, 502, 503 or 504, in one of the bodies these come with."""
        return self._rng.choice(_FAILURES)(request_id)

    def broken(self, answer: Answer) -> Answer:
        """Spoil a good answer."""
        return self._rng.choice(_BREAKS)(answer)

    def garbled(self, answer: Answer) -> Answer:
        """Spoil a good answer so that it is no JSON any more."""
        return self._rng.choice(_GARBLES)(answer)

    def slowed(self, answer: Answer) -> Answer:
        """Keep an answer back for about the slow seconds."""
        seconds = self._slow_seconds * self._rng.uniform(0.5, 1.5)
        return replace(answer, delay_seconds=answer.delay_seconds + seconds)


def _html(status: int, title: str) -> Answer:
    body = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
    return Answer(status, body.encode(), "text/html")


def _truncated(answer: Answer) -> Answer:
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def _without_payload(answer: Answer) -> Answer:
    """Leave the payload out. It is the body's last field, whatever stands in it."""
    head, _, _ = answer.body.partition(b',"payload":')
    return replace(answer, body=head + b"}")


_FAILURES: tuple[Callable[[str], Answer], ...] = (
    lambda _: service_error(500, "400100", "An internal error occurred."),
    lambda _: json_answer(500, {"errorCode": "octopus.400100", "errorMsg": "An internal error occurred."}),
    lambda _: service_error(502, "400102", "The upstream service gave no valid answer."),
    lambda _: _html(502, "502 Bad Gateway"),
    lambda _: service_error(503, "400104", "The service is not available."),
    lambda _: json_answer(503, {"code": "octopus.400104", "message": "The service is not available."}),
    lambda _: Answer(503, b""),
    lambda request_id: gateway_error(504, "APIGW.0201", "Backend timeout.", request_id),
    lambda _: _html(504, "504 Gateway Time-out"),
)

_GARBLES: tuple[Callable[[Answer], Answer], ...] = (
    _truncated,
    lambda answer: replace(answer, body=b""),
    lambda _: _html(200, "Please sign in"),
    lambda answer: replace(answer, is_cut=True),
)
_BREAKS = (*_GARBLES, _without_payload)
