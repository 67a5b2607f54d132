"""No secret, and no piece of one, comes through in any encoding; what is none does."""

from __future__ import annotations

import base64
import html
import json
import string
import textwrap
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from exporter.masking import MASK, Secrets
from tests.octopus_fakes import Clock

PIECE = 12
HOUR = 3600.0


def percent_every(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def entities(text: str) -> str:
    return "".join(f"&#{ord(char)};" for char in text)


def hex_entities(text: str) -> str:
    return "".join(f"&#x{ord(char):X};" for char in text)


def unicode_escapes(text: str) -> str:
    units = text.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def is_part_of_a_reference(encoding: str, after: str) -> bool:
    """Tell whether a digit behind a reference without a semicolon makes it one to another character."""
    return encoding.endswith("without semicolons") and after[:1] in set(string.hexdigits)


def in_base64(before: int, after: int, urlsafe: bool) -> Callable[[str], str]:
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    return lambda text: encode(b"x" * before + text.encode() + b"y" * after).decode()


def wrapped(width: int, separator: str) -> Callable[[str], str]:
    return lambda text: separator.join(text[at : at + width] for at in range(0, len(text), width))


ENCODINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "percent": lambda text: quote(text, safe=""),
    "percent, a path": quote,
    "percent, all": percent_every,
    "percent, all, upper case": lambda text: percent_every(text).upper(),
    "form": quote_plus,
    "HTML": html.escape,
    "HTML, all": entities,
    "HTML, all, hex": hex_entities,
    "HTML, all, without semicolons": lambda text: entities(text).replace(";", ""),
    "HTML, all, hex, without semicolons": lambda text: hex_entities(text).replace(";", ""),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON, UTF-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON, slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON, all": unicode_escapes,
    "hex": lambda text: text.encode().hex(),
    "hex, upper case": lambda text: text.encode().hex().upper(),
    "hex, wrapped": lambda text: "\n".join(textwrap.wrap(text.encode().hex(), 7)),
    **{
        f"base64, {'urlsafe' if urlsafe else 'standard'}, {before} before, {after} after": in_base64(
            before, after, urlsafe
        )
        for before in range(3)
        for after in range(3)
        for urlsafe in (False, True)
    },
    "base64, wrapped": lambda text: base64.encodebytes(b"no" + text.encode()).decode(),
    "base64, wrapped short": lambda text: "\r\n".join(
        textwrap.wrap(base64.b64encode(text.encode()).decode(), 5)
    ),
    "wrapped at 4": wrapped(4, "\n"),
    "wrapped at 5": wrapped(5, "\r\n"),
    "wrapped at 3": wrapped(3, " "),
    "wrapped at 64": wrapped(64, "\n"),
}

printable = st.characters(min_codepoint=33, max_codepoint=126)
token_like = st.text(st.sampled_from("ABCDEFGHabcdefgh0123456789+/=-_"), min_size=PIECE, max_size=300)
any_secret = (
    token_like
    | st.text(printable, min_size=PIECE, max_size=60)
    | st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=PIECE, max_size=40)
)
# Texts around: anything, and most of all what an escape begins with.
around = st.text(max_size=20) | st.text(st.sampled_from("%&\\+#x;=2u0a \n\"'"), max_size=12)

thorough = settings(deadline=None, max_examples=400)


@thorough
@given(
    secret=any_secret,
    start=st.integers(0, 10_000),
    length=st.integers(PIECE, 300),
    encoding=st.sampled_from(sorted(ENCODINGS)),
    before=around,
    after=around,
)
@example(secret="ab/cdefghijklmn", start=0, length=12, encoding="percent", before="%", after="")
@example(secret="nabc/defghijklm", start=0, length=12, encoding="JSON, slashes", before="\\", after="")
@example(secret="lt;a<bcdefghijkl", start=0, length=12, encoding="HTML", before="&", after="")
@example(secret="u0041/bcdefghij", start=0, length=12, encoding="JSON, slashes", before="\\", after="")
def test_no_piece_of_a_secret_comes_through_in_any_encoding(
    secret: str, start: int, length: int, encoding: str, before: str, after: str
) -> None:
    assume(not is_part_of_a_reference(encoding, after))
    start %= len(secret) - PIECE + 1
    piece = secret[start : start + length]
    encoded = ENCODINGS[encoding](piece)
    masked = Secrets.of(secret).masked(before + encoded + after)
    assert encoded not in masked
    assert MASK in masked


@thorough
@given(
    secret=st.text(printable, min_size=4, max_size=PIECE - 1),
    encoding=st.sampled_from(sorted(set(ENCODINGS) - {"wrapped at 3", "wrapped at 64"})),
    before=around,
    after=around,
)
def test_no_short_secret_comes_through_whole_in_any_encoding(
    secret: str, encoding: str, before: str, after: str
) -> None:
    assume(not is_part_of_a_reference(encoding, after))
    # A number inside of a longer one is another number.
    assume(not (secret.isdigit() and (before[-1:].isdigit() or after[:1].isdigit())))
    assume(secret not in MASK)
    encoded = ENCODINGS[encoding](secret)
    assert encoded not in Secrets.of(secret).masked(before + encoded + after)


@thorough
@given(secret=any_secret, start=st.integers(0, 10_000), text=st.text(max_size=300))
def test_a_text_that_holds_no_piece_is_left_as_it_is(secret: str, start: int, text: str) -> None:
    start %= len(secret) - PIECE + 2
    almost = secret[start : start + PIECE - 1]
    pieces = {secret[at : at + PIECE] for at in range(len(secret) - PIECE + 1)}
    whole = f"{text}|{almost}|{text}"
    assume(not any(piece in whole for piece in pieces))
    assert Secrets.of(secret).masked(whole) == whole


