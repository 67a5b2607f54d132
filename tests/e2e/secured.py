"""An exporter behind a web configuration, and requests to it over TLS with a password."""

from __future__ import annotations

import ssl
import subprocess
from base64 import b64encode
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

import bcrypt

from tests.certificates import Authority
from tests.e2e.exporting import Exporter
from tests.e2e.http import Answer, ask

HOST = "127.0.0.1"
# A busy machine is no failure.
_TIMEOUT_SECONDS = 120.0
USER, PASSWORD = "prometheus", "correct horse battery staple"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
LOGIN = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()
USERS = f"basic_auth_users:\n  {USER}: {HASH}\n"
TLS = "tls_server_config:\n  cert_file: tls/server.crt\n  key_file: tls/server.key\n"
MUTUAL = (
    f"{TLS}  client_ca_file: tls/ca.pem\n"
    "  client_auth_type: RequireAndVerifyClientCert\n"
    "  client_allowed_sans: [prometheus.example]\n"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer, and the serial number of the certificate it came under."""

    answer: Answer
    serial: str


class Secured(Exporter):
    """An exporter with a certificate of its own authority; its web configuration is `web_yml`."""

    def __init__(self, folder: Path, api: str, text: str) -> None:
        super().__init__(folder, api)
        (folder / "tls").mkdir()
        self.authority = Authority(folder / "tls")
        self.renew()
        self.tls = self.authority.client(self.authority.issue("client", "prometheus.example"))
        self.web_yml = folder / "web.yml"
        self.web_yml.write_text(text)
        self.change(web={"config_file": "web.yml"})

    def renew(self) -> None:
        """Put a new certificate and its key in place of the old, each at once."""
        pair = self.authority.issue("new", "localhost", HOST)
        pair.key.replace(self.folder / "tls" / "server.key")
        pair.certificate.replace(self.folder / "tls" / "server.crt")

    def change_web(self, text: str) -> None:
        """Put another web configuration in place of the old one, at once, as the exporter may look then."""
        new = self.folder / "new.yml"
        new.write_text(text)
        new.replace(self.web_yml)

    def page(self, path: str, method: str = "GET", **headers: str) -> Answer:
        login = {"Authorization": LOGIN}
        if "tls_server_config" not in self.web_yml.read_text():
            return ask(f"http://{HOST}:{self.port}/{path}", method=method, headers=login | headers)
        return self.look(path, method, login | headers).answer

    def look(self, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> Seen:
        """Ask over a new connection. Raises: OSError, HTTPException."""
        connection = HTTPSConnection(HOST, self.port, timeout=_TIMEOUT_SECONDS, context=self.tls)
        try:
            connection.request(method, f"/{path}", headers=headers or {})
            assert isinstance(connection.sock, ssl.SSLSocket)
            certificate = connection.sock.getpeercert() or {}
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Seen(Answer(answer.status, names, answer.read()), str(certificate["serialNumber"]))
        finally:
            connection.close()

    def try_page(self, path: str) -> Answer | None:
        try:
            return self.page(path)
        except (OSError, HTTPException):
            return None

    def curl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Ask for /metrics with curl; what it prints ends with the status."""
        tls = self.folder / "tls"
        known = ("--cacert", tls / "ca.pem", "--noproxy", "*")
        url = f"https://localhost:{self.port}/metrics"
        return subprocess.run(
            ["curl", "--silent", "--show-error", "--include", *known, *arguments, url],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
