"""
Clients for targets: which credentials, which endpoint, how fast.

What is worth keeping over a reload is kept: tokens and cool-downs with their credentials, and how fast an
endpoint said it may be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, TypeVar, cast

import aiohttp

from exporter.config import (
    AccessKeySettings,
    AnyCredentials,
    ChainSettings,
    Config,
    PasswordSettings,
)
from exporter.config.secret import Secret
from exporter.errors import ConfigError
from exporter.masking import Secrets
from exporter.model import JOB_TYPES, STATUSES, Target
from exporter.octopus import proxies
from exporter.octopus.auth.access_key import AccessKeyCredentials
from exporter.octopus.auth.credentials import Credentials, ProjectScope, TokenCredentials
from exporter.octopus.auth.password import PasswordCredentials as Password
from exporter.octopus.client import OctopusClient
from exporter.octopus.limiter import EndpointLimiter
from exporter.octopus.observer import ApiObserver
from exporter.octopus.retrier import Retrier
from exporter.octopus.transport import Transport

T = TypeVar("T")


def require_extras(config: Config) -> None:
    """
    Check that what this configuration needs is installed.

    Raises: ConfigError, which says what to install.
    """
    chains = [name for name, one in config.credentials.items() if isinstance(one, ChainSettings)]
    if chains and find_spec("huaweicloudsdkcore") is None:
        command = 'pip install "octopus-exporter[huaweicloud]"'
        raise ConfigError(
            [f"credentials.{name}.type: chain needs the official SDK: {command}" for name in chains]
        )


def know_configured(config: Config, secrets: Secrets) -> None:
    """Know the secrets of a configuration that nothing is going to use, as far as they can be read now."""
    secrets.never_mask(_named(config))
    secrets.keep(*config.ledger.url.passwords)
    for credentials in config.credentials.values():
        for _, value in credentials:
            with suppress(ConfigError):
                if isinstance(value, Secret):
                    secrets.keep(value.get())


class ClientFactory:
    """
    Builds the clients of one configuration; `succeed` moves on to the next one.

    Shape: an `impatient` one sends a request that fails once more and no oftener, as for a person who waits.
    """

    def __init__(
        self,
        config: Config,
        session: aiohttp.ClientSession,
        observer: ApiObserver,
        secrets: Secrets,
        *,
        impatient: bool = False,
    ) -> None:
        self._config = config
        self._session = session
        self._observer = observer
        self._secrets = secrets
        secrets.never_mask(_named(config))
        secrets.keep(*config.ledger.url.passwords, *proxies.secrets())
        self._retrier = Retrier(observer, attempts=2 if impatient else None)
        self._transport = Transport(
            session, observer=observer, timeout_seconds=config.poll.timeout_seconds, secrets=secrets
        )
        self._shared: dict[Hashable, Any] = {}
        self._inherited: dict[Hashable, Any] = {}
        self._in_use: dict[tuple[str, ProjectScope], Credentials] = {}
        self._limiters: dict[str, EndpointLimiter] = {}

    def succeed(self, config: Config) -> ClientFactory:
        """Give the access for a new configuration, which takes over what has not changed."""
        heir = ClientFactory(config, self._session, self._observer, self._secrets)
        heir._inherited = self._shared
        return heir

    def client(self, target: Target) -> OctopusClient:
        """Give the client for a target."""
        credentials, scope = self._credentials(target), ProjectScope(target.project, target.project_id)
        self._in_use[target.credentials, scope] = credentials
        return OctopusClient(
            transport=self._transport,
            credentials=credentials,
            limiter=self._limiter(target.endpoint),
            retrier=self._retrier,
            observer=self._observer,
            terminal_statuses=frozenset(self._config.poll.terminal_statuses),
        )

    def expiries(self) -> dict[str, float]:
        """
        Tell when the first token or temporary key of each credentials ends, where that is known.

        Shape: Unix seconds by the credentials' name, of what the clients of this configuration use. Any
        thread may ask.
        """
        found: dict[str, float] = {}
        for (name, scope), credentials in tuple(self._in_use.items()):
            expires_at = credentials.expires_at(scope)
            if expires_at is not None:
                found[name] = min(expires_at, found.get(name, expires_at))
        return found

    def rests(self) -> dict[str, float]:
        """Tell which endpoints rest because they asked for it, and for how many more seconds."""
        rests = {endpoint: limiter.rest_seconds for endpoint, limiter in self._limiters.items()}
        return {endpoint: seconds for endpoint, seconds in rests.items() if seconds is not None}

    def _limiter(self, endpoint: str) -> EndpointLimiter:
        rate = self._config.poll.requests_per_second
        identity = ("limiter", endpoint, rate)
        limiter = self._share(identity, lambda: EndpointLimiter(rate, endpoint=endpoint))
        self._limiters[endpoint] = limiter
        return limiter

    def _credentials(self, target: Target) -> Credentials:
        settings = self._config.credentials_of(target)
        place = _place(settings, target.region)
        identity = ("credentials", target.credentials, settings, place, self._config.poll.timeout_seconds)
        return self._share(identity, lambda: self._build(target.credentials, settings, place))

    def _build(self, name: str, settings: AnyCredentials, place: str) -> Credentials:
        if isinstance(settings, PasswordSettings):
            return self._password(name, settings, place)
        if isinstance(settings, AccessKeySettings):
            return _access_key(name, settings)
        if isinstance(settings, ChainSettings):
            return self._chain(name, place)
        return TokenCredentials(name=name, token=settings.token)

    def _password(self, name: str, settings: PasswordSettings, iam_endpoint: str) -> Credentials:
        return Password(
            name=name,
            domain=settings.domain,
            user=settings.user,
            password=settings.password,
            iam_endpoint=iam_endpoint,
            transport=self._transport,
            retrier=self._retrier,
        )

    def _chain(self, name: str, region: str) -> Credentials:
        # The SDK is an extra, and takes most of a second to load: only who needs it does.
        from exporter.octopus.auth.chain import ChainCredentials as Chain  # noqa: PLC0415 - see above

        return Chain(name=name, region=region, timeout_seconds=self._config.poll.timeout_seconds)

    def _share(self, identity: Hashable, build: Callable[[], T]) -> T:
        """Give the one object of this identity, from before the reload if it was there."""
        if identity not in self._shared:
            inherited = self._inherited.get(identity)
            self._shared[identity] = build() if inherited is None else inherited
        return cast("T", self._shared[identity])


def _named(config: Config) -> set[str]:
    """Give what is never masked: the documented words, and what the configuration calls its things."""
    targets = config.targets()
    words = {*JOB_TYPES, *STATUSES, *config.poll.terminal_statuses, *config.credentials}
    for target in targets:
        words |= {target.project, target.project_id, target.workspace, target.region, *target.job_types}
        words |= {target.endpoint, target.endpoint.rpartition("://")[2], target.path}
    return words


def _place(settings: AnyCredentials, region: str) -> str:
    """Give what a region means to credentials: where tokens are asked for, the region itself, or nothing."""
    if isinstance(settings, PasswordSettings):
        return settings.iam_endpoint_for(region)
    return region if isinstance(settings, ChainSettings) else ""


def _access_key(name: str, settings: AccessKeySettings) -> Credentials:
    return AccessKeyCredentials(
        name=name,
        access_key=settings.access_key,
        secret_key=settings.secret_key,
        security_token=settings.security_token,
    )
