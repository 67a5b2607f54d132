"""What a backfill says of a Prometheus that it cannot use: one line, without the password."""

from __future__ import annotations

import pytest

from exporter.backfill.plan import BackfillOptions
from exporter.backfill.prometheus import fit_retention
from exporter.errors import BackfillError, ConfigError
from tests.octopus_fakes import Answer, Api

PASSWORD = "correct-horse-battery"


def options(url: str) -> BackfillOptions:
    return BackfillOptions(1_800_000_000_000, url, {}, 1_799_000_000_000, 240_000)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((200, b"<html>Welcome</html>"), "is not a Prometheus, or its URL has a path prefix"),
        ((200, {"status": "fine"}), "is not a Prometheus, or its URL has a path prefix"),
        ((404, b"not found"), "is not a Prometheus, or its URL has a path prefix"),
        (
            (401, PASSWORD.encode()),
            "refuses access (status 401); a user and a password can be part of the URL",
        ),
        ((503, b"starting"), "answers /api/v1/query with 503"),
        (
            (422, {"status": "error", "error": f"no such\nuser {PASSWORD}"}),
            "answers /api/v1/query with 422: no such",
        ),
    ],
)
async def test_a_server_that_is_no_prometheus_is_refused(answer: Answer, problem: str) -> None:
    async with Api([answer]).server() as server:
        with pytest.raises(BackfillError) as raised:
            await fit_retention(options(f"http://user:{PASSWORD}@127.0.0.1:{server.port}"))
    text = str(raised.value)
    assert text.startswith("--prometheus: http://127.0.0.1:")
    assert problem in text
    assert PASSWORD not in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "url",
    ["prometheus:9090", "http://", f"http://user:{PASSWORD}@host:99999", "http://prometheus:9090/?query=up"],
)
async def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        await fit_retention(options(url))
    assert raised.value.problems == ["--prometheus: not a URL, expected one such as http://prometheus:9090"]
