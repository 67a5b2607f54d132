"""
The responses of the gateway, the service and IAM, and the faults that alter them.

Faults are random, but the same for the same seed and requests. Pure: a response only says that it is to be
delayed or cut; app.py does so.
Source: the samples and the table of errors in the description of the remote API this project keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random

import msgspec

from exporter.errors import ConfigError

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


@dataclass(frozen=True, slots=True)
class SimulatedResponse:
    """A response. Shape: `charset` of Content-Type, or None; `is_cut`: the connection closes within it."""

    status: int
    body: bytes
    content_type: str = "application/json"
    charset: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    is_cut: bool = False


def utc_time(at_ms: int) -> str:
    """Write a time as the service does: to the second, UTC."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def json_response(status: int, body: object, headers: Mapping[str, str] | None = None) -> SimulatedResponse:
    return SimulatedResponse(status, msgspec.json.encode(body), headers=headers or {})


def gateway_error(status: int, code: str, message: str, request_id: str) -> SimulatedResponse:
    return json_response(status, {"error_msg": message, "error_code": code, "request_id": request_id})


def service_error(status: int, code: str, message: str) -> SimulatedResponse:
    return json_response(status, {"error_code": f"octopus.{code}", "error_msg": message})


def iam_error(status: int, title: str, message: str) -> SimulatedResponse:
    return json_response(status, {"error": {"code": status, "message": message, "title": title}})


def bad_parameter(name: str, value: str, now_ms: int) -> SimulatedResponse:
    return json_response(
        400,
        {
            "error_code": "000003",
            "error_name": "octopus_request_param_error",
            "error_msg": f"Request params [{name}:{value}] is invalid.",
            "error_suggestion": f"Please confirm that the request params [{name}:{value}] is correct.",
            "error_context": (
                f"Field error on field: [{name}], rejected value: [{value}]; Message: Value is not valid."
            ),
            "current_time": utc_time(now_ms),
        },
    )


def parse_faults(text: str) -> dict[str, float]:
    """Read `name` or `name=probability`, separated by commas. Raises: ConfigError, with all problems."""
    chosen: dict[str, float] = {}
    problems: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, given = (piece.strip() for piece in part.partition("="))
        try:
            probability = float(given) if given else DEFAULT_PROBABILITIES.get(name, 0.0)
        except ValueError:
            probability = -1.0
        if name not in DEFAULT_PROBABILITIES:
            problems.append(
                f"faults: {name!r} is unknown: expected any of {', '.join(DEFAULT_PROBABILITIES)}"
            )
        elif not 0 <= probability <= 1:
            problems.append(f"faults: {part!r}: expected a probability from 0 to 1")
        else:
            chosen[name] = probability
    if problems:
        raise ConfigError(problems)
    return chosen


class Faults:
    """
    Draw the faults of each request.

    Each request draws a random number for every fault, even if it is off. So turning a fault on or off does
    not change at which requests the others occur.
    """

    def __init__(self, text: str, seed: int, slow_seconds: float) -> None:
        self._probabilities = parse_faults(text)
        # A source of its own, so that faults do not change which jobs there are.
        self._rng = Random(f"faults {seed}")
        self._slow_seconds = slow_seconds

    def replace(self, text: str) -> None:
        """Use other faults from now on. Raises: ConfigError, and nothing changes."""
        self._probabilities = parse_faults(text)

    def draw(self) -> frozenset[str]:
        lots = {name: self._rng.random() for name in DEFAULT_PROBABILITIES}
        return frozenset(name for name, lot in lots.items() if lot < self._probabilities.get(name, 0.0))

    def throttled(self, request_id: str) -> SimulatedResponse:
        """Refuse with 429; one response in three has Retry-After."""
        headers = {"Retry-After": "1"} if self._rng.random() < 1 / 3 else {}
        return replace(gateway_error(429, "APIGW.0308", _THROTTLED, request_id), headers=headers)

    def failed(self, request_id: str) -> SimulatedResponse:
        """Fail with 500, 502, 503 or 504, with one of the bodies that such a status has."""
        return self._rng.choice(_FAILURES)(request_id)

    def broken(self, response: SimulatedResponse) -> SimulatedResponse:
        """Alter a good response so that a part of its body is missing, or all of it."""
        return self._rng.choice(_BREAKS)(response)

    def garbled(self, response: SimulatedResponse) -> SimulatedResponse:
        """Alter a good response so that its body is not JSON."""
        return self._rng.choice(_GARBLES)(response)

    def slowed(self, response: SimulatedResponse) -> SimulatedResponse:
        seconds = self._slow_seconds * self._rng.uniform(0.5, 1.5)
        return replace(response, delay_seconds=response.delay_seconds + seconds)


def _html(status: int, title: str) -> SimulatedResponse:
    body = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
    return SimulatedResponse(status, body.encode(), "text/html")


def _without_payload(response: SimulatedResponse) -> SimulatedResponse:
    """Leave the payload out. It is the last field of the body, so all after its name can be dropped."""
    head, _, _ = response.body.partition(b',"payload":')
    return replace(response, body=head + b"}")


_FAILURES: tuple[Callable[[str], SimulatedResponse], ...] = (
    lambda _: service_error(500, "400100", "An internal error occurred."),
    lambda _: json_response(500, {"errorCode": "octopus.400100", "errorMsg": "An internal error occurred."}),
    lambda _: service_error(502, "400102", "The upstream service gave no valid answer."),
    lambda _: _html(502, "502 Bad Gateway"),
    lambda _: service_error(503, "400104", "The service is not available."),
    lambda _: json_response(503, {"code": "octopus.400104", "message": "The service is not available."}),
    lambda _: SimulatedResponse(503, b""),
    lambda request_id: gateway_error(504, "APIGW.0201", "Backend timeout.", request_id),
    lambda _: _html(504, "504 Gateway Time-out"),
)

_GARBLES: tuple[Callable[[SimulatedResponse], SimulatedResponse], ...] = (
    lambda response: replace(response, body=response.body[: len(response.body) // 2]),
    lambda response: replace(response, body=b""),
    lambda _: _html(200, "Please sign in"),
    lambda response: replace(response, is_cut=True),
)
_BREAKS = (*_GARBLES, _without_payload)
