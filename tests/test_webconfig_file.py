"""The web configuration file: what is taken, and what is said of what is not."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

import pytest

from exporter.config.durations import parse_go_duration
from exporter.errors import ConfigError
from exporter.web.toolkit import WebConfiguration
from exporter.web.toolkit.configuration import notes
from exporter.web.toolkit.names import CIPHERS, CURVES, UNVERIFIED_TYPES
from tests.certificates import Authority

HASH = "$2y$10$" + "x" * 53


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority = Authority(tmp_path)
    authority.issue("server", "localhost")
    authority.issue("other", "localhost")
    return tmp_path


def load(folder: Path, text: str) -> WebConfiguration:
    file = folder / "web.yml"
    file.write_text(dedent(text))
    return WebConfiguration(file)


def problems(folder: Path, text: str) -> list[str]:
    """Give what is wrong, without the folder."""
    with pytest.raises(ConfigError) as refusal:
        load(folder, text)
    return [problem.replace(f"{folder}/", "") for problem in refusal.value.problems]


@pytest.mark.parametrize("text", ["", "# nothing\n", "tls_server_config:\n", "tls_server_config: {}\n"])
def test_an_empty_file_is_plain_http_for_everybody(folder: Path, text: str) -> None:
    loaded = load(folder, text)
    assert loaded.ssl_context is None
    assert loaded.active.auth is None
    assert loaded.active.limiter is None
    assert loaded.active.headers == {}


def test_every_key_is_taken(folder: Path) -> None:
    loaded = load(
        folder,
        f"""
        tls_server_config:
          cert_file: server.crt
          key_file: server.key
          client_ca_file: ca.pem
          client_auth_type: RequireAndVerifyClientCert
          client_allowed_sans: [prometheus.example, 10.0.0.1]
          min_version: TLS12
          max_version: TLS13
          cipher_suites: [{", ".join(CIPHERS)}]
          curve_preferences: [X25519]
          prefer_server_cipher_suites: false
        http_server_config:
          http2: false
          headers:
            X-Frame-Options: sameorigin
            X-XSS-Protection: 1
            Content-Security-Policy: ""
        basic_auth_users:
          alice: {HASH}
          1234: {HASH.replace("2y", "2b")}
        rate_limit:
          interval: 1m30s
          burst: 20
        """,
    )
    assert loaded.ssl_context is not None
    assert loaded.active.headers == {"X-Frame-Options": "sameorigin", "X-XSS-Protection": "1"}
    assert set(loaded.active.settings.basic_auth_users) == {"alice", "1234"}
    assert loaded.active.settings.rate_limit.interval_seconds == 90


def test_pem_may_be_in_the_file_itself(folder: Path) -> None:
    parts = {"cert": "server.crt", "key": "server.key", "client_ca": "ca.pem"}
    text = "tls_server_config:\n  client_auth_type: RequireAndVerifyClientCert\n"
    for key, name in parts.items():
        lines = (folder / name).read_text().splitlines()
        text += "\n".join([f"  {key}: |", *(f"    {line}" for line in lines), ""])
    assert load(folder, text).ssl_context is not None


def test_everything_wrong_is_told_at_once_with_its_place(folder: Path) -> None:
    text = """\
    tls_server_config:
      cert_fil: server.crt
      key_file: nowhere.key
      client_auth_type: Maybe
      client_allowed_sans: prometheus
      min_version: TLS111
      cipher_suites:
        - TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA2048
        - TLS_RSA_WITH_RC4_128_SHA
      curve_preferences: [CurveP257]
    http_server_config:
      http3: true
      headers:
        X-Frame-Options: allow
        Server: exporter
    basic_auth_users:
      alice: secret-in-clear
      "a:b": x
    rate_limit:
      interval: 5
      burst: -1
    basic_auth_user: {}
    """
    assert problems(folder, text) == [
        "web.yml:2:3: tls_server_config.cert_file: missing, expected cert_file or cert",
        "web.yml:2:13: tls_server_config.cert_fil: unknown key, expected cert_file",
        (
            "web.yml:3:13: tls_server_config.key_file: nowhere.key: cannot be read"
            " (No such file or directory), expected a private key"
        ),
        (
            "web.yml:4:21: tls_server_config.client_auth_type: found Maybe, expected NoClientCert,"
            " VerifyClientCertIfGiven or RequireAndVerifyClientCert"
        ),
        "web.yml:5:24: tls_server_config.client_allowed_sans: found <secret>, expected a list",
        "web.yml:6:16: tls_server_config.min_version: found TLS111, expected TLS10, TLS11, TLS12 or TLS13",
        (
            "web.yml:8:7: tls_server_config.cipher_suites[0]: found TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA2048,"
            " expected TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
        ),
        (
            "web.yml:9:7: tls_server_config.cipher_suites[1]: found TLS_RSA_WITH_RC4_128_SHA,"
            " expected a name that Go's crypto/tls has among its secure cipher suites"
        ),
        (
            "web.yml:10:23: tls_server_config.curve_preferences[0]: found CurveP257,"
            " expected CurveP256, CurveP384, CurveP521 or X25519"
        ),
        "web.yml:12:10: http_server_config.http3: unknown key, expected http2",
        "web.yml:14:22: http_server_config.headers.X-Frame-Options: found allow, expected deny or sameorigin",
        (
            "web.yml:15:13: http_server_config.headers.Server: unknown key, expected one of"
            " Content-Security-Policy, Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options,"
            " X-XSS-Protection"
        ),
        (
            "web.yml:17:10: basic_auth_users.alice: found <secret>,"
            " expected a bcrypt hash such as htpasswd -nBC 10 USER gives"
        ),
        (
            'web.yml:18:10: basic_auth_users."a:b": found <secret>,'
            " expected a bcrypt hash such as htpasswd -nBC 10 USER gives"
        ),
        "web.yml:20:13: rate_limit.interval: found 5, expected 0 or a duration such as 1s, 500ms or 1m30s",
        "web.yml:21:10: rate_limit.burst: found -1, expected a whole number from 0 up",
        "web.yml:22:18: basic_auth_user: unknown key, expected basic_auth_users",
    ]


PAIR = "cert_file: server.crt, key_file: server.key"


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ("key_file: server.key", "1:20: tls_server_config.cert_file: missing, expected cert_file or cert"),
        ('cert_file: "", key_file: server.key', "expected cert_file or cert"),
        ("cert_file: server.crt", "tls_server_config.key_file: missing, expected key_file or key"),
        (f"{PAIR}, cert: x", "tls_server_config.cert: found beside cert_file, expected one of the two"),
        ("cert_file: server.crt, key_file: other.key", "found the key of another certificate, expected that"),
        ("cert_file: server.key, key_file: server.key", "server.key: found no CERTIFICATE in it"),
        ("cert_file: server.crt, key_file: ca.pem", "ca.pem: found no PRIVATE KEY in it, expected a private"),
        (
            f"{PAIR}, client_auth_type: VerifyClientCertIfGiven, client_ca_file: /dev/null",
            "/dev/null: cannot be read (Not a regular file)",
        ),
        (f"{PAIR}, client_ca_file: ca.pem", "client_ca_file: found without a client_auth_type, expected Req"),
        (f"{PAIR}, client_allowed_sans: [a]", "client_allowed_sans: found without a client_auth_type"),
        (f"{PAIR}, max_version: TLS11", "max_version: found TLS11, which OpenSSL speaks no more"),
        (f"{PAIR}, min_version: TLS13, max_version: TLS12", "max_version: found TLS12 below min_version"),
        (
            f"{PAIR}, max_version: TLS12, cipher_suites: [TLS_AES_128_GCM_SHA256]",
            "found only suites of TLS 1",
        ),
        (f"{PAIR}, curve_preferences: [{', '.join(CURVES)}]", "found 4 curves, expected one: Python's ssl"),
        *(
            (
                f"{PAIR}, client_auth_type: {name}",
                f"found {name}, which verifies no certificate: Python's ssl",
            )
            for name in UNVERIFIED_TYPES
        ),
    ],
)
def test_tls_that_contradicts_itself(folder: Path, tls: str, said: str) -> None:
    (problem,) = problems(folder, f"tls_server_config: {{{tls}}}\n")
    assert said in problem


def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(folder: Path) -> None:
    key = (folder / "server.key").read_text()
    protected = f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{'0' * 32}\n\n"
    encrypted = key.replace("-----\n", f"-----\n{protected}", 1)
    (folder / "server.key").write_text(encrypted)
    (problem,) = problems(folder, f"tls_server_config: {{{PAIR}}}\n")
    assert problem.endswith("server.key: found an encrypted key, expected one without a passphrase")


def test_what_is_no_mapping_is_refused(folder: Path) -> None:
    wanted = "expected a mapping with tls_server_config, basic_auth_users and such"
    assert problems(folder, "some words\nand more\n") == [f"web.yml: is a single value, {wanted}"]
    assert problems(folder, "- a\n") == [f"web.yml: is a list, {wanted}"]


def test_a_key_given_twice_is_refused(folder: Path) -> None:
    (problem,) = problems(folder, "rate_limit: {}\nrate_limit: {}\n")
    assert problem.startswith("web.yml:1:13: rate_limit: found again in line 2")


@pytest.mark.parametrize("name", ["nowhere.yml", "folder", "pipe"])
def test_what_is_no_file_is_said_in_a_line(folder: Path, name: str) -> None:
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    with pytest.raises(ConfigError, match=rf"^.*/{name}: cannot be read \(.*\), expected a web conf.*$"):
        WebConfiguration(folder / name)


@pytest.mark.parametrize(
    "text",
    [
        "basic_auth_users: {alice: $2y$10$tiny}",
        "basic_auth_users: {alice: [hunter2]}",
        "basic_auth_users: hunter2",
        "tls_server_config: {key: hunter2, cert_file: hunter2, key_file: server.key}",
        "tls_server_config: {client_allowed_sans: hunter2}",
        "tls_server_config: hunter2",
        "http_server_config: {headers: {Content-Security-Policy: [hunter2]}}",
        "basic_auth_users: {alice: hunter2: x}",
    ],
)
def test_no_problem_shows_what_may_be_secret(folder: Path, text: str) -> None:
    told = "\n".join(problems(folder, text))
    assert "tiny" not in told
    assert "hunter2" not in told.replace("hunter2: cannot be read", "")  # a file's name


def test_settings_do_not_show_secrets(folder: Path) -> None:
    loaded = load(folder, f"tls_server_config: {{{PAIR}}}\nbasic_auth_users: {{alice: {HASH}}}\n")
    settings = loaded.active.settings
    assert "PRIVATE" in settings.tls_server_config.private_key.content.decode()  # type: ignore[union-attr]
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(loaded.active)):
        assert "PRIVATE" not in shown
        assert "xxxx" not in shown


def test_what_has_another_effect_than_it_seems_is_told(folder: Path) -> None:
    text = f"""
    tls_server_config: {{{PAIR}, min_version: TLS10, client_auth_type: VerifyClientCertIfGiven}}
    http_server_config: {{http2: true}}
    rate_limit: {{interval: 1s}}
    """
    assert notes(load(folder, text).active.settings) == [
        "http_server_config.http2 has no effect: HTTP/1.1 is spoken",
        "tls_server_config.min_version TLS10 is taken as TLS12",
        "tls_server_config has no client_ca_file: the system's authorities are trusted",
        "rate_limit.burst is 0: every request is answered with 429",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("1s", 1), ("500ms", 0.5), ("1m30s", 90), ("1.5h", 5400), ("10us", 1e-5)]
)
def test_durations_are_those_of_go(text: str, seconds: float) -> None:
    assert parse_go_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "-1s", "1", "s", "1d", "1s ", "1 s", "\u0661s", "1e3s"])
def test_what_is_no_duration_of_go(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_go_duration(text)
