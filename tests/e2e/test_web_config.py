"""The web configuration file, in front of a whole exporter: Prometheus, curl, and changes under load."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.http import ask
from tests.e2e.processes import EXPORTER, free_port, run, started
from tests.e2e.prometheus import prometheus
from tests.e2e.secured import HASH, LOGIN, MUTUAL, PASSWORD, TLS, USER, USERS, Secured
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


@pytest.mark.prometheus
def test_prometheus_scrapes_over_mutual_tls_with_a_password(tmp_path: Path, simulate: Simulate) -> None:
    exporter = Secured(tmp_path / "exporter", simulate().url, MUTUAL + USERS)
    tls = exporter.folder / "tls"
    scrape = {
        "scheme": "https",
        "tls_config": {
            "ca_file": str(tls / "ca.pem"),
            "cert_file": str(tls / "client.crt"),
            "key_file": str(tls / "client.key"),
        },
        "basic_auth": {"username": USER, "password": PASSWORD},
    }
    with exporter.ready(), prometheus(tmp_path / "prometheus", exporter.port, **scrape) as server:
        server.wait_for('up{job="octopus"}', 1)
        server.wait_for("sum(octopus_jobs)", 300)
        server.wait_for("octopus_up", 1)


EXAMPLE = Path(__file__).parents[1] / "samples" / "exporter-toolkit" / "web-config.yml"


@needs_curl
def test_the_toolkits_documented_example_is_taken_as_it_is(tmp_path: Path, simulate: Simulate) -> None:
    exporter = Secured(tmp_path, simulate().url, EXAMPLE.read_text())
    for file in (tmp_path / "tls").glob("server.*"):
        shutil.copy(file, tmp_path)
    with exporter.running() as program:
        program.wait_for_line("listening")
        lets_in = [
            exporter.curl("--user", login).stdout.splitlines()[0]
            for login in ("alice:alice123", "bob:bob123", "alice:bob123", "carol:alice123")
        ]
        assert lets_in == ["HTTP/1.1 200 OK"] * 2 + ["HTTP/1.1 401 Unauthorized"] * 2
        # At once, so that a slow machine goes beyond 20 in a second as well.
        with ThreadPoolExecutor(16) as clients:
            statuses = set(clients.map(lambda _: exporter.look("metrics").answer.status, range(100)))
        assert statuses == {401, 429}


@needs_curl
def test_curl_is_let_in_with_the_right_password_and_certificate_only(
    tmp_path: Path, simulate: Simulate
) -> None:
    exporter = Secured(tmp_path, simulate().url, MUTUAL + USERS)
    certificate = ("--cert", str(tmp_path / "tls/client.crt"), "--key", str(tmp_path / "tls/client.key"))
    with exporter.ready():
        right = exporter.curl(*certificate, "--user", f"{USER}:{PASSWORD}")
        assert right.stdout.startswith("HTTP/1.1 200 OK")
        assert "octopus_jobs{" in right.stdout
        for login in ((), ("--user", f"{USER}:wrong"), ("--user", f"nobody:{PASSWORD}")):
            wrong = exporter.curl(*certificate, *login)
            assert wrong.stdout.startswith("HTTP/1.1 401 Unauthorized")
            assert 'WWW-Authenticate: Basic realm="octopus-exporter"' in wrong.stdout
            assert "octopus_" not in wrong.stdout
        bare = exporter.curl("--user", f"{USER}:{PASSWORD}")
        assert (bare.stdout, bare.returncode != 0) == ("", True)


@pytest.mark.parametrize(
    "path", ["", "metrics", "api/v1/status", "-/healthy", "-/ready", "static/status.css", "x"]
)
def test_every_path_asks_for_the_password(secured: Secured, path: str) -> None:
    assert secured.look(path).answer.status == 401
    assert secured.look("-/reload", "POST").answer.status == 401
    assert secured.page(path).status != 401


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One exporter for the questions that change nothing; its API does not answer, which is all the same."""
    exporter = Secured(tmp_path_factory.mktemp("secured"), "http://127.0.0.1:9", MUTUAL + USERS + HEADERS)
    exporter.config["ledger"] = {"url": "sqlite://"}
    with exporter.running() as program:
        until(lambda: exporter.try_page("-/healthy"), f"an answer\n{program.errors}")
        program.wait_for_line(HTTP2_SAID)
        yield exporter


