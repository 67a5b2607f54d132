"""Addresses in the configuration: of the API and IAM, to listen on, and of a job's page."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urlsplit

from exporter.config.problems import expected

GLOBAL_IAM_ENDPOINT = "https://iam.myhuaweicloud.com"

# What each kind of address has to look like, for messages.
ENDPOINT = "a URL such as https://host or http://host:port, without path, query and user"
LISTEN_ADDRESS = "host:port, :port or [ipv6]:port, with a port from 0 to 65535"
JOB_URL = (
    "an http or https URL with {job_id} behind the host, and no other placeholders than {project_id} and"
    " {workspace}"
)

PLACEHOLDERS = ("project_id", "workspace", "job_id")

# The regions that have their own IAM. A token of the global IAM is valid in every region.
# Source: huaweicloudsdkcore 3.1.219, auth/endpoint.py; a test compares this list with the installed SDK.
# fmt: off
IAM_REGIONS = frozenset(
    {
        "ae-ad-1", "af-south-1", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3",
        "ap-southeast-4", "cn-east-2", "cn-east-3", "cn-east-4", "cn-east-5", "cn-north-1",
        "cn-north-2", "cn-north-4", "cn-north-9", "cn-north-12", "cn-south-1", "cn-south-2",
        "cn-southwest-2", "eu-west-0", "la-north-2", "la-south-2", "me-east-1", "my-kualalumpur-1",
        "na-mexico-1", "ru-moscow-1", "sa-brazil-1", "tr-west-1",
    }
)
# fmt: on

_URL = re.compile(
    r"https?://(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[^\[\]:/]+))(?::(?P<port>[1-9][0-9]{0,4}))?/?",
    re.IGNORECASE,
)
_LISTEN = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[^\[\]:]*)):(?P<port>0|[1-9][0-9]{0,4})")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
LARGEST_PORT = 65_535
_BRACES = re.compile(r"\{([^{}]*)\}")


def octopus_endpoint(region: str) -> str:
    """Give the API endpoint of a region. The region need not be a known one."""
    return f"https://octopus.{region}.myhuaweicloud.com"


def iam_endpoint(region: str) -> str:
    """Give the IAM endpoint of a region; the global one if the region has none, or is ""."""
    return f"https://iam.{region}.myhuaweicloud.com" if region in IAM_REGIONS else GLOBAL_IAM_ENDPOINT


def parse_endpoint(text: str) -> str:
    """Parse an http or https URL of only host and port. A slash at the end is dropped. Raises: ValueError."""
    match = _URL.fullmatch(text)
    if match is None or int(match["port"] or 0) > LARGEST_PORT:
        raise ValueError("not an http or https URL of host and port")
    if not is_host(match["ipv6"] or match["name"], in_brackets=match["ipv6"] is not None):
        raise ValueError("no host")
    # One spelling: the targets of an endpoint share its request rate, and are found by its text.
    return text.removesuffix("/").lower()


def is_host(text: str, *, in_brackets: bool) -> bool:
    """Check a host: in brackets an IPv6 address, else a name or an IPv4 address."""
    if not in_brackets:
        return _HOST_NAME.fullmatch(text) is not None
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address to listen on. Shape: `host` None is every interface, IPv6 has no brackets; port 0 is any."""

    host: str | None
    port: int

    @classmethod
    def parse(cls, text: str) -> ListenAddress:
        """Parse `host:port`, `:port` or `[ipv6]:port`. Raises: ValueError; for a port alone, with a hint."""
        match = _LISTEN.fullmatch(text)
        if match is None and _LISTEN.fullmatch(f":{text}"):
            raise expected(f":{text} (a port needs a colon before it), host:{text} or [ipv6]:{text}")
        if match is None or int(match["port"]) > LARGEST_PORT:
            raise ValueError(f"not {LISTEN_ADDRESS}")
        host = match["ipv6"] or match["name"] or None
        if host is not None and not is_host(host, in_brackets=match["ipv6"] is not None):
            raise ValueError("not a host")
        return cls(host, int(match["port"]))

    def __str__(self) -> str:
        host = self.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class JobUrl:
    """The URL of a job's page in another system, such as a console: a template that `parse` has checked."""

    template: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Check a template.

        Raises: ValueError (another scheme, a user, a placeholder in the host or an unknown one, no {job_id},
        or a character that a URL cannot have).
        """
        url = urlsplit(text)
        if url.scheme not in ("http", "https") or "@" in url.netloc:
            raise ValueError("not a URL of http or https, or one with a user")
        # A placeholder in the host fails here: a workspace must not choose the server that the link leads to.
        if not is_host(url.hostname or "", in_brackets="[" in url.netloc) or url.port == 0:
            raise ValueError("not a host")
        names = _BRACES.findall(text)
        if not {"job_id"} <= set(names) <= set(PLACEHOLDERS) or re.search(r"[{}]", _BRACES.sub("", text)):
            raise ValueError("not the placeholders that there are")
        # Browsers take a backslash for a slash, so that it could end the host.
        if any(c.isspace() or unicodedata.category(c) in ("Cc", "Cs") for c in text) or "\\" in text:
            raise ValueError("a character that no URL has")
        return cls(text)

    def fill(self, *, project_id: str, workspace: str, job_id: str) -> str:
        """Give the URL of one job. The values are percent-encoded, so they cannot change where it leads."""
        values = {"project_id": project_id, "workspace": workspace, "job_id": job_id}
        return _BRACES.sub(lambda found: quote(values[found[1]], safe="", errors="replace"), self.template)

    def __str__(self) -> str:
        return self.template
