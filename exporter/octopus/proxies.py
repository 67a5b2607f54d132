"""The proxies of the environment: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in upper or lower case."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import unquote, urlsplit

from exporter.errors import StartError

_PORTS = {"http": 80, "https": 443}


class Proxies:
    """
    Chooses the proxy for an origin.

    aiohttp could read the environment itself, but does so in a thread for every request, and reads ~/.netrc.
    Raises: StartError, naming the variable but not its value, if it is not the URL of a proxy.
    """

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        self._proxies: dict[str, str | None] = {}
        for scheme in _PORTS:
            name, value = _variable(env, f"{scheme}_proxy")
            problem = next(_problems(value), None) if value else None
            if problem is not None:
                expected = "a URL such as http://host:3128 or http://user:password@host:3128"
                raise StartError(f"{name}: {problem}; expected {expected}")
            self._proxies[scheme] = value or None
        self._no_proxy = _variable(env, "no_proxy")[1]
        self._by_origin: dict[str, str | None] = {}

    def of(self, origin: str) -> str | None:
        """
        Return the URL of the proxy for an origin such as https://host:8443; None for a direct connection.

        Shape: with user and password. Raises: ValueError (not an origin).
        """
        # Kept, because every request asks, and the environment does not change.
        if origin not in self._by_origin:
            url = urlsplit(origin)
            port = url.port or _PORTS.get(url.scheme, 0)
            is_direct = bypasses(self._no_proxy, url.hostname or "", port)
            self._by_origin[origin] = None if is_direct else self._proxies.get(url.scheme)
        return self._by_origin[origin]


def secrets(env: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the users and passwords of all proxies in the environment, percent-encoded and decoded."""
    found: dict[str, None] = {}
    for name, value in env.items():
        # Every such variable, also one that is not used or is not a URL: it may be logged all the same.
        if name.lower().endswith("_proxy") and name.lower() != "no_proxy":
            userinfo = value.partition("://")[2] or value
            user, _, password = userinfo.rpartition("@")[0].partition(":")
            found |= dict.fromkeys((user, password, unquote(user), unquote(password)))
    return tuple(filter(None, found))


def _variable(env: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return a variable's name and value. The one in lower case takes precedence, as in curl and Go."""
    found = name if name in env else name.upper()
    return found, env.get(found, "").strip()


def _problems(proxy: str) -> Iterator[str]:
    """Yield what is wrong with a proxy's URL, without quoting it: any part of it may be the password."""
    scheme, _, rest = proxy.partition("://")
    userinfo, _, address = rest.rpartition("@")
    address = address.removesuffix("/")
    if scheme.lower() not in ("http", "https"):
        yield "it does not begin with http:// or https://"
    user = unquote(userinfo)
    # A header is encoded in Latin-1.
    is_sendable = user.isprintable() and all(ord(character) < 256 for character in user)
    if re.search(r"[/?#@\s\[\]\\]", userinfo) or not is_sendable:
        yield "its user or password has characters that must be percent-encoded, or that no header can carry"
    host, port = _split_port(address)
    if re.search(r"[/?#]", address):
        yield "it has a path, or its user or password has a /, ? or # that must be percent-encoded"
    if not (re.fullmatch(r"[\w.-]+", host, re.ASCII) or (host.startswith("[") and _ip_address(host))):
        yield "it names no host"
    if port is not None and not (re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) and 0 < int(port) < 65_536):
        yield "its port is not a number from 1 to 65535"


def bypasses(no_proxy: str, host: str, port: int) -> bool:
    """
    Return whether NO_PROXY excludes a host from the proxy.

    Entries are separated by commas or blanks. As in Go and curl: `*` is every host; an address, IPv6 with or
    without brackets, is that address; `10.0.0.0/8` is a network; a name is the host and its subdomains, with
    or without a dot before it; `*.name` is only the subdomains; `name:port` and `[address]:port` are only
    that port. Names are not resolved. Where Go and curl differ, what either excludes is excluded; but
    loopback addresses must be listed, as for curl.
    """
    name = host.lower().strip("[]").rstrip(".")
    return any(_matches(entry, name, port) for entry in re.split(r"[,\s]+", no_proxy.lower()) if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    address = _ip_address(host)
    if "/" in entry:
        try:
            return address is not None and address in ip_network(entry, strict=False)
        except ValueError:
            return False
    pattern, only_port = _split_port(entry)
    if only_port is not None and only_port != str(port):
        return False
    if address is not None or _ip_address(pattern) is not None:
        return address == _ip_address(pattern)
    pattern = pattern.rstrip(".")
    suffix = pattern.removeprefix("*") if pattern.startswith("*.") else f".{pattern.removeprefix('.')}"
    return host.endswith(suffix) or (host == suffix[1:] and not pattern.startswith("*."))


def _split_port(entry: str) -> tuple[str, str | None]:
    """Split host:port; an IPv6 address without brackets has no port."""
    host, colon, port = entry.rpartition(":")
    if not colon or entry.endswith("]") or (":" in host and not host.endswith("]")):
        return entry, None
    return host, port


def _ip_address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address without its zone; an IPv4 address inside IPv6 is IPv4."""
    try:
        address = ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