@given(st.lists(any_secret, max_size=4), st.text(max_size=300))
def test_masking_twice_is_masking_once(some: list[str], text: str) -> None:
    secrets = Secrets.of(*some, "secret")
    once = secrets.masked(" ".join([text, *some]))
    assert secrets.masked(once) == once


@pytest.mark.parametrize("secret", ["b", "ok", "404", ""])
def test_a_secret_of_less_than_four_characters_masks_nothing(secret: str) -> None:
    text = "the name cannot be resolved: 404 ok"
    assert Secrets.of(secret).masked(text) == text


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("RUN_FAILED", "2 jobs in RUN_FAILED"),
        ("FAILED", "2 jobs in RUN_FAILED"),
        ("perception", "project perception: down"),
        ("cept", "project perception: down"),
        ("perception-backup", "project perception: down"),
        ("087679f0aa0000000000000002f5e902b", "GET /v1.0/087679f0aa0000000000000002f5e902b/data"),
        ("2026", "since 2026-01-02T03:04:05Z"),
        ("secret", "a <secret> is a mask"),
        ("4000", "octopus.400001 after 14000 ms"),
        ("here", "the rest of the letter e"),
    ],
)
def test_what_rule_10_names_is_never_masked(secret: str, text: str) -> None:
    secrets = Secrets.of(secret)
    secrets.never_mask(["RUN_FAILED", "perception", "087679f0aa0000000000000002f5e902b"])
    assert secrets.masked(text) == text


def test_a_secret_that_contains_a_name_is_masked_whole() -> None:
    secrets = Secrets.of("perception-2026!")
    secrets.never_mask(["perception"])
    assert secrets.masked("use perception-2026! for perception") == f"use {MASK} for perception"


def test_a_long_echo_leaves_one_mask_and_what_stands_around_it() -> None:
    token = base64.b64encode(bytes(range(256)) * 12).decode()
    text = f"token {token[100:160]} of {token} is invalid"
    assert Secrets.of(token).masked(text) == f"token {MASK} of {MASK} is invalid"


def test_pieces_of_secrets_that_overlap_are_all_masked() -> None:
    secrets = Secrets.of("abcdefghijklmnopqrst", "mnopqrstuvwxyz0123456")
    assert secrets.masked("<abcdefghijklmnopqrstuvwxyz0123456>") == f"<{MASK}>"


def test_a_secret_is_known_for_25_hours_after_its_last_use() -> None:
    clock = Clock()
    secrets = Secrets(clock)
    secrets.use("the-old-token-0123456789")
    clock.now += 24 * HOUR
    secrets.use("the-old-token-0123456789")
    clock.now += 25 * HOUR
    assert secrets.masked("x the-old-token-0123456789") == f"x {MASK}"
    clock.now += 120
    assert secrets.masked("x the-old-token-0123456789") == "x the-old-token-0123456789"


def test_what_is_kept_is_never_forgotten() -> None:
    clock = Clock()
    secrets = Secrets(clock)
    secrets.keep("proxy-password")
    secrets.use("proxy-password")
    clock.now += 100 * HOUR
    assert secrets.masked("proxy-password") == MASK


def test_signatures_of_the_last_requests_are_known() -> None:
    secrets = Secrets()
    signatures = [base64.b16encode(f"{number:032}".encode()).decode().lower() for number in range(600)]
    for signature in signatures:
        secrets.use_once(signature[::-1])
    assert secrets.masked(f"is {signatures[-1][::-1]}") == f"is {MASK}"
    assert secrets.masked(f"is {signatures[-200][::-1]}") == f"is {MASK}"


class TestLabels:
    def test_hold_no_secret(self) -> None:
        secrets = Secrets.of("a-token-of-many-letters")
        assert secrets.masked_label("E_a-token-of-many-letters") == f"E_{MASK}"

    def test_keep_their_names_when_a_secret_changes(self) -> None:
        secrets = Secrets()
        assert secrets.masked_label("PAUSED") == "PAUSED"
        secrets.use("PAUSED")
        assert secrets.masked_label("PAUSED") == "PAUSED"

    def test_keep_the_names_that_the_ledger_knows_them_by(self) -> None:
        secrets = Secrets.of("PAUSED")
        secrets.keep_labels(["PAUSED"])
        assert secrets.masked_label("PAUSED") == "PAUSED"

    def test_stay_masked_when_the_secret_is_forgotten(self) -> None:
        clock = Clock()
        secrets = Secrets(clock)
        secrets.use("PAUSED-by-the-token")
        assert secrets.masked_label("PAUSED-by-the-token") == MASK
        clock.now += 100 * HOUR
        assert secrets.masked_label("PAUSED-by-the-token") == MASK

    def test_that_are_documented_or_numbers_are_never_masked(self) -> None:
        secrets = Secrets.of("RUN_FAILED", "12345678")
        secrets.never_mask(["RUN_FAILED"])
        assert secrets.masked_label("RUN_FAILED") == "RUN_FAILED"
        assert secrets.masked_label("12345678") == "12345678"


@pytest.mark.parametrize(
    "text",
    [
        "X-Auth-Token: hunter2",
        "{'Authorization': 'SDK-HMAC-SHA256 hunter2', 'Host': 'h'}",
        '{"user": {"name": "u", "password": "hunter2"}}',
        "cannot connect to http://proxy:hunter2@127.0.0.1:1/",
    ],
)
def test_headers_and_user_infos_are_masked_even_where_the_secret_is_not_known(text: str) -> None:
    masked = Secrets().masked(text)
    assert "hunter2" not in masked
    assert MASK in masked
