from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import pytest
from aiohttp import ClientSession, web
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.octopus.auth.credentials import AccessKeyCredentials
from exporter.octopus.auth.signing import AccessKey, sign, sign_request
from exporter.octopus.messages import Request
from exporter.octopus.wire import ListQuery, list_request
from tests.octopus_fakes import PROJECT_ID, SAMPLES, Api, Clock, Secret, page, row, target, world

VECTORS = json.loads((SAMPLES / "signing-vectors.json").read_text())
NOW = 1_573_789_015.0


def expected_signature(
    secret_key: str,
    method: str,
    path: str,
    query: Iterable[tuple[str, str]],
    headers: Mapping[str, str],
) -> str:
    """Compute a signature from the signing guide alone, as the gateway would: path and query as meant."""
    signed = sorted(headers)
    canonical = "\n".join(
        [
            method,
            quote(path if path.endswith("/") else path + "/", safe="/~"),
            "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in sorted(query)),
            *(f"{name}:{headers[name].strip()}" for name in signed),
            "",
            ";".join(signed),
            hashlib.sha256(b"").hexdigest(),
        ]
    )
    text = "\n".join(
        ["SDK-HMAC-SHA256", headers["x-sdk-date"], hashlib.sha256(canonical.encode()).hexdigest()]
    )
    return hmac.new(secret_key.encode(), text.encode(), hashlib.sha256).hexdigest()


def authorization(key: AccessKey, names: Iterable[str], signature: str) -> str:
    signed = ";".join(sorted(names))
    return f"SDK-HMAC-SHA256 Access={key.access_key}, SignedHeaders={signed}, Signature={signature}"


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_published_signatures_are_reproduced(vector: dict[str, Any]) -> None:
    key = AccessKey(vector["access_key"], vector["secret_key"])
    query = tuple((name, value) for name, value in vector["query"])
    host = vector["headers"].get("host", "any.test")
    request = Request(vector["method"], f"https://{host}", vector["path"], query)
    signed = sign(request, vector["headers"], key)
    assert signed == authorization(key, vector["headers"], vector["signature"])
    assert vector["signature"] == expected_signature(
        key.secret_key, vector["method"], vector["path"], query, vector["headers"]
    )


@pytest.mark.parametrize("vector", VECTORS[2:], ids=lambda vector: vector["name"])
def test_a_grant_signs_what_the_published_requests_sign(vector: dict[str, Any]) -> None:
    headers = vector["headers"]
    key = AccessKey(vector["access_key"], vector["secret_key"], headers.get("x-security-token", ""))
    request = Request(
        "GET", f"https://{headers['host']}", vector["path"], tuple(tuple(pair) for pair in vector["query"])
    )
    grant = sign_request(request, key, headers["x-project-id"], lambda: NOW)
    sent = {name.lower(): value for name, value in grant.headers.items()}
    assert sent.pop("authorization") == authorization(key, headers, vector["signature"])
    assert sent == headers


# What cannot be encoded cannot be meant either.
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["a b", "+", "%2F", "é~*"]
)
segments = text.map(lambda value: value.replace("/", ""))
requests = st.builds(
    lambda path, query: Request("GET", "https://octopus.test:8443", "/v1.0/" + "/".join(path), tuple(query)),
    st.lists(segments, min_size=1, max_size=3),
    st.lists(st.tuples(st.sampled_from(["statuses", "limit"]) | text, text), max_size=5),
)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def sdk_request(request: Request, key: AccessKey) -> SdkRequest:
    """What the SDK itself makes of the request."""
    credentials = BasicCredentials(key.access_key, key.secret_key, PROJECT_ID)
    credentials.security_token = key.security_token or None
    return credentials.sign_request(
        SdkRequest(
            method="GET",
            schema="https",
            host=request.host,
            resource_path=quote(request.path),
            query_params=list(request.query),
            header_params={"X-Sdk-Date": "20191115T033655Z"},
            body="",
        )
    )


