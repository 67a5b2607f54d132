"""
Builds the API client of each target: its credentials, endpoint and request rate.

A reload keeps the objects whose settings did not change, with their tokens, cool-downs and lowered rates.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, TypeVar, cast

import aiohttp

from exporter.config import (
    AccessKeySettings,
    AnyCredentials,
    ChainSettings,
    Config,
    LedgerSettings,
    PasswordSettings,
)
from exporter.config.secret import Secret
from exporter.errors import ConfigError
from exporter.masking import Secrets
from exporter.model import JOB_TYPES, STATUSES, Target, TargetKey
from exporter.octopus import proxies
from exporter.octopus.auth.credentials import (
    AccessKeyCredentials,
    Credentials,
    ProjectScope,
    TokenCredentials,
)
from exporter.octopus.auth.lockout_guard import SharedRefusals
from exporter.octopus.auth.password import PasswordCredentials
from exporter.octopus.client import OctopusClient
from exporter.octopus.limiter import EndpointLimiter
from exporter.octopus.messages import ApiObserver
from exporter.octopus.retry import Retrier
from exporter.octopus.transport import Transport

T = TypeVar("T")


def require_extras(config: Config) -> None:
    """
    Check that the optional packages that this configuration needs are installed.

    Raises: ConfigError, naming the package to install.
    """
    missing: list[str] = []
    chains = [name for name, one in config.credentials.items() if isinstance(one, ChainSettings)]
    if chains and find_spec("huaweicloudsdkcore") is None:
        command = 'pip install "octopus-exporter[huaweicloud]"'
        missing += [f"credentials.{name}.type: chain needs the official SDK: {command}" for name in chains]
    missing += missing_driver(config.ledger, "ledger.url")
    if missing:
        raise ConfigError(missing)


def missing_driver(ledger: LedgerSettings, key: str) -> list[str]:
    """Say what to install for the ledger that a key or a flag names; nothing where all is there."""
    if ledger.url.backend == "sqlite" or find_spec("psycopg") is not None:
        return []
    return [f'{key}: postgresql needs the driver psycopg 3: pip install "octopus-exporter[postgres]"']


def keep_configured_secrets(config: Config, secrets: Secrets) -> None:
    """Register the secrets of a configuration for masking, for a command that does not use them."""
    secrets.never_mask(_never_masked(config))
    secrets.keep(*ledger_secrets(config.ledger))
    for credentials in config.credentials.values():
        for _, value in credentials:
            # Such a command must also run where a secret's file or variable is missing.
            with suppress(ConfigError):
                if isinstance(value, Secret):
                    secrets.keep(value.get())


def ledger_secrets(ledger: LedgerSettings) -> Iterator[str]:
    """Give the passwords of the ledger as they are now: of the URL, the file, and libpq's own variable."""
    yield from ledger.url.passwords
    if ledger.url.backend == "postgresql":
        yield os.environ.get("PGPASSWORD", "")
    # The file may come later. Whoever connects reads it again, and reports what is wrong with it.
    with suppress(ConfigError):
        yield "" if ledger.password is None else ledger.password.get()


