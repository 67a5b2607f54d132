"""What every request passes before a page: the rate limit, then the users' passwords."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import bcrypt
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from exporter.web.toolkit.settings import ToolkitSettings

_CHALLENGE = 'Basic realm="octopus-exporter", charset="UTF-8"'
# For scrapers with an old password, which ask again and again. A guesser never asks twice.
_MOST_REFUSED = 256
# bcrypt reads no more than this, and Go accepts longer passwords. New versions of the library refuse them.
_BCRYPT_BYTES = 72


@dataclass
class RateLimiter:
    """
    A token bucket, as in golang.org/x/time/rate.

    It allows `burst` requests at once and one more in every interval; with a burst of 0 it allows none.
    Units: `interval_seconds` above 0; `clock` gives monotonic seconds.
    """

    interval_seconds: float
    burst: int
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._tokens = float(self.burst)
        self._at = self.clock()

    def allows(self) -> bool:
        """Take a token; False if there is none."""
        now = self.clock()
        self._tokens = min(self._tokens + (now - self._at) / self.interval_seconds, float(self.burst))
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    @property
    def retry_after_seconds(self) -> float:
        """The time until the next request is allowed."""
        return (1 - self._tokens) * self.interval_seconds


def _read_login(header: str | None) -> tuple[bytes, bytes] | None:
    """Read user and password from an Authorization header; None if it is no Basic login (RFC 7617)."""
    scheme, _, value = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(value.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


class BasicAuth:
    """
    Checks logins against bcrypt hashes.

    bcrypt is slow on purpose. So passwords are compared in a thread, one at a time, and results are kept:
    as keyed digests, never as passwords. Refusing an unknown user takes as long as refusing a known one,
    so the time does not tell which users exist.

    Shape: `hashes` has the bcrypt hash of each user, at least one.
    """

    def __init__(self, hashes: Mapping[str, bytes]) -> None:
        self._hashes = {user.encode(): hashed for user, hashed in hashes.items()}
        self._all_hashes = tuple(hashes.values())
        self._secret = secrets.token_bytes(32)
        self._comparing = asyncio.Lock()
        # Two stores: many wrong guesses must not push out the users who were admitted.
        self._admitted: dict[bytes, bytes] = {}
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self._cut_was_logged = False

    async def admits(self, header: str | None) -> bool:
        """Check whether an Authorization header has a known user and the right password."""
        login = _read_login(header)
        if login is None:
            return False
        user, password = login
        # With the length of the name: user a with password bc is not user ab with password c.
        digest = self._hmac(len(user).to_bytes(8, "big") + user + password)
        if (known := self._known_result(user, digest)) is not None:
            return known
        async with self._comparing:
            # Another request with the same login may have been compared while this one waited.
            if (known := self._known_result(user, digest)) is not None:
                return known
            hashed = self._hashes.get(user) or self._stand_in(user)
            matches = await asyncio.to_thread(_matches, password, hashed)
            if matches and user in self._hashes:
                self._admitted[user] = digest
                if len(password) > _BCRYPT_BYTES and not self._cut_was_logged:
                    self._cut_was_logged = True
                    structlog.get_logger().warning(
                        "a password is longer than bcrypt reads: "
                        "what follows its first 72 bytes is not compared",
                        user=user.decode(),
                    )
                return True
            self._refused[digest] = None
            if len(self._refused) > _MOST_REFUSED:
                self._refused.popitem(last=False)
            return False

    def _known_result(self, user: bytes, digest: bytes) -> bool | None:
        if hmac.compare_digest(self._admitted.get(user, b""), digest):
            return True
        return False if digest in self._refused else None

    def _stand_in(self, user: bytes) -> bytes:
        """Give a hash for an unknown user: always the same one, and as costly as that of a known user."""
        number = int.from_bytes(self._hmac(user)[:8], "big")
        return self._all_hashes[number % len(self._all_hashes)]

    def _hmac(self, message: bytes) -> bytes:
        return hmac.digest(self._secret, message, hashlib.sha256)


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:_BCRYPT_BYTES], hashed)
    except ValueError:  # bcrypt does not accept this password
        return False


@dataclass(frozen=True, slots=True)
class ActiveConfig:
    """The web configuration that requests are checked against now."""

    settings: ToolkitSettings
    headers: Mapping[str, str]
    auth: BasicAuth | None
    limiter: RateLimiter | None

    @classmethod
    def of(cls, settings: ToolkitSettings, before: ActiveConfig | None = None) -> ActiveConfig:
        """Activate settings. Users and a rate limit that did not change keep their state."""
        users, limit = settings.basic_auth_users, settings.rate_limit
        auth = BasicAuth(users) if users else None
        limiter = RateLimiter(limit.interval_seconds, limit.burst) if limit.interval_seconds else None
        if before is not None and before.settings.basic_auth_users == users:
            auth = before.auth
        if before is not None and before.settings.rate_limit == limit:
            limiter = before.limiter
        return cls(settings, settings.http_server_config.headers.given(), auth, limiter)


def install_auth_middleware(app: web.Application, active: Callable[[], ActiveConfig]) -> None:
    """Put the checks in front of all pages. Each request is checked against the configuration of its time."""

    @web.middleware
    async def auth_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        config = active()
        # The rate limit comes first, as in the toolkit: it also limits how fast passwords can be guessed.
        if config.limiter is not None and not config.limiter.allows():
            wait = math.ceil(config.limiter.retry_after_seconds)
            return web.Response(
                text="too many requests\n",
                status=HTTPStatus.TOO_MANY_REQUESTS,
                headers={"Retry-After": str(wait)},
            )
        if config.auth is not None and not await config.auth.admits(request.headers.get("Authorization")):
            return web.Response(
                text="unauthorized\n",
                status=HTTPStatus.UNAUTHORIZED,
                headers={"WWW-Authenticate": _CHALLENGE},
            )
        return await handler(request)

    async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(active().headers)

    app.middlewares.insert(0, auth_middleware)
    # A signal, not the middleware, sets the headers: so they are on errors of aiohttp itself as well.
    app.on_response_prepare.append(set_headers)
