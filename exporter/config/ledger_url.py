"""The URL that says which ledger to keep, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from exporter.config.secret import MASK, Secret, is_secret_text

LEDGER_URL = "sqlite:///file.db, sqlite:////folder/file.db, sqlite:// (memory) or postgresql://host/database"

_SECRET_OPTIONS = frozenset({"password", "sslpassword"})


@dataclass(frozen=True, slots=True)
class LedgerUrl:
    """
    A SQLite file, SQLite in memory, or a PostgreSQL database.

    Shape: `path` is None in memory and for PostgreSQL; relative, it is taken from the working directory, as
    SQLAlchemy does. `url` may hold a password: show `display`, which is also what str and repr give.
    """

    backend: Literal["sqlite", "postgresql"]
    path: Path | None
    url: Secret
    display: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a ledger's URL. Raises: ValueError."""
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
        """What of the URL must not show."""
        if self.backend == "sqlite":
            return ()
        url = urlsplit(self.url.get())
        _, _, password = url.netloc.rpartition("@")[0].partition(":")
        options = [value for key, value in parse_qsl(url.query) if key.lower() in _SECRET_OPTIONS]
        return tuple(filter(None, (password, unquote(password), *options)))

    def __str__(self) -> str:
        return self.display

    def __repr__(self) -> str:
        return f"LedgerUrl({self.display})"


def _sqlite_path(rest: str) -> Path | None:
    """Read what follows `sqlite://`: nothing, or a slash and a file's name."""
    if rest in ("", "/:memory:"):
        return None
    if not rest.startswith("/") or rest.endswith("/") or "?" in rest:
        raise ValueError("not a file")
    return Path(rest[1:])


def _without_password(text: str) -> str:
    """Write a PostgreSQL URL with its passwords masked: that of the user, and those among the options."""
    url = urlsplit(text)
    if not url.netloc and not url.path.strip("/") and not url.query:
        raise ValueError("no host and no database")
    userinfo, at, hosts = url.netloc.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    options = "&".join(_masked_option(option) for option in url.query.split("&"))
    return f"postgresql://{user}{colon and colon + MASK}{at}{hosts}{url.path}{options and '?' + options}"


def _masked_option(option: str) -> str:
    key, equals, value = option.partition("=")
    return f"{key}{equals}{MASK if unquote(key).lower() in _SECRET_OPTIONS else value}"
