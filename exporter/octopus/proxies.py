"""The proxies that the environment names: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in either case."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import unquote, urlsplit

from exporter.errors import StartError

_PORTS = {"http": 80, "https": 443}
_Address = IPv4Address | IPv6Address


class Proxies:
    """
    The proxy for each origin.

    aiohttp's own look at the environment is a thread's work at every request, and reads ~/.netrc besides.
    Raises: StartError, naming the variable and not its value, where one is no URL of a proxy.
    """

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        self._proxies = {scheme: _proxy(env, scheme) for scheme in _PORTS}
        self._no_proxy = _variable(env, "no_proxy")[1]
        self._known: dict[str, str | None] = {}

    def of(self, origin: str) -> str | None:
        """
        Give the proxy for an origin such as https://host:8443; None to go straight.

        Shape: with its user and password. Raises: ValueError (not an origin).
        """
        if origin not in self._known:
            url = urlsplit(origin)
            port = url.port or _PORTS.get(url.scheme, 0)
            straight = bypasses(self._no_proxy, url.hostname or "", port)
            self._known[origin] = None if straight else self._proxies.get(url.scheme)
        return self._known[origin]


def secrets(env: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """
    Give the users and passwords of all proxies in the environment, as they stand there and as they are meant.

    Shape: also those of variables that are not used, and of values that are no URLs.
    """
    found: dict[str, None] = {}
    for name, value in env.items():
        if name.lower().endswith("_proxy") and name.lower() != "no_proxy":
            userinfo = value.partition("://")[2] or value
            user, _, password = userinfo.rpartition("@")[0].partition(":")
            found |= dict.fromkeys((user, password, unquote(user), unquote(password)))
    return tuple(filter(None, found))


def _proxy(env: Mapping[str, str], scheme: str) -> str | None:
    name, value = _variable(env, f"{scheme}_proxy")
    if not value:
        return None
    problem = next(_problems(value), None)
    if problem is not None:
        raise StartError(
            f"{name}: {problem}; expected a URL such as http://host:3128 or http://user:password@host:3128"
        )
    return value


def _variable(env: Mapping[str, str], name: str) -> tuple[str, str]:
    """Give a variable's name and value; the one in lower case counts, as everywhere."""
    found = name if name in env else name.upper()
    return found, env.get(found, "").strip()


def _problems(proxy: str) -> Iterator[str]:
    """Say what is wrong with a proxy's URL, without quoting from it: anything in it may be the password."""
    scheme, _, rest = proxy.partition("://")
    userinfo, _, place = rest.rpartition("@")
    if scheme.lower() not in ("http", "https"):
        yield "it does not begin with http:// or https://"
    if re.search(r"[/?#@\s\[\]\\]", userinfo) or not _is_latin1(unquote(userinfo)):
        yield "its user or password has characters that must be percent-encoded, or that no header can carry"
    host, port = _split_port(place.removesuffix("/"))
    if re.search(r"[/?#]", place.removesuffix("/")):
        yield "it has a path, or its user or password has a /, ? or # that must be percent-encoded"
    if not (re.fullmatch(r"[\w.-]+", host, re.ASCII) or (host.startswith("[") and _address(host))):
        yield "it names no host"
    if port is not None and not (re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) and 0 < int(port) < 65_536):
        yield "its port is not a number from 1 to 65535"


def _is_latin1(text: str) -> bool:
    return text.isprintable() and all(ord(character) < 256 for character in text)


def bypasses(no_proxy: str, host: str, port: int) -> bool:
    """
    Tell whether NO_PROXY leaves out the proxy for a host.

    Entries are separated by commas or blanks. As Go and curl have it: `*` is every host; an address, IPv6
    with or without brackets, is that address; `10.0.0.0/8` a network; a name is the host and all below it,
    with or without a dot before it; `*.name` only those below; `name:port` and `[address]:port` only that
    port. Names are not resolved. Where Go and curl differ, what either leaves out is left out; but loopback
    addresses have to be listed, as for curl.
    """
    name = host.lower().strip("[]").rstrip(".")
    return any(_matches(entry, name, port) for entry in re.split(r"[,\s]+", no_proxy.lower()) if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    address = _address(host)
    if "/" in entry:
        return address is not None and _is_in(address, entry)
    pattern, only_port = _split_port(entry)
    if only_port is not None and only_port != str(port):
        return False
    if address is not None or _address(pattern) is not None:
        return address == _address(pattern)
    pattern = pattern.rstrip(".")
    below = pattern.removeprefix("*") if pattern.startswith("*.") else f".{pattern.removeprefix('.')}"
    return host.endswith(below) or (host == below[1:] and not pattern.startswith("*."))


def _split_port(entry: str) -> tuple[str, str | None]:
    """Split host:port; an IPv6 address without brackets has no port."""
    host, colon, port = entry.rpartition(":")
    if not colon or entry.endswith("]") or (":" in host and not host.endswith("]")):
        return entry, None
    return host, port


def _address(text: str) -> _Address | None:
    """Read an address, without its zone; IPv4 inside IPv6 is IPv4."""
    try:
        address = ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(address: _Address, network: str) -> bool:
    try:
        return address in ip_network(network, strict=False)
    except ValueError:
        return False
