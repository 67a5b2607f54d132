"""The proxies that the environment names: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in either case."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass


class Proxies:
    """
    The proxy for each origin, looked up once.

    aiohttp's own look at the environment is a thread's work at every request, and reads ~/.netrc besides.
    """

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def of(self, origin: str) -> str | None:
        """Give the proxy for an origin such as https://host:8443; None to go straight."""
        if origin not in self._known:
            url = urlsplit(origin)
            straight = proxy_bypass(url.netloc)
            self._known[origin] = None if straight else getproxies_environment().get(url.scheme)
        return self._known[origin]