@unhurried
@given(requests, st.sampled_from(["", "ST"]))
@example(Request("GET", "https://h", "/a", (("k", "b"), ("k", "a"), ("k", "a b+c&d=e%20"))), "")
def test_signature_and_url_are_the_sdks_own(request_: Request, security_token: str) -> None:
    key = AccessKey("AK", "SK", security_token)
    ours, theirs = sign_request(request_, key, PROJECT_ID, lambda: NOW), sdk_request(request_, key)
    assert dict(ours.headers) == dict(theirs.header_params)
    assert request_.full_url == theirs.url


@unhurried
@given(requests)
def test_the_signature_verifies_from_the_url_alone(request_: Request) -> None:
    grant = sign_request(request_, AccessKey("AK", "SK"), PROJECT_ID, lambda: NOW)
    path, _, query = request_.full_url.removeprefix("https://octopus.test:8443").partition("?")
    headers = {name.lower(): value for name, value in grant.headers.items()}
    sent = headers.pop("authorization")
    pairs = parse_qsl(query, keep_blank_values=True)
    assert sent.endswith(expected_signature("SK", "GET", unquote(path), pairs, headers))


async def verifying(request: web.Request) -> web.StreamResponse:
    """Answer as the gateway does: 401 unless the signature fits the bytes that arrived."""
    sent = request.headers["Authorization"]
    names = sent.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    headers = {name: request.headers[name] for name in names}
    raw_path, _, raw_query = request.raw_path.partition("?")
    pairs = parse_qsl(raw_query, keep_blank_values=True)
    expected = expected_signature("SK", request.method, unquote(raw_path), pairs, headers)
    if not sent.endswith(f"Signature={expected}"):
        return web.json_response({"error_code": "APIGW.0301", "error_msg": "verify aksk fail"}, status=401)
    return web.json_response(page(row()))


@pytest.mark.parametrize("security_token", ["", "ST"])
async def test_what_is_sent_over_a_real_connection_verifies(security_token: str) -> None:
    api = Api([verifying])
    credentials = AccessKeyCredentials(
        name="default",
        access_key=Secret("AK"),
        secret_key=Secret("SK"),
        security_token=Secret(security_token),
        clock=Clock(),
    )
    async with api.server() as server, ClientSession() as session:
        asked = target(
            str(server.make_url("/pre fix")), workspace_id="a b+c/é=%20&~*'()", path="system-jobs ü"
        )
        query = ListQuery(("B", "A", "A b"), ("RUNNING",), 5, 6)
        result = await world(session, credentials).client.list_page(asked, query)
    assert [job.id for job in result.jobs] == [1]
    # Byte for byte: what is signed in one form and sent in another may verify here and not there.
    assert list_request(asked, query).full_url.endswith(api.asked[0].raw_path)
    sent = api.asked[0].headers
    assert sent["X-Project-Id"] == PROJECT_ID
    assert sent.get("X-Security-Token", "") == security_token
    assert "X-Auth-Token" not in sent


def test_the_bare_signature_is_a_secret_of_its_request() -> None:
    key = AccessKey(
        "QTWAOYTTINDUT2QVKYUC", "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc", "temporary-token-0123"
    )
    grant = sign_request(list_request(target(), ListQuery()), key, PROJECT_ID, lambda: NOW)
    assert len(grant.signature) == 64
    assert grant.headers["Authorization"].endswith(f"Signature={grant.signature}")
    assert grant.secrets == ("QTWAOYTTINDUT2QVKYUC", key.secret_key, "temporary-token-0123")


def test_a_key_does_not_show_in_what_is_printed() -> None:
    key = AccessKey("AK", "sk-secret", "st-secret")
    grant = sign_request(Request("GET", "https://h", "/"), key, PROJECT_ID, lambda: NOW)
    request = replace(Request("GET", "https://h", "/"), body=b"secret").with_auth(grant)
    assert "secret" not in f"{key!r} {grant!r} {request!r}"
    assert "Signature" not in f"{grant!r} {request!r}"
