from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.simulator.auth import (
    KEY_LOCKED_SECONDS,
    USER_LOCKED_SECONDS,
    Authenticator,
    SignedRequest,
    signature,
)
from exporter.simulator.responses import SimulatedResponse
from exporter.simulator.settings import DemoCredentials

SAMPLES = Path(__file__).parent / "samples"
VECTORS = json.loads((SAMPLES / "signing-vectors.json").read_text())
NOW = 1_573_789_015.0  # 2019-11-15T03:36:55Z
KNOWN = DemoCredentials()
KEY_HEADERS = ("host", "x-sdk-date")


def gate_of(credentials: DemoCredentials = KNOWN, ttl_seconds: float = 60) -> Authenticator:
    return Authenticator(credentials, ("p1", "p2"), ttl_seconds, seed=1)


def token_request(password: str = KNOWN.password, user: str = KNOWN.user, **scope: str) -> bytes:
    named = {"name": user, "password": password, "domain": {"name": KNOWN.domain}}
    identity = {"methods": ["password"], "password": {"user": named}}
    return json.dumps({"auth": {"identity": identity, "scope": {"project": scope or {"id": "p1"}}}}).encode()


def signed(
    credentials: DemoCredentials = KNOWN, *, date: str = "20191115T033655Z", **headers: str
) -> SignedRequest:
    """Sign a request as the SDK would."""
    sent = {"host": "127.0.0.1:1", "x-sdk-date": date, **headers}
    request = SignedRequest(
        "GET", "/v1.0/p1/data/system-jobs", [("statuses", "RUNNING"), ("limit", "5")], sent
    )
    value = (
        f"SDK-HMAC-SHA256 Access={credentials.access_key}, SignedHeaders={';'.join(KEY_HEADERS)}, "
        f"Signature={signature(request, KEY_HEADERS, credentials.secret_key)}"
    )
    return replace(request, headers={**sent, "authorization": value})


def said(answer: SimulatedResponse | None) -> dict[str, Any]:
    """Return the status and what the body says, without the request's id."""
    assert answer is not None
    body = json.loads(answer.body)
    return {"status": answer.status, **{name: body[name] for name in body if name != "request_id"}}


def sample(status: int, name: str) -> dict[str, Any]:
    body = json.loads((SAMPLES / f"{status}-{name}.json").read_text())
    return {"status": status, **{name: body[name] for name in body if name != "request_id"}}


