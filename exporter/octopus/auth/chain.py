"""
Keys from where the official SDK finds them: OIDC, environment, profile, pod identity, ECS agency.

Importing this costs half a second of SDK: only who configures `chain` should.
"""

from __future__ import annotations

import asyncio
import calendar
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial

from huaweicloudsdkcore.auth import provider as sdk
from huaweicloudsdkcore.auth.internal import IamHelper, StsHelper
from huaweicloudsdkcore.exceptions.exception_handler import DefaultExceptionHandler
from huaweicloudsdkcore.http.http_client import HttpClient
from huaweicloudsdkcore.http.http_config import HttpConfig

from exporter.errors import ApiError, ApiTimeout, AuthError
from exporter.octopus.auth.access_key import checked_key
from exporter.octopus.auth.credentials import Authoriser, ProjectScope
from exporter.octopus.auth.iam import SHORTEST_LIFE_SECONDS
from exporter.octopus.auth.lockout_guard import SecretTrial
from exporter.octopus.auth.renewal import Lease, LeaseKeeper, renewal_time
from exporter.octopus.auth.signing import AccessKey, signed_grant
from exporter.octopus.messages import RequestAuth

# Keys without an end that can be believed are looked for again so often: a rewritten profile is noticed.
REREAD_SECONDS = 60.0
_CONNECT_AND_READ_TIMEOUTS_SECONDS = (5, 10)


@dataclass(frozen=True, slots=True)
class FoundKey:
    """What the chain found. Units: `expires_at` in Unix seconds, None for a permanent key."""

    key: AccessKey
    expires_at: float | None = None


def find_key(region: str = "") -> FoundKey:
    """
    Look for a key in every place the SDK knows; blocks.

    Shape: `region` is "" where none is known. Its IAM and STS are asked for an OIDC token, unless the
    environment (HUAWEICLOUD_SDK_IAM_ENDPOINT, …_STS_ENDPOINT) or the profile names others.
    Raises: whatever the SDK and the HTTP library under it raise.
    """
    credentials = _chain().get_credentials()
    # Left to itself, the SDK asks those of the mainland.
    credentials.iam_endpoint = credentials.iam_endpoint or IamHelper.get_iam_endpoint(region)
    credentials.sts_endpoint = credentials.sts_endpoint or StsHelper.get_sts_endpoint(region)
    with closing(_http_client()) as client:
        credentials.process_sts(client)
    key = AccessKey(credentials.ak, credentials.sk, credentials.security_token or "")
    return FoundKey(key, _unix_seconds(credentials._expired_at))


def _chain() -> sdk.CredentialProviderChain:
    # The SDK's own order has the agency before pod identity; but outside of ECS asking the agency ends in an
    # error of the HTTP library, at which the chain breaks off. So it comes last here.
    return sdk.CredentialProviderChain(
        (
            sdk.OidcStsCredentialProvider.get_basic(),
            sdk.EnvCredentialProvider.get_basic(),
            sdk.ProfileCredentialProvider.get_basic(),
            sdk.PodIdentityCredentialProvider.get_basic(),
            sdk.MetadataCredentialProvider.get_basic(),
        )
    )


def _http_client() -> HttpClient:
    config = HttpConfig(timeout=_CONNECT_AND_READ_TIMEOUTS_SECONDS)
    return HttpClient(config, None, DefaultExceptionHandler(), logging.getLogger("huaweicloudsdkcore"))


def _unix_seconds(sdk_time: float) -> float | None:
    # The SDK takes UTC for local time on its way to a number; this is the way back.
    return calendar.timegm(time.localtime(sdk_time)) if sdk_time else None


class ChainCredentials:
    """The key the SDK's chain finds; a temporary one is renewed before it ends, a refused one cools down."""

    def __init__(
        self,
        *,
        name: str,
        region: str = "",
        timeout_seconds: float = 30.0,
        find: Callable[[str], FoundKey] = find_key,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._region = region
        self._timeout_seconds = timeout_seconds
        self._find = find
        self._clock = clock
        self._keeper = LeaseKeeper(name, self._fetch, pause_seconds=0.0, clock=clock)
        self._trial = SecretTrial(name, clock=clock)

    @asynccontextmanager
    async def authorise(self, scope: ProjectScope) -> AsyncIterator[Authoriser]:
        lease = await self._keeper.get()
        async with self._trial.attempt(lease.fingerprint):
            yield partial(signed_grant, key=lease.value, project_id=scope.project_id, clock=self._clock)

    async def renew(self, rejected: RequestAuth, scope: ProjectScope) -> bool:
        return (await self._keeper.replace(rejected.fingerprint)).fingerprint != rejected.fingerprint

    async def refresh(self, denied: RequestAuth, scope: ProjectScope, *, may_renew: bool) -> bool:
        return False

    def expires_at(self, scope: ProjectScope) -> float | None:
        return self._keeper.expires_at

    async def _fetch(self, patient: bool) -> Lease[AccessKey]:
        found = await self._found()
        key, now = checked_key(self._name, found.key), self._clock()
        if found.expires_at is None or found.expires_at - now < SHORTEST_LIFE_SECONDS:
            return Lease(key, key.fingerprint, now, renew_at=now + REREAD_SECONDS)
        renew_at = renewal_time(now, found.expires_at - now)
        return Lease(key, key.fingerprint, now, renew_at, found.expires_at, found.expires_at)

    async def _found(self) -> FoundKey:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                # At a timeout the thread is left to the SDK's own timeouts: nothing can stop it.
                return await asyncio.to_thread(self._find, self._region)
        except TimeoutError as exc:
            raise self._failure(ApiTimeout, f"nothing within {self._timeout_seconds:g} s") from exc
        # The SDK lets through whatever its HTTP library, its parsers and the answers it trusts make.
        except Exception as exc:
            raise self._failure(AuthError, str(exc)) from exc

    def _failure(self, kind: type[ApiError], reason: str) -> ApiError:
        line = " ".join(reason.split())[:300]
        return kind(f"credentials {self._name}: the provider chain found no key: {line}")
