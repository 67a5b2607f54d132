"""The container's health check, which knows nothing of the web configuration, in front of each kind of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.webconfig import hashed, site

SCRIPT = Path(__file__).parent.parent / "deploy" / "healthcheck.py"
USERS = f"basic_auth_users: {{alice: {hashed('word')}}}\n"
TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
MUTUAL = f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"


async def check(port: int) -> tuple[int, str]:
    return await asyncio.to_thread(run, {"OCTOPUS_EXPORTER_PORT": str(port), "http_proxy": "http://[::1]:9"})


def run(environment: dict[str, str]) -> tuple[int, str]:
    command: list[str | Path] = [sys.executable, SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "text",
    ["", USERS, TLS, TLS + USERS, MUTUAL, f"{MUTUAL}  max_version: TLS12\n", "rate_limit: {interval: 1h}\n"],
    ids=["plain", "users", "TLS", "TLS and users", "client certificates", "TLS 1.2", "rate limit"],
)
async def test_what_answers_is_healthy(tmp_path: Path, text: str) -> None:
    Authority(tmp_path).issue("server", "localhost")
    async with site(tmp_path / "web.yml", text) as served:
        assert (await check(served.port))[0] == 0


async def test_what_is_gone_is_not(tmp_path: Path) -> None:
    async with site(tmp_path / "web.yml", "") as served:
        assert (await served.get()).status == 200
    code, said = await check(served.port)
    assert (code, said) == (1, f"port {served.port}: [Errno 111] Connection refused\n")


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.0 500 Oh\r\n\r\n", b"220 mail.example ESMTP\r\n"])
async def test_what_answers_otherwise_is_not(reply: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        writer.write_eof()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        assert (await check(server.sockets[0].getsockname()[1]))[0] == 1
