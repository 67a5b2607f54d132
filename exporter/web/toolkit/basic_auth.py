"""
Users and passwords.

A password is compared in a thread, one at a time; what was found is kept, not the password. It takes an
unknown user as long as a known one to be refused.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

import bcrypt
import structlog

_MOST_REFUSED = 256
# bcrypt looks at no more, and Go takes longer passwords even so. Newer versions of the library refuse them.
_BCRYPT_BYTES = 72


@dataclass(frozen=True, slots=True)
class Login:
    """What a request's header says."""

    user: str
    password: bytes = field(repr=False)

    @property
    def is_cut(self) -> bool:
        """Whether bcrypt does not look at all of the password."""
        return len(self.password) > _BCRYPT_BYTES


def read_login(header: str | None) -> Login | None:
    """
    Read an Authorization header; None for one that is missing or is no Basic login.

    Source: RFC 7617, section 2; the name is UTF-8.
    """
    scheme, _, value = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(value.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return Login(user.decode("utf-8", "surrogateescape"), password) if colon else None


class BasicAuth:
    """Knows the users, at least one. Shape: `hashes` has each user's bcrypt hash."""

    def __init__(self, hashes: Mapping[str, bytes]) -> None:
        self._hashes = dict(hashes)
        self._all_hashes = tuple(hashes.values())
        self._secret = secrets.token_bytes(32)
        self._comparing = asyncio.Lock()
        self._admitted: dict[str, bytes] = {}
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self._told_of_cut = False

    async def admits(self, header: str | None) -> bool:
        """Tell whether this Authorization header has a known user and the right password."""
        login = read_login(header)
        if login is None:
            return False
        seen = self._digest(login)
        if (known := self._remembered(login, seen)) is not None:
            return known
        async with self._comparing:
            # Another request with the same login may just have been compared.
            if (known := self._remembered(login, seen)) is not None:
                return known
            return self._remember(login, seen, admitted=await self._compare(login))

    async def _compare(self, login: Login) -> bool:
        known = self._hashes.get(login.user)
        against = known or self._stand_in(login.user)
        matches = await asyncio.to_thread(_matches, login.password, against)
        return matches and known is not None

    def _stand_in(self, user: str) -> bytes:
        """Give a hash for an unknown user: always the same one, and of a cost that known users have."""
        mixed = hmac.digest(self._secret, user.encode("utf-8", "surrogateescape"), hashlib.sha256)
        return self._all_hashes[int.from_bytes(mixed[:8], "big") % len(self._all_hashes)]

    def _remembered(self, login: Login, seen: bytes) -> bool | None:
        if hmac.compare_digest(self._admitted.get(login.user, b""), seen):
            return True
        return False if seen in self._refused else None

    def _remember(self, login: Login, seen: bytes, *, admitted: bool) -> bool:
        # Apart from each other, so that a flood of guesses does not push out those who may come in.
        if admitted:
            self._admitted[login.user] = seen
            self._tell_of_cut(login)
        else:
            self._refused[seen] = None
            if len(self._refused) > _MOST_REFUSED:
                self._refused.popitem(last=False)
        return admitted

    def _tell_of_cut(self, login: Login) -> None:
        if login.is_cut and not self._told_of_cut:
            self._told_of_cut = True
            structlog.get_logger().warning(
                "a password is longer than bcrypt reads: what follows its first 72 bytes is not compared",
                user=login.user,
            )

    def _digest(self, login: Login) -> bytes:
        user = login.user.encode("utf-8", "surrogateescape")
        message = len(user).to_bytes(8, "big") + user + login.password
        return hmac.digest(self._secret, message, hashlib.sha256)


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:_BCRYPT_BYTES], hashed)
    except ValueError:  # a password that bcrypt does not take
        return False
