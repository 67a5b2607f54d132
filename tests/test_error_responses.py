from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.errors import (
    ApiError,
    ApiUnavailable,
    AuthError,
    ContractError,
    CredentialsRefused,
    PermissionRefused,
    RateLimit,
    RateLimited,
)
from exporter.octopus.error_responses import MAX_MESSAGE_CHARS, error_of, response_error
from exporter.octopus.messages import AuthKind, Request
from tests.octopus_fakes import ASKED, LIST_PATH, answered, sample


def asked(auth: AuthKind | None = "token") -> Request:
    return replace(ASKED, auth=auth)


def refusal(status: int, body: object = b"", auth: AuthKind = "token", **headers: str) -> ApiError:
    return error_of(answered(body, status, **headers), asked(auth))


def gateway(code: str, message: str = "no") -> dict[str, str]:
    return {"error_code": code, "error_msg": message}


SIGNATURE_FAILED = "401-gateway-aksk-signature.json"


@pytest.mark.parametrize(
    ("name", "auth", "kind", "code", "said", "request_id"),
    [
        ("400-octopus-parameter.json", "token", ContractError, "000003", "TRAINING_TRAINC", ""),
        (
            SIGNATURE_FAILED,
            "aksk",
            CredentialsRefused,
            "APIGW.0301",
            "verify aksk",
            "00112233445566778899aabbccddeeff",
        ),
        (
            SIGNATURE_FAILED,
            "token",
            AuthError,
            "APIGW.0301",
            "verify aksk",
            "00112233445566778899aabbccddeeff",
        ),
        (
            "401-gateway-token-must-be-updated.json",
            "token",
            AuthError,
            "APIGW.0307",
            "must be updated",
            "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
        ),
        ("401-iam-wrong-password.json", "password", CredentialsRefused, "401", "password is wrong", ""),
        ("401-octopus-token-invalid.json", "token", AuthError, "octopus.400001", "token is invalid", ""),
        (
            "429-gateway-throttled.json",
            "token",
            RateLimited,
            "APIGW.0308",
            "ratelimit,limit:5",
            "8e8a1e4e1b2c4d0fa3b2d6c1f0e9a7b5",
        ),
    ],
)
def test_every_recorded_refusal_is_understood(
    name: str, auth: AuthKind, kind: type[ApiError], code: str, said: str, request_id: str
) -> None:
    status = int(name[:3])
    error = refusal(status, sample(name), auth)
    assert type(error) is kind
    assert (error.status, error.code, error.request_id) == (status, code, request_id)
    assert said in error.message
    assert error.url == f"https://octopus.test{LIST_PATH}"


