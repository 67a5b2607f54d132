"""The URL of a PostgreSQL ledger: what is accepted, libpq reads the same way, and a password never shows."""

from __future__ import annotations

from urllib.parse import quote

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from pydantic import ValidationError

from exporter.config import LedgerSettings
from exporter.config.ledger_url import PARAMETERS, LedgerUrl

WORD = "hunter2"
# What may go wrong in a URL, in all orders.
PIECES = st.lists(
    st.sampled_from(
        [WORD, "@", ":", "/", "?", "#", "&", "=", "%", "%40", "%2F", "%25", "%ff", "+", " ", ",", "[", "]",
         "'", '"', "\\", "db", "5432", "é", "password=", "sslmode=require", "host=db", "user=u", "//"]
    ),
    max_size=9,
).map("".join)  # fmt: skip


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1), st.booleans())
@example("a+b %40/:@?#&=", True)
def test_a_password_that_is_encoded_is_the_one_that_libpq_gets(password: str, in_query: bool) -> None:
    said = quote(password, safe="")
    text = f"postgresql://u@db/o?password={said}" if in_query else f"postgresql://u:{said}@db/o"
    url = LedgerUrl.parse(text)
    assert password in url.passwords
    assert conninfo_to_dict(url.url.get())["password"] == password
    assert url.has_password


@given(PIECES)
@example(f"u:{WORD}/{WORD}@db")
@example(f"u:{WORD}@{WORD}@db/o?sslmode=require")
def test_whatever_is_written_shows_no_password(rest: str) -> None:
    """In the place of a password, after a user: it is masked, or refused in a message that has none of it."""
    text = f"postgresql://u:{WORD}{rest}@db/o"
    try:
        settings = LedgerSettings.model_validate({"url": text})
    except ValidationError as exc:
        said = [error["msg"] for error in exc.errors(include_url=False, include_input=False)]
        if WORD in "".join(said):
            pytest.fail(f"{text} is refused with {said}")
        return
    assert WORD not in f"{settings} {settings!r} {settings.model_dump(mode='json', by_alias=True)}"
    assert any(WORD in one for one in settings.url.passwords)
    # And libpq reads the same one, so that what is masked is what is sent.
    assert conninfo_to_dict(settings.url.url.get())["password"] in settings.url.passwords


@given(PIECES, PIECES)
def test_libpq_reads_all_that_is_accepted(before: str, after: str) -> None:
    text = f"postgresql://{before}db/o?{after}"
    try:
        LedgerUrl.parse(text)
    except ValueError:
        return
    conninfo_to_dict(text)


def test_parameters_are_those_of_libpq() -> None:
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    assert set(PARAMETERS) <= known
