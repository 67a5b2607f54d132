"""TLS as the web configuration asks for it: real handshakes, with clients that may and may not connect."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from exporter.web.toolkit.tls import ServerContext, names
from tests.certificates import Authority
from tests.webconfig import site

PAIR = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
CLIENTS = "  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"
ECDSA = "TLS_ECDHE_ECDSA_WITH_"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.issue("server", "localhost")
    return authority


@pytest.fixture
def web_yml(tmp_path: Path) -> Path:
    return tmp_path / "web.yml"


class Clients:
    """One of each kind: without a certificate, with one of our authority, with one of another."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        stranger = Authority(folder, "stranger")
        self.bare = authority.client()
        self.known = authority.client(authority.issue("client", "prometheus.example"))
        self.foreign = authority.client(stranger.issue("foreign", "prometheus.example"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("auth_type", "bare", "known", "foreign"),
    [
        ("NoClientCert", True, True, True),
        ("VerifyClientCertIfGiven", True, True, False),
        ("RequireAndVerifyClientCert", False, True, False),
    ],
)
async def test_who_may_connect(
    tmp_path: Path,
    web_yml: Path,
    authority: Authority,
    auth_type: str,
    bare: bool,
    known: bool,
    foreign: bool,
    version: ssl.TLSVersion,
) -> None:
    clients = Clients(tmp_path, authority)
    authorities = "" if auth_type == "NoClientCert" else "  client_ca_file: ca.pem\n"
    async with site(web_yml, f"{PAIR}{authorities}  client_auth_type: {auth_type}\n") as served:
        for client, wanted in ((clients.bare, bare), (clients.known, known), (clients.foreign, foreign)):
            client.minimum_version = client.maximum_version = version
            assert await served.admits(client) is wanted


@pytest.mark.parametrize(
    ("auth_type", "bare", "known", "foreign"),
    [
        ("VerifyClientCertIfGiven", True, False, False),
        ("RequireAndVerifyClientCert", False, False, False),
    ],
)
async def test_who_may_connect_where_no_authority_is_given(
    tmp_path: Path,
    web_yml: Path,
    authority: Authority,
    auth_type: str,
    bare: bool,
    known: bool,
    foreign: bool,
) -> None:
    """As in Go it is the system's authorities then, which have not signed these."""
    clients = Clients(tmp_path, authority)
    async with site(web_yml, f"{PAIR}  client_auth_type: {auth_type}\n") as served:
        seen = [await served.admits(client) for client in (clients.bare, clients.known, clients.foreign)]
    assert seen == [bare, known, foreign]


@pytest.mark.parametrize(
    ("identity", "allowed", "admitted"),
    [
        ("prometheus.example", "prometheus.example", True),
        ("prometheus.example", "*.example", False),
        ("prometheus.example", "prometheus.exampl", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("2001:db8::1", "2001:db8::1", True),
        ("scraper@example.org", "scraper@example.org", True),
        ("scraper@example.org", "other@example.org", False),
    ],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_certificate_has_to_have_an_allowed_name(
    web_yml: Path,
    authority: Authority,
    identity: str,
    allowed: str,
    admitted: bool,
    version: ssl.TLSVersion,
) -> None:
    client = authority.client(authority.issue("client", identity))
    client.maximum_version = version
    text = f"{PAIR}  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"
    async with site(web_yml, f'{text}  client_allowed_sans: ["one", "{allowed}"]\n') as served:
        assert await served.admits(client) is admitted


async def test_allowed_names_keep_out_who_shows_no_certificate(web_yml: Path, authority: Authority) -> None:
    text = f"{PAIR}  client_auth_type: VerifyClientCertIfGiven\n  client_allowed_sans: [prometheus.example]\n"
    async with site(web_yml, text) as served:
        assert not await served.admits(authority.client())


async def test_a_certificate_in_the_list_is_trusted_by_itself(web_yml: Path, authority: Authority) -> None:
    """As in Go: it may be the client's own, and not only that of an authority."""
    pair = authority.issue("client", "prometheus.example")
    text = f"{PAIR}  client_ca_file: client.crt\n  client_auth_type: RequireAndVerifyClientCert\n"
    async with site(web_yml, text) as served:
        assert await served.admits(authority.client(pair))
        assert not await served.admits(authority.client(authority.issue("second", "prometheus.example")))


@pytest.mark.parametrize(
    ("keys", "spoken"),
    [
        ("", {"TLSv1.2", "TLSv1.3"}),
        ("  min_version: TLS10\n", {"TLSv1.2", "TLSv1.3"}),
        ("  min_version: TLS13\n", {"TLSv1.3"}),
        ("  max_version: TLS12\n", {"TLSv1.2"}),
        ("  cipher_suites: [TLS_AES_128_GCM_SHA256]\n", {"TLSv1.3"}),
    ],
)
async def test_versions(web_yml: Path, authority: Authority, keys: str, spoken: set[str]) -> None:
    async with site(web_yml, PAIR + keys) as served:
        seen = set()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client = authority.client()
            client.minimum_version = client.maximum_version = version
            if await served.admits(client):
                seen.add((await served.handshake(client)).version())
    assert seen == spoken


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_what_is_too_old_is_not_spoken(web_yml: Path, authority: Authority) -> None:
    client = authority.client()
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = ssl.TLSVersion.TLSv1
    client.maximum_version = ssl.TLSVersion.TLSv1_1
    async with site(web_yml, f"{PAIR}  min_version: TLS10\n") as served:
        assert not await served.admits(client)


def speaking(authority: Authority, ciphers: str) -> ssl.SSLContext:
    client = authority.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(ciphers)
    return client


async def test_only_the_suites_that_are_listed(web_yml: Path, authority: Authority) -> None:
    suites = f"  cipher_suites: [{ECDSA}AES_256_GCM_SHA384, {ECDSA}AES_128_CBC_SHA]\n"
    async with site(web_yml, PAIR + suites) as served:
        for name, admitted in {
            "ECDHE-ECDSA-AES256-GCM-SHA384": True,
            "ECDHE-ECDSA-AES128-SHA": True,
            "ECDHE-ECDSA-AES128-GCM-SHA256": False,
        }.items():
            assert await served.admits(speaking(authority, name)) is admitted


async def test_without_a_list_no_suite_is_weak(web_yml: Path, authority: Authority) -> None:
    async with site(web_yml, PAIR) as served:
        assert await served.admits(speaking(authority, "ECDHE-ECDSA-AES128-GCM-SHA256"))
        assert not await served.admits(
            speaking(authority, "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384")
        )


@pytest.mark.parametrize(
    ("prefer", "chosen"), [("true", "AES256-GCM-SHA384"), ("false", "AES128-GCM-SHA256")]
)
async def test_whose_order_decides(web_yml: Path, authority: Authority, prefer: str, chosen: str) -> None:
    keys = (
        f"  cipher_suites: [{ECDSA}AES_256_GCM_SHA384, {ECDSA}AES_128_GCM_SHA256]\n"
        f"  prefer_server_cipher_suites: {prefer}\n"
    )
    client = speaking(authority, "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    async with site(web_yml, PAIR + keys) as served:
        cipher = (await served.handshake(client)).cipher()
    assert cipher is not None
    assert cipher[0] == f"ECDHE-ECDSA-{chosen}"


@pytest.mark.parametrize(
    ("given", "admitted"),
    [
        ("", {"prime256v1", "secp384r1", "secp521r1", "X25519"}),
        ("CurveP256", {"prime256v1"}),
        ("CurveP384", {"secp384r1"}),
        ("CurveP521", {"secp521r1"}),
        ("X25519", {"X25519"}),
    ],
)
async def test_only_the_curve_that_is_given(
    web_yml: Path, authority: Authority, given: str, admitted: set[str]
) -> None:
    async with site(web_yml, f"{PAIR}  curve_preferences: [{given}]\n") as served:
        seen = set()
        for curve in ("prime256v1", "secp384r1", "secp521r1", "X25519"):
            client = authority.client()
            client.set_ecdh_curve(curve)
            if await served.admits(client):
                seen.add(curve)
    assert seen == admitted


async def test_the_curve_holds_for_tls_1_2_too(web_yml: Path, authority: Authority) -> None:
    client = authority.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ecdh_curve("prime256v1")
    async with site(web_yml, PAIR) as served:
        assert await served.admits(client)
    async with site(web_yml, f"{PAIR}  curve_preferences: [X25519]\n") as served:
        assert not await served.admits(client)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_who_is_refused_is_told_why(
    tmp_path: Path, web_yml: Path, authority: Authority, version: ssl.TLSVersion
) -> None:
    clients = Clients(tmp_path, authority)
    text = f"{PAIR}  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"
    async with site(web_yml, text) as served:
        for client, alerts in (
            (clients.bare, {"SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV13_ALERT_CERTIFICATE_REQUIRED"}),
            (clients.foreign, {"TLSV1_ALERT_UNKNOWN_CA"}),
        ):
            client.minimum_version = client.maximum_version = version
            with pytest.raises(ssl.SSLError) as refusal:
                await served.handshake(client)
            assert refusal.value.reason in alerts


async def test_who_is_refused_can_send_no_more(web_yml: Path, authority: Authority) -> None:
    text = f"{PAIR}  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"
    async with site(web_yml, text) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        knocking = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            knocking.do_handshake()
        writer.write(outgoing.read())
        while not outgoing.pending:
            incoming.write(await reader.read(65536))
            with suppress(ssl.SSLWantReadError):
                knocking.do_handshake()
        knocking.write(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
        writer.write(outgoing.read() + b"x" * 100_000)
        incoming.write(await reader.read(65536))
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            knocking.read()
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


async def test_http2_is_not_offered(web_yml: Path, authority: Authority) -> None:
    client = authority.client()
    client.set_alpn_protocols(["h2", "http/1.1"])
    async with site(web_yml, PAIR) as served:
        assert (await served.handshake(client)).selected_alpn_protocol() == "http/1.1"


async def test_a_session_of_a_client_with_a_certificate_is_not_resumed_by_a_ticket(
    web_yml: Path, authority: Authority
) -> None:
    text = f"{PAIR}  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"
    client = authority.client(authority.issue("client", "prometheus.example"))
    async with site(web_yml, text) as served:
        first = await served.handshake(client)
        assert first.session is None or not first.session.has_ticket


async def test_a_resumed_session_is_held_to_the_policy_too(web_yml: Path, authority: Authority) -> None:
    text = f"{PAIR}  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"
    client = authority.client(authority.issue("client", "prometheus.example"))
    client.maximum_version = ssl.TLSVersion.TLSv1_2

    def connect(port: int, session: ssl.SSLSession | None) -> tuple[bool | None, ssl.SSLSession | None]:
        with (
            socket.create_connection(("127.0.0.1", port)) as raw,
            client.wrap_socket(raw, server_hostname="localhost", session=session) as connected,
        ):
            connected.sendall(b"GET /page HTTP/1.0\r\n\r\n")
            if connected.recv(12) != b"HTTP/1.0 200":
                raise ConnectionError("no answer")
            return connected.session_reused, connected.session

    async with site(web_yml, f"{text}  client_allowed_sans: [prometheus.example]\n") as served:
        _, session = await asyncio.to_thread(connect, served.port, None)
        assert (await asyncio.to_thread(connect, served.port, session))[0] is True
        context = served.configuration.ssl_context
        assert context is not None
        context.latest.allowed_sans = frozenset({"other.example"})
        with pytest.raises(OSError, match=r".+"):
            await asyncio.to_thread(connect, served.port, session)


@pytest.mark.parametrize(
    ("not_after", "resumed", "refused"),
    [
        ("Jan  1 00:00:00 2020 GMT", True, True),
        ("Jan  1 00:00:00 2020 GMT", False, False),  # OpenSSL has looked at it
        ("Jan  1 00:00:00 2120 GMT", True, False),
    ],
)
def test_a_session_is_not_resumed_beyond_its_certificate(
    not_after: str, resumed: bool, refused: bool
) -> None:
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.allowed_sans = frozenset()
    with pytest.raises(ssl.SSLError, match="expired") if refused else nullcontext():
        context.check_client({"notAfter": not_after}, resumed=resumed)


def test_a_name_that_openssl_cannot_read_is_none() -> None:
    certificate = {"subjectAltName": (("IP Address", "<invalid>"), ("DNS", "prometheus.example"))}
    assert set(names(certificate)) == {"prometheus.example"}


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE", "OPTIONS", "CONNECT"])
async def test_plain_http_is_told_that_https_is_spoken(
    web_yml: Path, authority: Authority, method: str
) -> None:
    async with site(web_yml, PAIR + CLIENTS) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(f"{method} /metrics HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"\r\nConnection: close\r\n" in head
        body = b"This port speaks HTTPS only; the request came over plain HTTP.\n"
        assert await reader.readexactly(len(body)) == body
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


async def test_a_client_library_understands_that_https_is_spoken(web_yml: Path, authority: Authority) -> None:
    async with site(web_yml, PAIR) as served:
        reply = await served.get()
    assert (reply.status, reply.text) == (
        400,
        "This port speaks HTTPS only; the request came over plain HTTP.\n",
    )