def shape(value: Any) -> Any:
    """Reduce JSON to its keys and types."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value).__name__


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_published_signatures_are_reproduced(vector: dict[str, Any]) -> None:
    pairs = [(name, value) for name, value in vector["query"]]
    request = SignedRequest(vector["method"], vector["path"], pairs, vector["headers"])
    assert signature(request, sorted(vector["headers"]), vector["secret_key"]) == vector["signature"]


def test_a_token_comes_in_a_header_beside_a_body_like_the_sample() -> None:
    answer = gate_of().issue(token_request(), NOW)
    body = json.loads(answer.body)
    assert answer.status == 201
    assert len(answer.headers["X-Subject-Token"]) > 2000
    assert shape(body) == shape(json.loads((SAMPLES / "201-iam-token-body.json").read_text()))
    assert body["token"]["expires_at"] == "2019-11-15T03:37:55.000000Z"


def test_a_token_opens_its_project_until_it_expires() -> None:
    gate = gate_of(ttl_seconds=60)
    token = gate.issue(token_request(), NOW).headers["X-Subject-Token"]
    assert gate.check_token(token, "p1", "r", NOW + 59) is None
    assert said(gate.check_token(token, "p1", "r", NOW + 60)) == sample(401, "gateway-token-must-be-updated")


def test_a_new_token_does_not_end_the_old_one() -> None:
    gate = gate_of()
    old, new = (gate.issue(token_request(), NOW).headers["X-Subject-Token"] for _ in range(2))
    assert old != new
    assert gate.check_token(old, "p1", "r", NOW) is None


def test_a_token_made_to_expire_early_must_be_updated() -> None:
    gate = gate_of()
    token = gate.issue(token_request(), NOW).headers["X-Subject-Token"]
    gate.expire(token)
    assert said(gate.check_token(token, "p1", "r", NOW)) == sample(401, "gateway-token-must-be-updated")


def test_a_token_of_another_project_is_forbidden() -> None:
    gate = gate_of()
    token = gate.issue(token_request(name="cn-north-11_2"), NOW).headers["X-Subject-Token"]
    assert gate.check_token(token, "p2", "r", NOW) is None
    assert said(gate.check_token(token, "p1", "r", NOW))["error_code"] == "octopus.400003"


def test_an_invented_token_is_invalid() -> None:
    assert said(gate_of().check_token("MII", "p1", "r", NOW)) == sample(401, "octopus-token-invalid")


def test_no_token_at_all_stops_at_the_gateway() -> None:
    assert said(gate_of().check_token(None, "p1", "r", NOW))["error_code"] == "APIGW.0301"


@pytest.mark.parametrize("wrong", [{"password": "x"}, {"user": "x"}])
def test_a_wrong_name_or_password_is_refused_as_iam_does(wrong: dict[str, str]) -> None:
    assert said(gate_of().issue(token_request(**wrong), NOW)) == sample(401, "iam-wrong-password")


@pytest.mark.parametrize("body", [b"", b"{}", b"no json", b'{"auth": {"identity": {"methods": ["token"]}}}'])
def test_a_token_request_of_another_shape_is_a_bad_request(body: bytes) -> None:
    assert said(gate_of().issue(body, NOW))["error"]["code"] == 400


def test_a_scope_nobody_knows_is_not_found() -> None:
    assert said(gate_of().issue(token_request(id="p3"), NOW))["error"]["code"] == 404


def test_more_than_five_wrong_passwords_lock_the_account_for_a_quarter_of_an_hour() -> None:
    gate = gate_of()
    for _ in range(6):
        gate.issue(token_request(password="x"), NOW)
    assert gate.issue(token_request(), NOW + USER_LOCKED_SECONDS - 1).status == 401
    assert gate.issue(token_request(), NOW + USER_LOCKED_SECONDS).status == 201


def test_a_right_password_clears_the_wrong_ones_before() -> None:
    gate = gate_of()
    for password in [*"abcde", KNOWN.password, *"abcde"]:
        gate.issue(token_request(password=password), NOW)
    assert gate.issue(token_request(), NOW).status == 201


def test_a_right_signature_opens() -> None:
    assert gate_of().check_signature(signed(), "r", NOW) is None


def test_the_order_of_the_query_does_not_matter_to_a_signature() -> None:
    request = signed()
    turned = replace(request, query=[*reversed(request.query)])
    assert gate_of().check_signature(turned, "r", NOW) is None


@pytest.mark.parametrize(
    "request_",
    [
        signed(DemoCredentials(secret_key="x")),
        signed(DemoCredentials(access_key="x")),
        replace(signed(), query=[("limit", "5")]),
        replace(signed(), path="/v1.0/p2/data/system-jobs"),
        replace(signed(), headers={**signed().headers, "host": "elsewhere"}),
        replace(signed(), headers={"authorization": "Basic eA=="}),
        signed(**{"x-security-token": "unasked"}),
    ],
    ids=["secret", "key", "query", "path", "header", "scheme", "security token"],
)
def test_a_wrong_signature_is_refused_as_the_gateway_does(request_: SignedRequest) -> None:
    assert said(gate_of().check_signature(request_, "r", NOW)) == sample(401, "gateway-aksk-signature")


@pytest.mark.parametrize(
    ("date", "opens"), [("20191115T035155Z", True), ("20191115T035156Z", False), ("yesterday", False)]
)
def test_a_signature_may_be_a_quarter_of_an_hour_off(date: str, opens: bool) -> None:
    assert (gate_of().check_signature(signed(date=date), "r", NOW) is None) == opens


def test_a_temporary_key_needs_its_security_token() -> None:
    temporary = DemoCredentials(security_token="ST")
    gate = gate_of(temporary)
    assert gate.check_signature(signed(temporary, **{"x-security-token": "ST"}), "r", NOW) is None
    assert gate.check_signature(signed(temporary), "r", NOW) is not None


def test_more_than_five_wrong_signatures_lock_the_key_for_five_minutes() -> None:
    gate = gate_of()
    for _ in range(6):
        gate.check_signature(signed(DemoCredentials(secret_key="x")), "r", NOW)
    locked = said(gate.check_signature(signed(), "r", NOW + KEY_LOCKED_SECONDS - 1))
    assert "AK access failed to reach the limit, forbidden" in locked["error_msg"]
    assert gate.check_signature(signed(), "r", NOW + KEY_LOCKED_SECONDS) is None


def test_credentials_do_not_show_their_secrets() -> None:
    shown = repr(DemoCredentials(security_token="temporary-secret"))
    assert not any(secret in shown for secret in (KNOWN.password, KNOWN.secret_key, "temporary-secret"))
