"""Turn what pydantic found in a web configuration into problems, without a word of what may be secret."""

from __future__ import annotations

from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from exporter.config.problems import Location, Problem, found
from exporter.config.secret import MASK
from exporter.web.toolkit.names import CIPHERS
from exporter.web.toolkit.settings import SECTIONS, Headers, WebSettings

_SHAPES = {
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
    "mapping_type": "expected a mapping",
    "dict_type": "expected a mapping",
    "tuple_type": "expected a list",
}
# What never holds a secret, even by a slip of the hand. Certificates, keys, hashes and names are not shown.
_SHOWN = {
    "client_auth_type",
    "min_version",
    "max_version",
    "cipher_suites",
    "curve_preferences",
    "prefer_server_cipher_suites",
    "http2",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "interval",
    "burst",
}


def explain(error: ValidationError) -> list[Problem]:
    """Tell every problem, one for each location."""
    problems = (_explain(details) for details in error.errors(include_url=False))
    return list({problem.location: problem for problem in problems}.values())


def _explain(details: ErrorDetails) -> Problem:
    location, value = details["loc"], details["input"]
    if location[-1:] == ("[key]",):
        return Problem(location[:-1], details["msg"])
    match details["type"]:
        case "extra_forbidden":
            return Problem(location, _unknown_key(str(location[-1]), _keys_beside(location)))
        case "refused":
            return Problem(location, details["msg"])
        case "expected" if location[1:2] == ("cipher_suites",):
            return found(location, value, f"expected {_cipher_hint(str(value))}")
        case kind:
            expectation = _SHAPES.get(kind, details["msg"])
            return found(location, value if _is_shown(location, value) else MASK, expectation)


def _is_shown(location: Location, value: object) -> bool:
    return not isinstance(value, str) or any(part in _SHOWN for part in location)


def _keys_beside(location: Location) -> list[str]:
    match location[:-1]:
        case ("http_server_config", "headers"):
            return list(Headers.keys())
        case (str(section),):
            return list(SECTIONS[section].keys())
    return list(WebSettings.keys())


def _unknown_key(key: str, known: list[str]) -> str:
    close = get_close_matches(key, known, 1)
    return "unknown key, expected " + (close[0] if close else f"one of {', '.join(known)}")


def _cipher_hint(value: str) -> str:
    close = get_close_matches(value, CIPHERS, 1, cutoff=0.9)
    return close[0] if close else "a name that Go's crypto/tls has among its secure cipher suites"
