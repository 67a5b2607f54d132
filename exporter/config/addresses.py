"""Addresses in the configuration: of the API and IAM, to listen on, of a job's page, and of the ledger."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from exporter.config.problems import expected
from exporter.config.secret import MASK, Secret, is_secret_text

GLOBAL_IAM_ENDPOINT = "https://iam.myhuaweicloud.com"

# What each kind of address has to look like, for messages.
ENDPOINT = "a URL such as https://host or http://host:port, without path, query and user"
LISTEN_ADDRESS = "host:port, :port or [ipv6]:port, with a port from 0 to 65535"
JOB_URL = (
    "an http or https URL with {job_id} behind the host, and no other placeholders than {project_id} and"
    " {workspace}"
)
LEDGER_URL = "sqlite:///file.db, sqlite:////folder/file.db, sqlite:// (memory) or postgresql://host/database"

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
_LARGEST_PORT = 65_535
_BRACES = re.compile(r"\{([^{}]*)\}")
_SECRET_OPTIONS = frozenset({"password", "sslpassword"})


def octopus_endpoint(region: str) -> str:
    """Give the API endpoint of a region. The region need not be a known one."""
    return f"https://octopus.{region}.myhuaweicloud.com"


def iam_endpoint(region: str) -> str:
    """Give the IAM endpoint of a region; the global one if the region has none, or is ""."""
    return f"https://iam.{region}.myhuaweicloud.com" if region in IAM_REGIONS else GLOBAL_IAM_ENDPOINT


def parse_endpoint(text: str) -> str:
    """Parse an http or https URL of only host and port. A slash at the end is dropped. Raises: ValueError."""
    match = _URL.fullmatch(text)
    if match is None or int(match["port"] or 0) > _LARGEST_PORT:
        raise ValueError("not an http or https URL of host and port")
    if not _is_host(match["ipv6"] or match["name"], in_brackets=match["ipv6"] is not None):
        raise ValueError("no host")
    # One spelling: the targets of an endpoint share its request rate, and are found by its text.
    return text.removesuffix("/").lower()


def _is_host(text: str, *, in_brackets: bool) -> bool:
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
        if match is None or int(match["port"]) > _LARGEST_PORT:
            raise ValueError(f"not {LISTEN_ADDRESS}")
        host = match["ipv6"] or match["name"] or None
        if host is not None and not _is_host(host, in_brackets=match["ipv6"] is not None):
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
        if not _is_host(url.hostname or "", in_brackets="[" in url.netloc) or url.port == 0:
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


@dataclass(frozen=True, slots=True)
class LedgerUrl:
    """
    A SQLite file, SQLite in memory, or a PostgreSQL database.

    Shape: `path` is None in memory and for PostgreSQL; a relative path is relative to the working directory,
    as in SQLAlchemy. `url` may contain a password; `display`, str and repr show it masked.
    """

    backend: Literal["sqlite", "postgresql"]
    path: Path | None
    url: Secret
    display: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the URL of a ledger. Raises: ValueError."""
        scheme, separator, rest = text.partition("://")
        if not separator or not is_secret_text(text):
            raise ValueError("not a URL")
        if scheme == "sqlite":
            return cls("sqlite", _sqlite_path(rest), Secret(text), text)
        if scheme == "postgresql":
            return cls("postgresql", None, Secret(text), _without_password(text))
        raise ValueError("neither sqlite nor postgresql")

    @property
    def passwords(self) -> tuple[str, ...]:
        """The parts of the URL that must not be shown."""
        if self.backend == "sqlite":
            return ()
        url = urlsplit(self.url.get())
        _, _, password = url.netloc.rpartition("@")[0].partition(":")
        options = [value for key, value in parse_qsl(url.query) if key.lower() in _SECRET_OPTIONS]
        # A driver's error message may have the password decoded, the URL has it percent-encoded.
        return tuple(filter(None, (password, unquote(password), *options)))

    def __str__(self) -> str:
        return self.display

    def __repr__(self) -> str:
        return f"LedgerUrl({self.display})"


def _sqlite_path(rest: str) -> Path | None:
    """Parse what follows `sqlite://`: nothing, or a slash and the name of a file."""
    if rest in ("", "/:memory:"):
        return None
    # SQLAlchemy's options behind a ? have no effect here. To ignore them would surprise.
    if not rest.startswith("/") or rest.endswith("/") or "?" in rest:
        raise ValueError("not a file")
    return Path(rest[1:])


def _without_password(text: str) -> str:
    """Mask the passwords of a PostgreSQL URL: the user's, and those among the options."""
    url = urlsplit(text)
    if not url.netloc and not url.path.strip("/") and not url.query:
        raise ValueError("no host and no database")
    # At the last @: a password may contain others.
    userinfo, at, hosts = url.netloc.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    options = "&".join(_masked_option(option) for option in url.query.split("&"))
    return f"postgresql://{user}{colon and colon + MASK}{at}{hosts}{url.path}{options and '?' + options}"


def _masked_option(option: str) -> str:
    key, equals, value = option.partition("=")
    return f"{key}{equals}{MASK if unquote(key).lower() in _SECRET_OPTIONS else value}"
