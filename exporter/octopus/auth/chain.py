"""
Keys from the provider chain of the official SDK: OIDC, environment, profile, pod identity, ECS agency.

Import this module only where `chain` is configured: loading the SDK takes half a second.
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
from exporter.octopus.auth.credentials import Authoriser, Credentials, ProjectScope, checked_key
from exporter.octopus.auth.iam import SHORTEST_LIFE_SECONDS
from exporter.octopus.auth.lockout_guard import LockoutGuard, SharedRefusals
from exporter.octopus.auth.renewal import ExpiringSecret, SecretRenewer, renewal_time
from exporter.octopus.auth.signing import AccessKey, sign_request
from exporter.octopus.messages import RequestAuth

# A key without a plausible expiry is looked up again this often, to notice a changed profile.
REREAD_SECONDS = 60.0
_CONNECT_AND_READ_TIMEOUTS_SECONDS = (5, 10)


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key from the chain. Units: `expires_at` in Unix seconds, None for a permanent key."""

    key: AccessKey
    expires_at: float | None = None


def find_key(region: str = "") -> FoundKey:
    """
    Look for a key with every provider of the SDK; blocks.

    Shape: `region` is "" if unknown. OIDC tokens are exchanged at its IAM and STS, unless the environment
    (HUAWEICLOUD_SDK_IAM_ENDPOINT, …_STS_ENDPOINT) or the profile names other endpoints.
    Raises: whatever the SDK and its HTTP library raise.
    """
    # The SDK's own order has the agency before pod identity. But outside of ECS the agency's request fails
    # with an error that the SDK's chain does not catch, so that it never reaches what follows.
    chain = sdk.CredentialProviderChain(
        (
            sdk.OidcStsCredentialProvider.get_basic(),
            sdk.EnvCredentialProvider.get_basic(),
            sdk.ProfileCredentialProvider.get_basic(),
            sdk.PodIdentityCredentialProvider.get_basic(),
            sdk.MetadataCredentialProvider.get_basic(),
        )
    )
    credentials = chain.get_credentials()
    # The SDK's default is the endpoints of mainland China, whatever the region.
    credentials.iam_endpoint = credentials.iam_endpoint or IamHelper.get_iam_endpoint(region)
    credentials.sts_endpoint = credentials.sts_endpoint or StsHelper.get_sts_endpoint(region)
    config = HttpConfig(timeout=_CONNECT_AND_READ_TIMEOUTS_SECONDS)
    log = logging.getLogger("huaweicloudsdkcore")
    with closing(HttpClient(config, None, DefaultExceptionHandler(), log)) as client:
        credentials.process_sts(client)
    key, expires_at = AccessKey(credentials.ak, credentials.sk, credentials.security_token or ""), None
    if credentials._expired_at:
        # The SDK parses a UTC time as local time; this reverts it.
        expires_at = calendar.timegm(time.localtime(credentials._expired_at))
    return FoundKey(key, expires_at)


@dataclass(kw_only=True, eq=False, repr=False)
class ChainCredentials(Credentials):
    """The key that the SDK's chain finds; a temporary one is renewed before it expires."""

    name: str
    region: str = ""
    timeout_seconds: float = 30.0
    find: Callable[[str], FoundKey] = find_key
    clock: Callable[[], float] = time.time
    refusals: SharedRefusals | None = None

    def __post_init__(self) -> None:
        self._renewer = SecretRenewer(self.name, self._fetch, pause_seconds=0.0, clock=self.clock)
        self._guard = LockoutGuard(self.name, clock=self.clock, shared=self.refusals)

    @asynccontextmanager
    async def authorise(self, scope: ProjectScope) -> AsyncIterator[Authoriser]:
        key = await self._renewer.get()
        async with self._guard.attempt(key.fingerprint):
            yield partial(sign_request, key=key.value, project_id=scope.project_id, clock=self.clock)

    async def renew(self, rejected: RequestAuth, scope: ProjectScope) -> bool:
        return (await self._renewer.replace(rejected.fingerprint)).fingerprint != rejected.fingerprint

    def expires_at(self, scope: ProjectScope) -> float | None:
        return self._renewer.expires_at

    async def _fetch(self, with_retries: bool) -> ExpiringSecret[AccessKey]:
        try:
            async with asyncio.timeout(self.timeout_seconds):
                # A thread cannot be stopped: after this timeout it goes on until the SDK's own timeouts.
                found = await asyncio.to_thread(self.find, self.region)
        except TimeoutError as exc:
            raise self._failure(ApiTimeout, f"nothing within {self.timeout_seconds:g} s") from exc
        # Exception: the SDK also raises what its HTTP library and its parsers raise.
        except Exception as exc:
            raise self._failure(AuthError, str(exc)) from exc
        key, now = checked_key(self.name, found.key), self.clock()
        if found.expires_at is None or found.expires_at - now < SHORTEST_LIFE_SECONDS:
            return ExpiringSecret(key, key.fingerprint, now, renew_at=now + REREAD_SECONDS)
        renew_at = renewal_time(now, found.expires_at - now)
        return ExpiringSecret(key, key.fingerprint, now, renew_at, found.expires_at, found.expires_at)

    def _failure(self, kind: type[ApiError], reason: str) -> ApiError:
        line = " ".join(reason.split())[:300]
        return kind(f"credentials {self.name}: the provider chain found no key: {line}")
