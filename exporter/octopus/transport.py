"""The edge to HTTP: one request out, one whole answer in, every failure an error of the tree."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

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
from exporter.octopus.error_responses import shown
from exporter.octopus.messages import Request, Response
from exporter.octopus.observer import ApiObserver
from exporter.octopus.proxies import Proxies
from exporter.state_log import StateLog

MAX_BODY_BYTES = 32 * 1024 * 1024
# What of an error's body is read: its code and message stand at its beginning, or it is a web page.
_MAX_ERROR_BYTES = 1024 * 1024
# IAM tokens come in a header and are several KB long; aiohttp's own bound is 8190 bytes.
_MAX_HEADER_BYTES = 64 * 1024
_CONNECTIONS_PER_HOST = 100
# Longer than most poll intervals, so that a poll finds the last one's connection open.
_KEEP_ALIVE_SECONDS = 75

# The first that fits; subclasses come before what they derive from.
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
    Open the HTTP session all endpoints share; to be called in the event loop, and closed there.

    Certificate authorities come from SSL_CERT_FILE and SSL_CERT_DIR (instead of the system's) and
    REQUESTS_CA_BUNDLE (besides them); proxies from HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
    Raises: StartError (REQUESTS_CA_BUNDLE cannot be read, or a proxy is none).
    """
    Proxies(env)
    connector = aiohttp.TCPConnector(
        ssl=_tls_context(env.get("REQUESTS_CA_BUNDLE", "")),
        # The pollers' own concurrency is the bound: one host that hangs must not use up the others' share.
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


def _tls_context(bundle: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not bundle:
        return context
    try:
        context.load_verify_locations(**{"capath" if Path(bundle).is_dir() else "cafile": bundle})
    except (OSError, ssl.SSLError) as exc:
        raise StartError(f"REQUESTS_CA_BUNDLE={bundle}: no certificates can be read from it: {exc}") from exc
    return context


class Transport:
    """Sends requests through one session, and tells the observer and the log how it went."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        observer: ApiObserver,
        timeout_seconds: float,
        max_body_bytes: int = MAX_BODY_BYTES,
        clock: Callable[[], float] = time.time,
        secrets: Secrets | None = None,
    ) -> None:
        self._session = session
        self.secrets = secrets or Secrets(clock)
        self._proxies = Proxies()
        self._observer = observer
        self._timeout_seconds = timeout_seconds
        self._max_body_bytes = max_body_bytes
        self._clock = clock
        self._failing: dict[tuple[str, ...], StateLog] = {}

    async def ask(self, request: Request, project: str, decode: Callable[[Response, Request], _T]) -> _T:
        """
        Send a request and decode its answer; that requests fail is logged here.

        Shape: what `decode` is given masks the secrets of this request and of all others (`Request.masked`).
        Raises: ApiError, whatever went wrong.
        """
        self.secrets.use(*request.secrets)
        if request.signature:
            self.secrets.use_once(request.signature)
        request = replace(request, mask=self.secrets.masked)
        try:
            answer = decode(await self._send(request, project), request)
        except ApiError as error:
            self._log_failure(error, request, project)
            raise
        if self._failing:
            self._log_success(request, project)
        return answer

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
        # What is retried is news only when the retries are used up, and then the poll says so.
        if isinstance(error, RateLimited | ApiUnavailable):
            _log.debug("request failed", **details)
            return
        state = self._failing.setdefault(
            _question(request, project), StateLog(_log, "request failed", "requests work again")
        )
        state.holds((error.reason, error.status, error.code), self._clock(), **details)

    def _log_success(self, request: Request, project: str) -> None:
        state = self._failing.get(_question(request, project))
        if state is not None:
            state.is_over(self._clock(), project=project, url=request.url)

    async def _send(self, request: Request, project: str) -> Response:
        started, sent_at, code = time.perf_counter(), self._clock(), "error"
        try:
            response = await self._exchange(request, sent_at)
            code = str(response.status)
            return response
        # A ValueError is aiohttp's and yarl's word for a URL or header that cannot be sent.
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise self._translated(exc, request) from exc
        finally:
            self._observer.request(project, code, time.perf_counter() - started)

    async def _exchange(self, request: Request, sent_at: float) -> Response:
        async with self._session.request(
            request.method,
            # Already encoded: it must go out byte for byte as it was signed.
            URL(request.full_url, encoded=True),
            headers=request.headers,
            data=request.body or None,
            allow_redirects=False,
            proxy=self._proxies.of(request.origin),
            timeout=aiohttp.ClientTimeout(total=self._timeout_seconds),
        ) as answer:
            body = await self._body(answer, request)
            headers = {name.lower(): value for name, value in answer.headers.items()}
            # A new token: what comes with it may repeat it.
            self.secrets.use(*filter(None, (headers.get("x-subject-token"),)))
            return Response(answer.status, headers, body, sent_at, self._clock())

    async def _body(self, answer: aiohttp.ClientResponse, request: Request) -> bytes:
        """
        Read the body, decompressed, up to the bound: a broken server must not cost the memory.

        Of an error's body only the beginning is read, so that its status decides and not its length.
        Raises: AnswerTooLarge.
        """
        failed = answer.status >= 300
        bound = min(_MAX_ERROR_BYTES, self._max_body_bytes) if failed else self._max_body_bytes
        chunks, size = [], 0
        async for chunk in answer.content.iter_any():
            size += len(chunk)
            chunks.append(chunk)
            if size > bound:
                if failed:
                    break
                raise AnswerTooLarge(
                    f"the answer is longer than {bound} bytes",
                    status=answer.status,
                    url=request.url,
                    request_id=shown(answer.headers.get("X-Request-Id", ""), request),
                )
        return b"".join(chunks)

    def _translated(self, exc: Exception, request: Request) -> ApiError:
        if isinstance(exc, TimeoutError):
            return ApiTimeout(f"no complete answer within {self._timeout_seconds:g} s", url=request.url)
        # An untrusted certificate is a ValueError too, besides the OSError that it is.
        if isinstance(exc, ValueError) and not isinstance(exc, OSError):
            return ContractError(shown(f"the request cannot be sent: {exc}", request), url=request.url)
        return ApiUnavailable(shown(_reason(exc, request.host), request), url=request.url)


def _reason(exc: Exception, host: str) -> str:
    """Say in words why there is no answer."""
    text = next((text for kind, text in _REASONS if isinstance(exc, kind)), "no answer from {host}: {exc}")
    return text.format(exc=exc, host=host)


def _question(request: Request, project: str) -> tuple[str, ...]:
    """Tell what a request is about: there are no more of these than targets and places to log in."""
    workspaces = [value for name, value in request.query if name == "workspace_id"]
    return (project, request.url, *workspaces)