@pytest.mark.parametrize(
    ("status", "code", "auth", "kind"),
    [
        (400, "octopus.400000", "token", ContractError),
        (400, "000003", "token", ContractError),
        (401, "octopus.400001", "token", AuthError),
        (401, "APIGW.0307", "token", AuthError),
        (401, "APIG.0301", "token", AuthError),
        (401, "0301", "token", AuthError),
        (401, "APIGW.0301", "aksk", CredentialsRefused),
        (401, "APIG.0301", "aksk", CredentialsRefused),
        (403, "APIGW.0301", "aksk", CredentialsRefused),
        (401, "something.new", "aksk", CredentialsRefused),
        (401, "something.new", "token", AuthError),
        (403, "octopus.400003", "token", PermissionRefused),
        (403, "APIGW.0302", "aksk", PermissionRefused),
        (403, "something.new", "token", PermissionRefused),
        (403, "IAM.0002", "password", PermissionRefused),
        (404, "octopus.400004", "token", ContractError),
        (404, "APIGW.0101", "token", ContractError),
        (404, "APIGW.0103", "token", ContractError),
        (405, "octopus.400005", "token", ContractError),
        (409, "octopus.400009", "token", ContractError),
        (400, "something.new", "password", CredentialsRefused),
        (401, "something.new", "password", CredentialsRefused),
        (418, "", "token", ContractError),
        (429, "APIGW.0308", "token", RateLimited),
        (429, "something.new", "token", RateLimited),
        (400, "APIGW.0308", "token", RateLimited),
        (500, "octopus.400100", "token", ApiUnavailable),
        (502, "octopus.400102", "token", ApiUnavailable),
        (503, "", "token", ApiUnavailable),
        (504, "APIGW.0201", "token", ApiUnavailable),
        (599, "", "token", ApiUnavailable),
        (204, "", "token", ContractError),
        (302, "", "token", ContractError),
    ],
)
def test_status_and_code_together_say_what_it_is(
    status: int, code: str, auth: AuthKind, kind: type[ApiError]
) -> None:
    assert type(refusal(status, gateway(code), auth)) is kind


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"error_code": "a", "error_msg": "b", "code": "x", "message": "y"}, "a", ": b"),
        ({"errorCode": "a", "errorMsg": "b", "code": "x"}, "a", ": b"),
        ({"code": 7, "message": "b", "error": {"code": "x"}}, "7", ": b"),
        ({"error": {"code": 409, "message": "b", "title": "t"}}, "409", ": b"),
        ({"error_code": "a"}, "a", ""),
        ({"error_msg": "b", "code": "x"}, "", ": b"),
        ({"error": "b"}, "", ""),
        ({"error_msg": None, "error_code": ["a"]}, "", ""),
        ([1], "", ""),
        ("b", "", ""),
        (b"", "", " (empty body)"),
        (b"<html>502 Bad Gateway</html>", "", " (HTML, perhaps of a proxy)"),
        (b"\xff\xfe", "", ""),
        (b'{"error_code": "a", "error_msg": "line 1\nline 2"}', "a", ": line 1 line 2"),
        (b'{"error_code": "a", "error_msg": "half \\ud83d"}', "a", ": half"),
        (b'{"error_code": "a", "error_msg": "\xb4\xc5"}', "a", ": \ufffd\ufffd"),
        (b"[" * 100_000, "", ""),
    ],
)
def test_every_shape_of_body_is_read(body: object, code: str, message: str) -> None:
    error = refusal(409, body)
    assert (error.code, error.message) == (code, "the API reports a conflict" + message)


def test_the_announced_charset_is_read() -> None:
    body = '{"error_code": "a", "error_msg": "无权限"}'.encode("gbk")
    error = error_of(answered(body, 409, content_type="application/json;charset=GBK"), ASKED)
    assert error.message == "the API reports a conflict: 无权限"


@pytest.mark.parametrize(
    ("status", "auth", "meaning"),
    [
        (401, "token", "the token is invalid, expired or of another region"),
        (401, "aksk", "the access key is wrong or locked"),
        (401, "password", "the user name or password is wrong, or the account is locked"),
        (403, "token", "no permission"),
        (403, "token", "no permission: the action octopus:dataJob:list is not granted"),
        (403, "password", "no permission: their words"),
        (400, "token", "the API does not accept the request"),
        (404, "token", "not found: wrong region, path or project"),
        (405, "token", "the API does not take this method here: wrong endpoint or path"),
        (407, "token", "the proxy asks for credentials"),
        (409, "token", "the API reports a conflict"),
        (299, "token", "the API answered with an undocumented status"),
        (300, "token", "a redirect to nowhere"),
        (399, "token", "a redirect to nowhere"),
        (429, "token", "throttled"),
        (500, "token", "the API has an internal error"),
        (503, "token", "the API is unavailable"),
    ],
)
def test_the_message_says_what_it_most_likely_means(status: int, auth: AuthKind, meaning: str) -> None:
    assert refusal(status, gateway("x", "their words"), auth).message.startswith(meaning)


def test_a_redirect_says_where_to_but_not_with_what() -> None:
    error = refusal(302, location="https://login.test/sso?ticket=abc")
    assert "https://login.test/sso," in error.message
    assert "ticket" not in error.message


