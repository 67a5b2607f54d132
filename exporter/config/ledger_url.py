"""
The URL of a ledger: a SQLite file, SQLite in memory, or a PostgreSQL database as libpq names one.

Only what libpq would take is accepted, and its mistakes are named here in place of libpq's own words: libpq
quotes the part of a URL that it cannot read, which may be the password.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote

from exporter.config.addresses import LARGEST_PORT, is_host
from exporter.config.problems import refused
from exporter.config.secret import MASK, Secret, is_secret_text

LEDGER_URL = "sqlite:///file.db, sqlite:////folder/file.db, sqlite:// (memory) or postgresql://host/database"

_POSTGRESQL = re.compile(
    r"postgresql://"
    r"(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?(?P<hosts>[^@/?#]*)"
    r"(?:/(?P<database>[^@/?#]*))?(?:\?(?P<query>[^@?#]*))?"
)
_HOST = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[^\[\]:]*))(?::(?P<port>[1-9][0-9]{0,4}))?")
_LOCAL = re.compile(r"(?:|localhost|127\.[0-9.]+|\[::1\]|::1)(?::[0-9]+)?", re.IGNORECASE)
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_SECRET_PARAMETERS = frozenset({"password", "sslpassword"})
_VERIFYING = ("verify-full", "verify-ca", "require")
_NUMBER = re.compile("[0-9]{1,9}")
_ENCODED = "/ ? # and @ in user and password as %2F %3F %23 and %40"

# The parameters of libpq that make sense for a ledger, each with its values: words, or what they look like.
# Source: https://www.postgresql.org/docs/current/libpq-connect.html, "Parameter Key Words", version 17.
_WORDS = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    # Servers that only read could be found as well. A ledger is written.
    "target_session_attrs": ("any", "read-write", "primary"),
    "load_balance_hosts": ("disable", "random"),
    "sslnegotiation": ("postgres", "direct"),
    "sslcertmode": ("disable", "allow", "require"),
    "sslsni": ("0", "1"),
    "keepalives": ("0", "1"),
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer", "require"),
    "gssdelegation": ("0", "1"),
}
_NUMBERS = (
    "connect_timeout",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)
_TEXTS = (
    "user", "password", "host", "hostaddr", "port", "dbname", "application_name", "options", "require_auth",
    "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslcrldir", "requirepeer",
    "ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname", "gsslib",
)  # fmt: skip
PARAMETERS = (*_WORDS, *_NUMBERS, *_TEXTS)
# What libpq knows and a ledger cannot use, or what other drivers know -> what to do.
_INSTEAD = {
    "ssl": "sslmode=require or sslmode=verify-full",
    "requiressl": "sslmode=require or sslmode=verify-full",
    "sslcompression": "it left out: it has no effect",
    "passfile": "ledger.password_file",
    "service": "host, database and user in the URL",
    "servicefile": "host, database and user in the URL",
    "client_encoding": "it left out: the ledger is always UTF-8",
    "replication": "it left out: a ledger needs an ordinary connection",
    "schema": "options=-csearch_path%3DSCHEMA",
    "search_path": "options=-csearch_path%3DSCHEMA",
    "pool_size": "it left out: the exporter decides how many connections it needs",
}


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
        """
        Parse the URL of a ledger.

        Raises: ValueError; for a PostgreSQL URL an error of `problems.refused` that says what is wrong.
        """
        scheme, separator, rest = text.partition("://")
        if not separator or not is_secret_text(text):
            raise ValueError("not a URL")
        if scheme == "sqlite":
            return cls("sqlite", _sqlite_path(rest), Secret(text), text)
        if scheme == "postgresql":
            return cls("postgresql", None, Secret(text), _check_postgresql(text))
        raise ValueError("neither sqlite nor postgresql")

    @property
    def passwords(self) -> tuple[str, ...]:
        """The parts of the URL that must not be shown: as they are written, and decoded as libpq has them."""
        url = _POSTGRESQL.fullmatch(self.url.get())
        if url is None:
            return ()
        given = [
            url["password"],
            *(value for key, value in _query(url["query"]) if key in _SECRET_PARAMETERS),
        ]
        return tuple(dict.fromkeys(text for one in given if one for text in (one, unquote(one))))

    @property
    def has_password(self) -> bool:
        """Whether the URL says with which password to log in."""
        url = _POSTGRESQL.fullmatch(self.url.get())
        return url is not None and bool(url["password"] or dict(_query(url["query"])).get("password"))

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters behind the ?, decoded, without those that are secret."""
        url = _POSTGRESQL.fullmatch(self.url.get())
        given = () if url is None else _query(url["query"])
        return {key: unquote(value) for key, value in given if key not in _SECRET_PARAMETERS}

    @property
    def files(self) -> dict[str, Path]:
        """The files that the URL names, by parameter; relative to the working directory, as in libpq."""
        named = ((key, self.parameters.get(key)) for key in ("sslrootcert", "sslcert", "sslkey", "sslcrl"))
        return {key: Path(name) for key, name in named if name and (key, name) != ("sslrootcert", "system")}

    @property
    def leaves_the_machine(self) -> bool:
        """Whether some host of the database is another one, as far as the URL tells."""
        url = _POSTGRESQL.fullmatch(self.url.get())
        hosts = [] if url is None else [unquote(host) for host in url["hosts"].split(",")]
        hosts += [self.parameters.get("host", ""), self.parameters.get("hostaddr", "")]
        return not all(host.startswith("/") or _LOCAL.fullmatch(host) for host in hosts)

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


