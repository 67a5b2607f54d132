"""Plain HTTP to a process under test: one connection per question, no proxies, no retries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

# A busy machine is no failure.
_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    url: str, *, method: str = "GET", body: object = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send one request, `body` as JSON. Raises: OSError, HTTPException."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_SECONDS)
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request(
            method, f"{parts.path or '/'}?{parts.query}".rstrip("?"), data, dict(headers or {})
        )
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, answer.read())
    finally:
        connection.close()


def try_to_ask(url: str) -> Answer | None:
    """Send one request to a process that may be down or stopping. Returns None without an answer."""
    try:
        return ask(url)
    except (OSError, HTTPException):
        return None
