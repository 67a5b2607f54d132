from __future__ import annotations

import asyncio
import socket
import ssl
import textwrap
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
import trustme
from aiohttp import ClientSession, encode_basic_auth, web
from aiohttp.client_reqrep import ConnectionKey
from aioresponses import aioresponses
from structlog.testing import capture_logs

from exporter import __version__
from exporter.errors import (
    AnswerTooLarge,
    ApiError,
    ApiTimeout,
    ApiUnavailable,
    ContractError,
    PermissionRefused,
    StartError,
)
from exporter.octopus.auth.iam import decode_token
from exporter.octopus.messages import Request, Response
from exporter.octopus.transport import open_session
from exporter.octopus.wire import decode_page
from tests.octopus_fakes import Api, page, world


def get(url: object, **headers: str) -> Request:
    return Request("GET", str(url).rstrip("/"), "/jobs", headers=headers, secrets=("s3cret",))


def as_it_came(response: Response, request: Request) -> Response:
    return response


async def failure(session: ClientSession, request: Request, **options: float) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await world(session, **options).transport.send(request, "p", as_it_came)  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


async def test_an_answer_comes_whole_with_its_times_and_lower_case_headers() -> None:
    api = Api([(404, b"body", {"X-Request-ID": "r"})])
    async with api.server() as server, ClientSession() as session:
        w = world(session)
        response = await w.transport.send(get(server.make_url("/")), "perception", as_it_came)
    assert (response.status, response.body, response.headers["x-request-id"]) == (404, b"body", "r")
    assert response.sent_at == response.received_at == w.clock.now
    assert w.observer.requests == [("perception", "404")]


async def test_redirects_are_not_followed() -> None:
    api = Api([(302, b"", {"Location": "/elsewhere"})])
    async with api.server() as server, ClientSession() as session:
        with pytest.raises(ContractError, match="a redirect to /elsewhere, which is not followed"):
            await world(session).transport.send(get(server.make_url("/")), "p", decode_page)
    assert len(api.asked) == 1


async def test_a_server_that_does_not_answer_is_a_timeout() -> None:
    released = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    async with Api([hang]).server() as server, ClientSession() as session:
        error = await failure(session, get(server.make_url("/")), timeout_seconds=0.05)
        released.set()
    assert type(error) is ApiTimeout
    assert error.message == "no complete answer within 0.05 s"


async def test_a_body_that_never_ends_is_a_timeout_too() -> None:
    released = asyncio.Event()

    async def dribble(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"{")
        await released.wait()
        return response

    async with Api([dribble]).server() as server, ClientSession() as session:
        error = await failure(session, get(server.make_url("/")), timeout_seconds=0.05)
        released.set()
    assert type(error) is ApiTimeout


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_an_answer_beyond_the_bound_is_not_read_on(encoding: str) -> None:
    async def big(request: web.Request) -> web.StreamResponse:
        response = web.Response(body=b" " * 2_000_000)
        if encoding == "gzip":
            response.enable_compression(web.ContentCoding.gzip)
        return response

    async with Api([big]).server() as server, ClientSession() as session:
        error = await failure(session, get(server.make_url("/")), max_body_bytes=1_000_000)
    assert type(error) is AnswerTooLarge
    assert error.message == "the answer is longer than 1000000 bytes"


async def test_an_error_with_a_huge_body_is_what_its_status_says() -> None:
    async with Api([(503, b"<html>" + b" " * 4_000_000)]).server() as server, ClientSession() as session:
        with pytest.raises(ApiUnavailable, match="the API is unavailable"):
            await world(session).transport.send(get(server.make_url("/")), "p", decode_page)


async def raw_server(answer: bytes) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "broke off"),
        (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"pay', "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", "broke off"),
        (b"", "closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not speak HTTP"),
    ],
)
async def test_an_answer_that_is_cut_or_no_http_is_called_so(answer: bytes, said: str) -> None:
    server = await raw_server(answer)
    async with server, ClientSession() as session:
        port = server.sockets[0].getsockname()[1]
        error = await failure(session, get(f"http://127.0.0.1:{port}"))
    assert type(error) is ApiUnavailable
    assert said in error.message


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


