"""The addresses to listen on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from exporter.config.endpoints import is_host
from exporter.config.problems import expected

LISTEN_ADDRESS = "host:port, :port or [ipv6]:port, with a port from 0 to 65535"

_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[^\[\]:]*)):(?P<port>0|[1-9][0-9]{0,4})")


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """
    One address to listen on.

    Shape: `host` is None for every interface; an IPv6 host is without its brackets; port 0 takes a free one.
    """

    host: str | None
    port: int

    @classmethod
    def parse(cls, text: str) -> ListenAddress:
        """Read `host:port`, `:port` or `[ipv6]:port`. Raises: ValueError, which tells of a bare port."""
        match = _ADDRESS.fullmatch(text)
        if match is None and _ADDRESS.fullmatch(f":{text}"):
            raise expected(f":{text} (a port needs a colon before it), host:{text} or [ipv6]:{text}")
        if match is None or int(match["port"]) > 65_535:
            raise ValueError(f"not {LISTEN_ADDRESS}")
        host = match["ipv6"] or match["name"] or None
        if host is not None and not is_host(host, in_brackets=match["ipv6"] is not None):
            raise ValueError("not a host")
        return cls(host, int(match["port"]))

    def __str__(self) -> str:
        host = self.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