def test_a_locked_account_is_a_refusal_even_as_403() -> None:
    body = {"error": {"code": 403, "message": "The account is locked.", "title": "Forbidden"}}
    assert type(refusal(403, body, "password")) is CredentialsRefused
    assert type(refusal(403, body, "token")) is PermissionRefused


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"x_request_id": "a", "x_iam_trace_id": "b"}, "a"),
        ({"x_iam_trace_id": "b"}, "b"),
        ({}, "c"),
    ],
)
def test_the_request_id_is_kept(headers: dict[str, str], found: str) -> None:
    assert refusal(404, {**gateway("x"), "request_id": "c"}, "token", **headers).request_id == found


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True), 90.0),
        (format_datetime(datetime.fromtimestamp(NOW + 90, UTC)), 90.0),
        (format_datetime(datetime.fromtimestamp(NOW - 90, UTC), usegmt=True), 0.0),
        ("", None),
        ("-3", None),
        ("soon", None),
        ("9999999999", 9_999_999_999.0),
        ("9" * 400, None),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 +9999999999999999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    response = replace(answered(b"", 429, retry_after=value), received_at=NOW)
    error = error_of(response, asked())
    assert isinstance(error, RateLimited)
    assert error.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        ("over ratelimit,limit:5,time:1 second", RateLimit(5, 1.0)),
        ("limit:100,time:1 minute", RateLimit(100, 60.0)),
        ("limit: 9 , time: 2 hours", RateLimit(9, 7200.0)),
        ("LIMIT:3,TIME:1 DAY", RateLimit(3, 86400.0)),
        ("limit:0,time:1 second", None),
        ("limit:5,time:0 second", None),
        ("limit:many", None),
    ],
)
def test_the_limit_is_read_out_of_the_message(message: str, limit: RateLimit | None) -> None:
    error = refusal(429, gateway("APIGW.0308", message))
    assert isinstance(error, RateLimited)
    assert error.limit == limit


def test_what_is_shown_holds_no_secret() -> None:
    request = replace(ASKED, secrets=("s3cret-token", "", "pass word"))
    body = {"error_code": "x s3cret-token", "error_msg": "s3cret-token and pass word\nand " + "A" * 3000}
    error = error_of(answered(body, 401, x_request_id="s3cret-token"), request)
    assert "s3cret" not in str(error)
    assert "pass word" not in str(error)
    assert "AAA" not in str(error)


def test_an_error_of_any_class_shows_what_the_response_reports() -> None:
    response = answered(gateway("x", "try later") | {"request_id": "c"})
    error = response_error(ContractError, "the answer is not a job list", response, ASKED)
    assert (error.message, error.code) == ("the answer is not a job list: try later", "x")
    assert error.request_id == "c"


def test_a_message_is_cut_at_its_longest_length() -> None:
    def message(chars: int) -> str:
        words = ("their words " * 100)[: chars - len("the API reports a conflict: ")]
        return refusal(409, gateway("x", words.strip().ljust(len(words), "."))).message

    assert (len(message(300)), message(300)[-1:]) == (300, message(300)[-1:].replace("…", ""))
    assert (len(message(301)), message(301)[-1]) == (300, "…")
    assert message(301)[:-1] == message(300)[:-1]


@pytest.mark.parametrize(("chars", "shown"), [(99, "A" * 99), (100, "…")])
def test_a_word_that_may_be_a_token_is_left_out(chars: int, shown: str) -> None:
    assert refusal(409, gateway("x", "A" * chars)).message == f"the API reports a conflict: {shown}"


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@unhurried
@given(st.integers(100, 999), st.text(max_size=2000), st.text())
def test_whatever_they_say_becomes_one_short_line(status: int, message: str, code: str) -> None:
    error = error_of(answered({"error_msg": message, "error_code": code}, status), ASKED)
    assert len(error.message) <= MAX_MESSAGE_CHARS
    assert str(error).isprintable()


@unhurried
@given(
    st.integers(100, 999),
    st.binary()
    | st.dictionaries(st.sampled_from(["error_code", "code", "error", "request_id"]), st.integers()),
)
def test_nothing_they_say_raises(status: int, body: Any) -> None:
    assert error_of(answered(body, status), ASKED).status == status