async def test_nobody_there_is_unavailable_and_counted_as_an_error() -> None:
    async with ClientSession() as session:
        w = world(session)
        with pytest.raises(ApiUnavailable, match=r"no connection to 127\.0\.0\.1"):
            await w.transport.send(get(f"http://127.0.0.1:{closed_port()}"), "p", as_it_came)
    assert w.observer.requests == [("p", "error")]


def dns_failure() -> aiohttp.ClientConnectorDNSError:
    key = ConnectionKey("octopus.test", 443, True, True, None, None, None)
    return aiohttp.ClientConnectorDNSError(key, OSError(-2, "Name or service not known"))


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (
            dns_failure(),
            ApiUnavailable,
            "the name octopus.test cannot be resolved: [Errno -2] Name or service",
        ),
        (aiohttp.ServerTimeoutError(), ApiTimeout, "no complete answer within 5 s"),
        (
            ConnectionResetError(104, "reset by peer"),
            ApiUnavailable,
            "no answer from octopus.test: [Errno 104]",
        ),
        (aiohttp.ClientError("a\nnew kind"), ApiUnavailable, "no answer from octopus.test: a new kind"),
        (UnicodeError("label too long"), ContractError, "the request cannot be sent: label too long"),
    ],
)
async def test_whatever_the_http_library_raises_is_an_error_of_ours(
    raised: Exception, kind: type[ApiError], said: str
) -> None:
    with aioresponses() as mocked:
        mocked.get("https://octopus.test/jobs", exception=raised)
        async with ClientSession() as session:
            error = await failure(session, get("https://octopus.test"))
    assert type(error) is kind
    assert error.message.startswith(said)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://", "http://[::1"])
async def test_an_endpoint_that_is_none_is_an_error_of_ours(url: str) -> None:
    async with ClientSession() as session:
        assert type(await failure(session, get(url))) is ContractError


async def test_a_header_that_cannot_be_sent_does_not_show() -> None:
    async with Api([(200, page())]).server() as server, ClientSession() as session:
        error = await failure(session, get(server.make_url("/"), A="s3cret\nB: c"))
    assert type(error) is ContractError
    assert "s3cret" not in str(error)


async def test_a_failure_is_logged_once_with_its_request_id_and_without_headers() -> None:
    api = Api([(404, {"error_code": "APIGW.0101"}, {"X-Request-Id": "r1"})])
    async with api.server() as server, ClientSession() as session:
        request = get(server.make_url("/"), **{"X-Auth-Token": "s3cret"})
        with capture_logs() as logs, pytest.raises(ContractError):
            await world(session).transport.send(request, "perception", decode_page)
    (entry,) = logs
    assert (entry["log_level"], entry["project"], entry["reason"]) == ("warning", "perception", "contract")
    assert (entry["request_id"], entry["code"], entry["status"]) == ("r1", "APIGW.0101", 404)
    assert "s3cret" not in str(entry)


async def test_what_is_retried_is_logged_quietly() -> None:
    async with Api([(503, b"")]).server() as server, ClientSession() as session:
        with capture_logs() as logs, pytest.raises(ApiUnavailable):
            await world(session).transport.send(get(server.make_url("/")), "p", decode_page)
    assert [entry["log_level"] for entry in logs] == ["debug"]


async def test_the_session_names_itself_and_takes_headers_as_long_as_tokens() -> None:
    api = Api([(200, page(), {"X-Subject-Token": "t" * 30_000})])
    async with api.server() as server, open_session({}) as session:
        response = await world(session).transport.send(get(server.make_url("/")), "p", as_it_came)
    assert len(response.headers["x-subject-token"]) == 30_000
    assert api.asked[0].headers["User-Agent"] == f"octopus-exporter/{__version__}"


