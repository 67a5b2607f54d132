"""A proxy of the environment: what is none ends the start, and what NO_PROXY names does without."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from aiohttp import web

from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.processes import run
from tests.e2e.stand_in import Serve

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("command", "value"),
    [
        (("run",), "user:PASSWORD@127.0.0.1:9"),
        (("run",), "http://user:PASS/WORD@127.0.0.1:9"),
        (("once",), "http://user:PASS#WORD@127.0.0.1:9"),
        (("check", "--online"), "http://user:PASSWORD@127.0.0.1:99999"),
    ],
)
def test_what_is_no_proxy_ends_the_start_without_showing(
    tmp_path: Path, command: tuple[str, ...], value: str
) -> None:
    exporter = Exporter(tmp_path, "http://127.0.0.1:9")
    done = run((*command, "--config", exporter.write()), tmp_path, HTTP_PROXY=value)
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("octopus-exporter: HTTP_PROXY: ")
    assert done.stderr.count("\n") == 1
    assert "PASS" not in done.stderr + done.stdout
    assert "WORD" not in done.stderr + done.stdout


async def test_what_a_proxy_says_of_its_password_does_not_show(tmp_path: Path, aiohttp_server: Serve) -> None:
    async def refuse(request: web.Request) -> web.Response:
        said = {"error_msg": "the password of proxyuser is not PASS%40WORD-PASS, PASS@WORD-PASS is wrong"}
        return web.json_response(said, status=407)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    place = (await aiohttp_server(app)).make_url("")
    exporter = Exporter(tmp_path, "http://octopus.invalid")
    done = await asyncio.to_thread(
        run,
        ("once", "--config", exporter.write()),
        tmp_path,
        HTTP_PROXY=f"http://proxyuser:PASS%40WORD-PASS@{place.host}:{place.port}",
    )
    assert "the proxy asks for credentials: the password of <secret> is not <secret>" in done.stderr
    assert "proxyuser" not in done.stderr
    assert "WORD-PASS" not in done.stderr


def test_a_network_in_no_proxy_keeps_the_password_from_the_proxy(tmp_path: Path, simulate: Simulate) -> None:
    exporter = Exporter(tmp_path, simulate().url)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0)
        environment = {
            "HTTP_PROXY": f"http://127.0.0.1:{proxy.getsockname()[1]}",
            "NO_PROXY": "10.0.0.0/8,127.0.0.0/8",
        }
        done = run(("once", "--config", exporter.write()), tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        with pytest.raises(BlockingIOError):  # nobody has called
            proxy.accept()