class ClientFactory:
    """
    Builds the clients of one configuration; `reconfigured` gives the factory of the next one.

    Shape: an `interactive` one retries a failed request once only, because a person waits for the result.
    `refusals` are those that replicas share, None where there are no other replicas.
    """

    def __init__(
        self,
        config: Config,
        session: aiohttp.ClientSession,
        observer: ApiObserver,
        secrets: Secrets,
        *,
        interactive: bool = False,
        refusals: SharedRefusals | None = None,
    ) -> None:
        self._config = config
        self._session = session
        self._observer = observer
        self._secrets = secrets
        self._refusals = refusals
        secrets.never_mask(_never_masked(config))
        secrets.keep(*ledger_secrets(config.ledger), *proxies.secrets())
        self._retrier = Retrier(
            observer, sleep=asyncio.sleep, random=random.random, attempts=2 if interactive else None
        )
        self._transport = Transport(
            session=session,
            observer=observer,
            timeout_seconds=config.poll.timeout_seconds,
            secrets=secrets,
        )
        self._shared: dict[Hashable, Any] = {}
        self._inherited: dict[Hashable, Any] = {}
        self._in_use: dict[tuple[str, ProjectScope], Credentials] = {}
        self._limiters: dict[str, EndpointLimiter] = {}

    def reconfigured(self, config: Config) -> ClientFactory:
        """Return the factory for a new configuration, which takes over what has not changed."""
        factory = ClientFactory(config, self._session, self._observer, self._secrets, refusals=self._refusals)
        factory._inherited = self._shared
        return factory

    def share_rates(self, held: Collection[TargetKey]) -> None:
        """
        Use the rate of each endpoint in proportion to its targets that this replica polls.

        Other replicas poll the rest, with the rest of the rate. So all together keep to what is configured.
        """
        targets = self._config.targets()
        configured = Counter(target.endpoint for target in targets)
        polled = Counter(target.endpoint for target in targets if target.key in held)
        for endpoint, limiter in self._limiters.items():
            # Never 0: a poll under way may send more requests when its target was given back.
            limiter.set_share(max(polled[endpoint], 1) / configured[endpoint])

    def client(self, target: Target) -> OctopusClient:
        config = self._config
        settings, timeout_seconds = config.credentials_of(target), config.poll.timeout_seconds
        # What a region decides for credentials: the IAM endpoint, the region itself, or nothing. Targets for
        # which it is the same share their credentials, and so their tokens and cool-downs.
        location = target.region if isinstance(settings, ChainSettings) else ""
        if isinstance(settings, PasswordSettings):
            location = settings.iam_endpoint_for(target.region)
        credentials = self._share(
            ("credentials", target.credentials, settings, location, timeout_seconds),
            lambda: self._build(target.credentials, settings, location),
        )
        self._in_use[target.credentials, ProjectScope(target.project, target.project_id)] = credentials
        rate = config.poll.requests_per_second
        limiter = self._share(
            ("limiter", target.endpoint, rate), lambda: EndpointLimiter(rate, endpoint=target.endpoint)
        )
        self._limiters[target.endpoint] = limiter
        return OctopusClient(
            transport=self._transport,
            credentials=credentials,
            limiter=limiter,
            retrier=self._retrier,
            observer=self._observer,
            terminal_statuses=frozenset(config.poll.terminal_statuses),
        )

    def expiries(self) -> dict[str, float]:
        """
        Return when the first token or temporary key of each credentials in use expires, if known.

        Shape: Unix seconds by the credentials' name. Thread-safe.
        """
        found: dict[str, float] = {}
        for (name, scope), credentials in tuple(self._in_use.items()):
            expires_at = credentials.expires_at(scope)
            if expires_at is not None:
                found[name] = min(expires_at, found.get(name, expires_at))
        return found

    def pauses(self) -> dict[str, float]:
        """Return the endpoints that asked for a long pause, with the seconds that are left of it."""
        pauses = {endpoint: limiter.pause_seconds for endpoint, limiter in self._limiters.items()}
        return {endpoint: seconds for endpoint, seconds in pauses.items() if seconds is not None}

    def _build(self, name: str, settings: AnyCredentials, location: str) -> Credentials:
        if isinstance(settings, PasswordSettings):
            return PasswordCredentials(
                name=name,
                domain=settings.domain,
                user=settings.user,
                password=settings.password,
                iam_endpoint=location,
                transport=self._transport,
                retrier=self._retrier,
                refusals=self._refusals,
            )
        if isinstance(settings, AccessKeySettings):
            return AccessKeyCredentials(
                name=name,
                access_key=settings.access_key,
                secret_key=settings.secret_key,
                security_token=settings.security_token,
                refusals=self._refusals,
            )
        if isinstance(settings, ChainSettings):
            # The SDK is an extra and takes half a second to load, so only those who need it import it.
            from exporter.octopus.auth.chain import ChainCredentials  # noqa: PLC0415 - see above

            return ChainCredentials(
                name=name,
                region=location,
                timeout_seconds=self._config.poll.timeout_seconds,
                refusals=self._refusals,
            )
        return TokenCredentials(name=name, token=settings.token)

    def _share(self, key: Hashable, build: Callable[[], T]) -> T:
        """Return the object with this key: this factory's own, that from before a reload, or a new one."""
        if key not in self._shared:
            inherited = self._inherited.get(key)
            self._shared[key] = build() if inherited is None else inherited
        return cast("T", self._shared[key])


def _never_masked(config: Config) -> set[str]:
    """Return the documented words and configured names, which must stay readable whatever the secrets are."""
    words = {*JOB_TYPES, *STATUSES, *config.poll.terminal_statuses, *config.credentials}
    for target in config.targets():
        words |= {target.project, target.project_id, target.workspace, target.region, *target.job_types}
        words |= {target.endpoint, target.endpoint.rpartition("://")[2], target.path}
    return words