async def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Api([(200, page())])
    async with proxy.server() as server:
        monkeypatch.setenv("HTTP_PROXY", str(server.make_url("/")))
        async with open_session() as session:
            await world(session).transport.send(get("http://octopus.invalid"), "p", decode_page)
    assert str(proxy.asked[0].url) == "http://octopus.invalid/jobs"


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "10.0.0.0/8,127.0.0.0/8", "*"])
async def test_no_proxy_goes_straight(monkeypatch: pytest.MonkeyPatch, no_proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    async with Api([(200, page())]).server() as server, open_session() as session:
        await world(session).transport.send(get(server.make_url("/")), "p", decode_page)


async def test_a_proxy_is_told_its_user_and_password(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Api([(200, page())])
    async with proxy.server() as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:p%40%2Fss@{server.host}:{server.port}")
        async with open_session() as session:
            await world(session).transport.send(get("http://octopus.invalid"), "p", decode_page)
    assert proxy.asked[0].headers["Proxy-Authorization"] == encode_basic_auth("user", "p@/ss")


def test_a_proxy_that_is_none_is_said_at_the_start() -> None:
    with pytest.raises(StartError, match=r"^HTTPS_PROXY: its port is not a number"):
        open_session({"HTTPS_PROXY": "http://user:PASS@proxy.test:PASS"})


async def test_a_proxy_that_is_away_or_refuses_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    async with open_session() as session:
        assert "no connection to the proxy 127.0.0.1" in str(
            await failure(session, get("http://octopus.invalid"))
        )
    async with Api([(404, b"")]).server() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", str(proxy.make_url("/")))
        async with open_session() as session:
            error = await failure(session, get("https://octopus.invalid"))
    assert "the proxy does not connect to octopus.invalid: 404" in error.message


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, Path]:
    ca = trustme.CA()
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(path)
    return ca, path


def tls_context(ca: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(name).configure_cert(context)
    return context


async def https(context: ssl.SSLContext, open_: Callable[[], ClientSession]) -> Response:
    server = Api([(200, page())]).server()
    await server.start_server(ssl=context)
    async with server, open_() as session:
        return await world(session).transport.send(get(server.make_url("/")), "p", as_it_came)


async def test_a_private_authority_is_trusted_by_requests_ca_bundle(
    authority: tuple[trustme.CA, Path],
) -> None:
    ca, path = authority
    context = tls_context(ca, "127.0.0.1")
    assert (await https(context, lambda: open_session({"REQUESTS_CA_BUNDLE": str(path)}))).status == 200


async def test_a_private_authority_is_trusted_by_ssl_cert_file(
    authority: tuple[trustme.CA, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, path = authority
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    assert (await https(tls_context(ca, "127.0.0.1"), open_session)).status == 200


async def test_authorities_are_read_at_the_first_tls_connection_and_once(
    authority: tuple[trustme.CA, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, path = authority
    served, made = tls_context(ca, "127.0.0.1"), []

    def make() -> ssl.SSLContext:
        made.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        made[-1].load_verify_locations(path)
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", make)
    async with open_session({}) as session:
        transport = world(session).transport
        async with Api([(200, page())]).server() as server:
            await transport.send(get(server.make_url("/")), "p", as_it_came)
        assert made == []
        for _ in range(2):
            server = Api([(200, page())]).server()
            await server.start_server(ssl=served)
            async with server:
                await transport.send(get(server.make_url("/")), "p", as_it_came)
        assert len(made) == 1


@pytest.mark.parametrize("name", ["127.0.0.1", "elsewhere.test"])
async def test_a_certificate_nobody_vouches_for_is_called_so(
    authority: tuple[trustme.CA, Path], name: str
) -> None:
    ca, path = authority
    env = {"REQUESTS_CA_BUNDLE": str(path)} if name == "elsewhere.test" else {}
    with pytest.raises(ApiUnavailable, match=r"the TLS certificate of 127\.0\.0\.1:\d+ is not trusted"):
        await https(tls_context(ca, name), lambda: open_session(env))


async def test_plain_http_where_tls_is_expected_is_called_so() -> None:
    async with Api([(200, page())]).server() as server, ClientSession() as session:
        error = await failure(session, get(str(server.make_url("/")).replace("http:", "https:")))
    assert type(error) is ApiUnavailable
    assert "no TLS with 127.0.0.1" in error.message


async def test_a_bundle_that_is_none_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for path in (tmp_path / "missing.pem", tmp_path / "empty.pem"):
        with pytest.raises(StartError, match="REQUESTS_CA_BUNDLE="):
            open_session({"REQUESTS_CA_BUNDLE": str(path)})


ECHOES: dict[str, Callable[[str], str]] = {
    "whole": str,
    "60 characters of it": lambda token: token[:60],
    "its middle": lambda token: token[300:340],
    "base64": lambda token: b64encode(token[5:90].encode()).decode(),
    "hex": lambda token: token[100:130].encode().hex(),
    "wrapped": lambda token: "\n".join(textwrap.wrap(token[:200], 40)),
    "percent": lambda token: quote(token[200:260], safe=""),
}
TOKEN = b64encode(bytes(range(256)) * 3).decode()


@pytest.mark.parametrize("echo", ECHOES)
async def test_an_answer_that_repeats_a_token_shows_nothing_of_it(echo: str) -> None:
    said = ECHOES[echo](TOKEN)
    body = {"error_code": f"E.{said}", "error_msg": f"no: {said}!", "request_id": said}
    headers = {"X-Request-Id": " ".join(said.split())[:200], "Location": f"https://login.test/{quote(said)}"}
    async with (
        Api([(403, body), (302, b"", headers), (500, body)]).server() as server,
        ClientSession() as session,
    ):
        w = world(session)
        w.transport.secrets.use(TOKEN)
        with capture_logs() as logs:
            errors = []
            for _ in range(3):
                with pytest.raises(ApiError) as raised:
                    await w.transport.send(get(server.make_url("/")), "p", decode_page)
                errors.append(raised.value)
    told = "".join([*map(str, errors), *(f"{error.code}{error.request_id}" for error in errors), str(logs)])
    assert "<secret>" in told
    assert all(word not in told for word in said.split())
    assert not any(TOKEN[at : at + 12] in told for at in range(len(TOKEN) - 11))


async def test_a_request_s_own_secrets_are_masked_in_the_answers_of_others() -> None:
    signature = "0123456789abcdef" * 4
    answers = [(200, page()), (404, {"error_msg": f"{signature[5:40]} and hunter2-hunter2"})]
    async with Api(list(answers)).server() as server, ClientSession() as session:
        w = world(session)
        signed = replace(get(server.make_url("/")), secrets=("hunter2-hunter2",), signature=signature)
        await w.transport.send(signed, "p", decode_page)
        with pytest.raises(ContractError) as raised:
            await w.transport.send(get(server.make_url("/")), "p", decode_page)
    assert raised.value.message.endswith(": <secret> and <secret>")


async def test_a_new_token_is_a_secret_from_its_answer_on() -> None:
    answer = (201, {"error_msg": f"here is {TOKEN[:50]}"}, {"X-Subject-Token": TOKEN})
    async with Api([answer]).server() as server, ClientSession() as session:
        with pytest.raises(ContractError) as raised:
            await world(session).transport.send(get(server.make_url("/")), "p", decode_token)
    assert raised.value.message.endswith("here is <secret>")


async def test_requests_that_fail_for_a_day_are_logged_at_both_ends_and_every_hour() -> None:
    refused = (403, {"error_code": "APIGW.0302"})
    async with Api([*[refused] * 289, (200, page())]).server() as server, ClientSession() as session:
        w = world(session)
        request = get(server.make_url("/"))
        with capture_logs() as logs:
            for _ in range(289):
                with pytest.raises(PermissionRefused):
                    await w.transport.send(request, "p", decode_page)
                w.clock.now += 300
            await w.transport.send(request, "p", decode_page)
    told = [line for line in logs if line["log_level"] != "debug"]
    assert [line.get("state", "begins") for line in told] == ["begins", *["lasts"] * 24, "ends"]
    assert {line["event"] for line in told} == {"request failed", "requests work again"}


async def test_workspaces_of_a_project_are_told_apart_when_one_of_them_fails() -> None:
    answers = [(403, {}), (200, page())] * 20
    async with Api(list(answers)).server() as server, ClientSession() as session:
        w = world(session)
        requests = [
            replace(get(server.make_url("/")), query=(("workspace_id", workspace),)) for workspace in "ab"
        ]
        with capture_logs() as logs:
            for _ in range(20):
                with pytest.raises(PermissionRefused):
                    await w.transport.send(requests[0], "p", decode_page)
                await w.transport.send(requests[1], "p", decode_page)
    assert len([line for line in logs if line["log_level"] != "debug"]) == 1
