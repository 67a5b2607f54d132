"""
The answers of the gateway, the service and IAM, as bytes.

Source: the samples and the table of errors in the description of the remote API this project keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What goes back.

    Shape: `charset` is announced in Content-Type, None for none; with `is_cut` the connection is closed
    within the body.
    """

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


def json_answer(status: int, body: object, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, msgspec.json.encode(body), headers=headers or {})


def gateway_error(
    status: int, code: str, message: str, request_id: str, headers: Mapping[str, str] | None = None
) -> Answer:
    """Refuse as the API gateway does."""
    return json_answer(status, {"error_msg": message, "error_code": code, "request_id": request_id}, headers)


def service_error(status: int, code: str, message: str) -> Answer:
    """Refuse as the Octopus service does."""
    return json_answer(status, {"error_code": f"octopus.{code}", "error_msg": message})


def iam_error(status: int, title: str, message: str) -> Answer:
    """Refuse as IAM does."""
    return json_answer(status, {"error": {"code": status, "message": message, "title": title}})


def bad_parameter(name: str, value: str, now_ms: int) -> Answer:
    """Refuse a query parameter as the service does."""
    return json_answer(
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