HTTP2_SAID = "http_server_config.http2 has no effect: HTTP/1.1 is spoken"
HEADERS = "http_server_config: {http2: true, headers: {X-Frame-Options: sameorigin, X-XSS-Protection: 1}}\n"


def test_headers_are_set_whatever_the_answer(secured: Secured) -> None:
    for answer in (secured.page("metrics"), secured.page("nowhere"), secured.look("metrics").answer):
        assert answer.headers["x-frame-options"] == "sameorigin"
        assert answer.headers["x-xss-protection"] == "1"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_what_the_http2_key_does_is_told_once(secured: Secured) -> None:
    log = (secured.folder / "exporter.err").read_text()
    assert log.count(HTTP2_SAID) == 1


def test_certificates_are_renewed_under_load_without_a_failure(tmp_path: Path, simulate: Simulate) -> None:
    exporter = Secured(tmp_path, simulate().url, MUTUAL + USERS)
    stop, serials, failures = threading.Event(), dict[str, int](), list[str]()

    def seen_often(certificates: int) -> bool:
        return len(serials) == certificates and min(serials.values()) >= 8

    def scrape() -> None:
        while not stop.is_set():
            try:
                seen = exporter.look("metrics", headers={"Authorization": LOGIN})
                if seen.answer.status != 200 or b"octopus_jobs{" not in seen.answer.body:
                    failures.append(f"status {seen.answer.status}: {seen.answer.text[:300]}")
                serials[seen.serial] = serials.get(seen.serial, 0) + 1
            except Exception as error:
                failures.append(repr(error))

    with exporter.ready() as program:
        exporter.scrape_until_polled()
        scrapers = [threading.Thread(target=scrape) for _ in range(4)]
        for scraper in scrapers:
            scraper.start()
        try:
            for certificates in range(1, 5):
                until(lambda: failures or seen_often(certificates), "the new certificate")  # noqa: B023
                exporter.renew()
        finally:
            stop.set()
            for scraper in scrapers:
                scraper.join()
        assert failures == []
        assert len(serials) == 4
        assert "not taken up" not in program.errors


def test_a_broken_change_keeps_what_was_and_says_so_in_a_line(tmp_path: Path, simulate: Simulate) -> None:
    exporter = Secured(tmp_path, simulate().url, TLS + USERS)
    with exporter.ready() as program:
        exporter.change_web(f"{TLS}basic_auth_users:\n  {USER}: {PASSWORD}\nrate_limits: {{}}\n")
        program.wait_for_line("not taken up")
        assert exporter.page("metrics").status == 200
        assert exporter.look("metrics").answer.status == 401
        exporter.change_web(f"{TLS}{USERS}http_server_config: {{headers: {{X-Frame-Options: deny}}}}\n")
        until(lambda: exporter.page("metrics").headers["x-frame-options"] == "deny", "the mended file")
        assert program.stop()[0] == 0
        (line,) = [line for line in program.errors.splitlines() if "not taken up" in line]
    assert "level=error" in line
    assert f"{exporter.web_yml}:5:15: basic_auth_users.{USER}: found <secret>" in line
    assert "rate_limits: unknown key, expected rate_limit" in line


def test_secrets_are_nowhere_to_be_seen(tmp_path: Path, simulate: Simulate) -> None:
    exporter = Secured(tmp_path, simulate().url, MUTUAL + USERS)
    exporter.change(log={"level": "debug"})
    with exporter.ready() as program:
        pages = [exporter.page(path).text for path in ("", "api/v1/status", "metrics")]
        exporter.change_web(f"{MUTUAL}{USERS}  other: {PASSWORD}\n")
        program.wait_for_line("not taken up")
        assert program.stop()[0] == 0
        said = "\n".join([*pages, program.output, program.errors])
    key = (tmp_path / "tls/server.key").read_text().splitlines()[1]
    for secret in (HASH, HASH[29:], PASSWORD, key, LOGIN.removeprefix("Basic ")):
        assert secret not in said


