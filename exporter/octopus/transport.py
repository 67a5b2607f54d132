"""Send an HTTP request, read the complete response, and turn every failure into an ApiError."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import structlog
from yarl import URL

from exporter import __version__
from exporter.errors import (
    AnswerTooLarge,
    ApiError,
    ApiTimeout,
    ApiUnavailable,
    ContractError,
    RateLimited,
    StartError,
)
from exporter.masking import Secrets
from exporter.octopus.error_responses import sanitize
from exporter.octopus.messages import ApiObserver, Request, Response
from exporter.octopus.proxies import Proxies
from exporter.state_log import StateLog

MAX_BODY_BYTES = 32 * 1024 * 1024
# Of an error response only the beginning is read: code and message stand there, unless it is a web page.
_MAX_ERROR_BYTES = 1024 * 1024
# IAM tokens come in a header and are several KB long; aiohttp's default limit is 8190 bytes.
_MAX_HEADER_BYTES = 64 * 1024
_CONNECTIONS_PER_HOST = 100
# Longer than most poll intervals, so that a poll reuses the connection of the previous one.
_KEEP_ALIVE_SECONDS = 75

# The first match counts, so subclasses stand before their base classes.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (
        aiohttp.ClientConnectorCertificateError,
        "the TLS certificate of {host} is not trusted (SSL_CERT_FILE?): {exc.certificate_error}",
    ),
    (aiohttp.ClientConnectorSSLError, "no TLS with {host}: {exc.os_error}"),
    (aiohttp.ClientConnectorDNSError, "the name {host} cannot be resolved: {exc.os_error}"),
    (aiohttp.ClientProxyConnectionError, "no connection to the proxy {exc.host}:{exc.port}: {exc.os_error}"),
    (aiohttp.ClientConnectorError, "no connection to {host}: {exc.os_error}"),
    (aiohttp.ClientHttpProxyError, "the proxy does not connect to {host}: {exc.status} {exc.message}"),
    (aiohttp.ServerDisconnectedError, "{host} closed the connection without an answer"),
    (aiohttp.ClientPayloadError, "the answer of {host} broke off: {exc}"),
    (aiohttp.ClientResponseError, "{host} does not speak HTTP: {exc.message}"),
)

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


def open_session(env: Mapping[str, str] = os.environ) -> aiohttp.ClientSession:
    """
    Open the HTTP session that all endpoints share. Call it in the event loop; close the session there.

    Certificate authorities: SSL_CERT_FILE and SSL_CERT_DIR replace the system's, REQUESTS_CA_BUNDLE adds to
    them. Proxies: HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
    Raises: StartError (REQUESTS_CA_BUNDLE cannot be read, or a proxy is not a URL).
    """
    # Only to check them: a wrong variable must fail at the start, not at the first request.
    Proxies(env)
    context, bundle = _ContextAtFirstUse(ssl.PROTOCOL_TLS_CLIENT), env.get("REQUESTS_CA_BUNDLE", "")
    if bundle:
        try:
            context.made.load_verify_locations(**{"capath" if Path(bundle).is_dir() else "cafile": bundle})
        except (OSError, ssl.SSLError) as exc:
            fault = f"REQUESTS_CA_BUNDLE={bundle}: no certificates can be read from it: {exc}"
            raise StartError(fault) from exc
    connector = aiohttp.TCPConnector(
        ssl=context,
        # No total limit: one endpoint that hangs must not use up the connections of the others.
        limit=0,
        limit_per_host=_CONNECTIONS_PER_HOST,
        keepalive_timeout=_KEEP_ALIVE_SECONDS,
    )
    return aiohttp.ClientSession(
        connector=connector,
        headers={"User-Agent": f"octopus-exporter/{__version__}"},
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
    )


class _ContextAtFirstUse(ssl.SSLContext):
    """
    The default context, made for the first TLS connection.

    To read all authorities takes 20 ms and some megabytes, and an endpoint in the same network may need none.
    """

    @cached_property
    def made(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self.made.wrap_bio(*args, **kwargs)


@dataclass(kw_only=True, eq=False, repr=False)
class Transport:
    """Sends requests through one session; reports each to the observer and logs failures."""

    session: aiohttp.ClientSession
    observer: ApiObserver
    secrets: Secrets
    timeout_seconds: float
    max_body_bytes: int = MAX_BODY_BYTES
    clock: Callable[[], float] = time.time
    _failing: dict[tuple[str, ...], StateLog] = field(default_factory=dict, init=False)
    _proxies: Proxies = field(default_factory=Proxies, init=False)

    async def send(self, request: Request, project: str, decode: Callable[[Response, Request], _T]) -> _T:
        """
        Send a request and decode its response.

        Shape: `decode` gets a request whose `masked` knows the secrets of all requests.
        Raises: ApiError, for every kind of failure.
        """
        # Before sending, so that they are masked in whatever the exchange brings, its errors included.
        self.secrets.use(*request.secrets)
        if request.signature:
            self.secrets.use_once(request.signature)
        request = replace(request, mask=self.secrets.masked)
        try:
            result = decode(await self._exchange(request, project), request)
        except ApiError as error:
            self._log_failure(error, request, project)
            raise
        if self._failing:
            state = self._failing.get(_log_key(request, project))
            if state is not None:
                state.is_over(self.clock(), project=project, url=request.url)
        return result

    def _log_failure(self, error: ApiError, request: Request, project: str) -> None:
        details = {
            "project": project,
            "reason": error.reason,
            "error": error.message,
            "status": error.status,
            "code": error.code,
            "url": error.url,
            "request_id": error.request_id,
        }
        # These are retried; if the retries fail too, the poll logs it.
        if isinstance(error, RateLimited | ApiUnavailable):
            _log.debug("request failed", **details)
            return
        state = self._failing.setdefault(
            _log_key(request, project), StateLog(_log, "request failed", "requests work again")
        )
        state.holds((error.reason, error.status, error.code), self.clock(), **details)

    async def _exchange(self, request: Request, project: str) -> Response:
        started, sent_at, code = time.perf_counter(), self.clock(), "error"
        try:
            async with self.session.request(
                request.method,
                # Already encoded: yarl must not encode it in another way than it was signed.
                URL(request.full_url, encoded=True),
                headers=request.headers,
                data=request.body or None,
                # A redirect would send the token to another server.
                allow_redirects=False,
                proxy=self._proxies.of(request.origin),
                timeout=aiohttp.ClientTimeout(total=self.timeout_seconds),
            ) as answer:
                body = await self._body(answer, request)
                headers = {name.lower(): value for name, value in answer.headers.items()}
                # A new token becomes a known secret at once: the body of the same response may repeat it.
                self.secrets.use(*filter(None, (headers.get("x-subject-token"),)))
                code = str(answer.status)
                return Response(answer.status, headers, body, sent_at, self.clock())
        except TimeoutError as exc:
            message = f"no complete answer within {self.timeout_seconds:g} s"
            raise ApiTimeout(message, url=request.url) from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            # aiohttp and yarl raise ValueError for a URL or header that cannot be sent. An untrusted
            # certificate is a ValueError too, but also an OSError.
            if isinstance(exc, ValueError) and not isinstance(exc, OSError):
                message = sanitize(f"the request cannot be sent: {exc}", request)
                raise ContractError(message, url=request.url) from exc
            kinds = (text for kind, text in _REASONS if isinstance(exc, kind))
            reason = next(kinds, "no answer from {host}: {exc}").format(exc=exc, host=request.host)
            raise ApiUnavailable(sanitize(reason, request), url=request.url) from exc
        finally:
            self.observer.request(project, code, time.perf_counter() - started)

    async def _body(self, answer: aiohttp.ClientResponse, request: Request) -> bytes:
        """Read the decompressed body, up to a limit that protects the memory. Raises: AnswerTooLarge."""
        failed = answer.status >= 300
        limit = min(_MAX_ERROR_BYTES, self.max_body_bytes) if failed else self.max_body_bytes
        chunks, size = [], 0
        async for chunk in answer.content.iter_any():
            size += len(chunk)
            chunks.append(chunk)
            if size > limit:
                # An error is known by its status and its beginning, however long it is.
                if failed:
                    break
                raise AnswerTooLarge(
                    f"the answer is longer than {limit} bytes",
                    status=answer.status,
                    url=request.url,
                    request_id=sanitize(answer.headers.get("X-Request-Id", ""), request),
                )
        return b"".join(chunks)


def _log_key(request: Request, project: str) -> tuple[str, ...]:
    """Identify a target or a login, which bounds the number of logged states. Pages of a target share one."""
    workspaces = [value for name, value in request.query if name == "workspace_id"]
    return (project, request.url, *workspaces)