def _check_postgresql(text: str) -> str:
    """Check a PostgreSQL URL and give it with its passwords masked. Raises: see `parse`."""
    url = _POSTGRESQL.fullmatch(text)
    if url is None:
        raise refused(f"cannot be read, expected postgresql://user:password@host/database with {_ENCODED}")
    # libpq drops spaces at the ends, or refuses them and shows what is around them.
    if any(character.isspace() for character in text):
        raise refused("found a space, expected %20 in its place")
    if not _is_encoded(text):
        raise refused("found a % that begins no character, expected % itself as %25, and others in UTF-8")
    if not url["hosts"] and not url["database"] and not url["query"]:
        raise ValueError("no host and no database")
    for host in url["hosts"].split(","):
        _check_host(host)
    query = list(_query(url["query"]))
    for number, (key, value) in enumerate(query):
        if key in dict(query[:number]):
            raise refused(f"the query has {key} twice, expected it once")
        _check_parameter(key, unquote(value))
    _check_tls({key: unquote(value) for key, value in query})
    if url["password"] and "password" in dict(query):
        raise refused("found a password before the host and another in the query, expected one")
    password = "" if url["password"] is None else f":{MASK}"
    user = "" if url["user"] is None else f"{url['user']}{password}@"
    database = "" if url["database"] is None else f"/{url['database']}"
    shown = "&".join(f"{key}={MASK if key in _SECRET_PARAMETERS else value}" for key, value in query)
    return f"postgresql://{user}{url['hosts']}{database}{shown and '?' + shown}"


def _is_encoded(text: str) -> bool:
    try:
        unquote(text, errors="strict")
    except UnicodeDecodeError:
        return False
    return _PERCENT.search(text) is None


def _query(text: str | None) -> Iterator[tuple[str, str]]:
    # Not parse_qsl: for libpq a + is a plus.
    for one in (text or "").split("&") if text else ():
        key, _, value = one.partition("=")
        yield unquote(key), value


def _check_host(text: str) -> None:
    """Check one of several hosts, which libpq tries in turn. A folder (Unix socket) begins with a slash."""
    host = _HOST.fullmatch(text)
    name = "" if host is None else unquote(host["ipv6"] or host["name"])
    is_folder = name.startswith("/") and host is not None and not host["ipv6"]
    is_known = not name or is_folder or is_host(name, in_brackets=host is not None and bool(host["ipv6"]))
    # Not shown: it is a password where somebody left out the host.
    if host is None or not is_known or int(host["port"] or 1) > LARGEST_PORT:
        raise refused(
            "a host cannot be read, expected host, host:port or [ipv6]:port (several with commas), or a"
            " folder as %2Frun%2Fpostgresql"
        )


def _check_parameter(key: str, value: str) -> None:
    if key in _INSTEAD:
        raise refused(f"the query has {key}, expected {_INSTEAD[key]}")
    if key not in PARAMETERS:
        close = get_close_matches(key, PARAMETERS, 1)
        what = close[0] if close else "a connection parameter of libpq, such as sslmode"
        # A key may be anything, also a password that was cut at an &.
        raise refused(f"the query has {_shown(key)}, expected {what}")
    if not value:
        raise refused(f"the query has {key} without a value, expected {key}=value")
    words = _WORDS.get(key)
    if words is not None and value not in words:
        raise refused(f"the query has {key}={_shown(value)}, expected {', '.join(words[:-1])} or {words[-1]}")
    if key in _NUMBERS and not _NUMBER.fullmatch(value):
        raise refused(f"the query has {key}={_shown(value)}, expected a whole number")


def _shown(text: str) -> str:
    return text if re.fullmatch("[a-z_-]{1,30}", text) else MASK


def _check_tls(parameters: dict[str, str]) -> None:
    """Refuse what libpq would ignore without a word."""
    mode = parameters.get("sslmode", "prefer")
    if parameters.get("sslrootcert") == "system" and mode != "verify-full":
        raise refused(f"the query has sslrootcert=system with sslmode={mode}, expected sslmode=verify-full")
    for key in ("sslrootcert", "sslcrl", "sslcrldir"):
        if key in parameters and mode not in _VERIFYING:
            raise refused(
                f"the query has {key} with sslmode={mode}, which does not use it, expected"
                " sslmode=verify-full"
            )
    for key in ("sslcert", "sslkey", "sslpassword"):
        if key in parameters and mode == "disable":
            raise refused(f"the query has {key} with sslmode=disable, expected sslmode=verify-full")
    if "sslkey" in parameters and "sslcert" not in parameters:
        raise refused("the query has sslkey without sslcert, expected both")