def test_more_than_the_rate_is_answered_with_429(tmp_path: Path) -> None:
    exporter = Secured(tmp_path, "http://127.0.0.1:9", "rate_limit: {interval: 1h, burst: 3}\n")
    with exporter.running() as program:
        until(lambda: exporter.try_page("-/healthy"), f"an answer\n{program.errors}")
        assert [exporter.page("metrics").status for _ in range(4)] == [200, 200, 429, 429]
        assert int(exporter.page("metrics").headers["retry-after"]) > 3000


def test_a_web_configuration_that_does_not_hold_stops_the_start(tmp_path: Path) -> None:
    exporter = Secured(
        tmp_path, "http://127.0.0.1:9", f"{TLS}  min_version: SSL3\nbasic_auth_users: {{a: b}}\n"
    )
    wanted = [
        (
            f"octopus-exporter: {exporter.web_yml}:4:16: tls_server_config.min_version: found SSL3,"
            " expected TLS10, TLS11, TLS12 or TLS13"
        ),
        (
            f"octopus-exporter: {exporter.web_yml}:5:23: basic_auth_users.a: found <secret>,"
            " expected a bcrypt hash such as htpasswd -nBC 10 USER gives"
        ),
    ]
    for command in ("run", "check"):
        done = run((command, "--config", exporter.write()), tmp_path)
        assert (done.returncode, done.stderr.splitlines()) == (2, wanted)


def test_check_finds_a_certificate_without_its_key(tmp_path: Path) -> None:
    exporter = Secured(tmp_path, "http://127.0.0.1:9", TLS + USERS)
    assert run(("check", "--config", exporter.write()), tmp_path).returncode == 0
    exporter.authority.issue("other", "localhost").key.replace(tmp_path / "tls/server.key")
    done = run(("check", "--config", exporter.write()), tmp_path)
    assert done.returncode == 2
    assert "found the key of another certificate" in done.stderr


def test_the_flag_wins_over_the_file(tmp_path: Path) -> None:
    exporter = Secured(tmp_path, "http://127.0.0.1:9", USERS)
    exporter.change(web={"config_file": "nowhere.yml"})
    command = (*EXPORTER, "run", "--config", exporter.write(), "--web.config.file", "web.yml")
    with started(command, tmp_path) as program:
        until(lambda: exporter.try_page("-/healthy"), f"an answer\n{program.errors}")
        assert ask(f"http://127.0.0.1:{exporter.port}/-/healthy").status == 401


def test_once_does_not_look_at_it(tmp_path: Path, simulate: Simulate) -> None:
    exporter = Secured(tmp_path, simulate().url, "broken")
    done = run(("once", "--config", exporter.write()), tmp_path)
    assert (done.returncode, "octopus_jobs{" in done.stdout) == (0, True)


def test_a_stop_does_not_wait_for_a_client_that_stays(tmp_path: Path) -> None:
    exporter = Secured(tmp_path, "http://127.0.0.1:9", TLS)
    with exporter.running() as program:
        until(lambda: exporter.try_page("-/healthy"), f"an answer\n{program.errors}")
        idle = HTTPSConnection("127.0.0.1", exporter.port, context=exporter.tls, timeout=10)
        idle.request("GET", "/-/healthy")
        assert idle.getresponse().read() == b"octopus-exporter is healthy.\n"
        code, seconds = program.stop()
        idle.close()
    # Less than a connection may be idle.
    assert (code, seconds < 60) == (0, True)


def test_several_addresses_ipv6_among_them(tmp_path: Path) -> None:
    exporter = Exporter(tmp_path, "http://127.0.0.1:9")
    ports = [exporter.port, free_port()]
    exporter.change(web={"listen": [f"127.0.0.1:{ports[0]}", f"[::1]:{ports[1]}"]})
    with exporter.running() as program:
        until(lambda: exporter.try_page("-/healthy"), f"an answer\n{program.errors}")
        assert ask(f"http://[::1]:{ports[1]}/-/healthy").status == 200
