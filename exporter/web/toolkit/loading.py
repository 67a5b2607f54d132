"""From a file to a checked web configuration and its TLS context, or every problem that it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from exporter.config.document import parse_document
from exporter.config.problems import Location, Problem, explain, found
from exporter.config.secret import MASK
from exporter.errors import ConfigError
from exporter.web.toolkit.names import CIPHERS, NO_CLIENT_CERT, TLS12_CIPHERS, TOO_OLD, VERSIONS
from exporter.web.toolkit.settings import SECTIONS, HeaderSettings, ToolkitSettings
from exporter.web.toolkit.tls import BadTls, ServerContext, server_context
from exporter.web.toolkit.watched_files import WatchedFiles

_WANTED = "a mapping with tls_server_config, basic_auth_users and such"
_TLS = "tls_server_config"
_NO_CLIENTS = "found without a client_auth_type, expected RequireAndVerifyClientCert there"
# Values of these keys are shown in messages. Those of other keys (certificates, keys, hashes, names) are
# secrets, or can be.
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


def load_web_config(file: Path, files: WatchedFiles) -> tuple[ToolkitSettings, ServerContext | None]:
    """
    Read and check a web configuration and the files it names, each of them through `files`.

    Shape: without a context, connections are not encrypted.
    Raises: ConfigError, with every problem: `file:line:column: path: what was found, what was expected`.
    """
    try:
        content = files.read(file)
    except OSError as exc:
        fault = f"{file}: cannot be read ({exc.strerror}), expected a web configuration"
        raise ConfigError([fault]) from exc
    document = parse_document(file, content, _WANTED)
    settings, problems = None, []
    try:
        context = {"folder": file.parent, "files": files}
        settings = ToolkitSettings.model_validate(document.tree or {}, context=context)
    except ValidationError as exc:
        problems = [_explain(details) for details in exc.errors(include_url=False)]
    problems += [*_contradictions(document.tree), *document.problems]
    if settings is None or problems:
        # One for each location: the last one says most.
        one_each = {problem.location: problem for problem in problems}
        raise ConfigError(document.lines(one_each.values()))
    tls = settings.tls_server_config
    try:
        return settings, None if tls is None else server_context(tls)
    except BadTls as exc:
        raise ConfigError(document.lines([Problem((_TLS, exc.key), str(exc))])) from None


def _explain(details: ErrorDetails) -> Problem:
    """Turn one error of pydantic into a problem that shows no secret."""
    location, value = details["loc"], details["input"]
    if location[-1:] == ("[key]",):
        return Problem(location[:-1], details["msg"])
    if details["type"] == "expected" and location[1:2] == ("cipher_suites",):
        close = get_close_matches(str(value), CIPHERS, 1, cutoff=0.9)
        suite = close[0] if close else "a name that Go's crypto/tls has among its secure cipher suites"
        return found(location, value, f"expected {suite}")
    if isinstance(value, str) and _SHOWN.isdisjoint(location):
        details["input"] = MASK
    return explain(details, location, _keys_beside(location))


def _keys_beside(location: Location) -> dict[str, str]:
    match location[:-1]:
        case ("http_server_config", "headers"):
            return HeaderSettings.keys()
        case (str(section),) if section in SECTIONS:
            return SECTIONS[section].keys()
    return ToolkitSettings.keys()


def _contradictions(tree: object) -> Iterator[Problem]:
    """
    Find keys of tls_server_config that contradict each other, and required ones that are missing.

    This looks at the document, not at the models: so it is reported together with bad values.
    """
    match tree:
        case {"tls_server_config": dict() as tls} if tls:
            for check in (_sources, _clients, _versions, _curves):
                yield from (Problem((_TLS, key), message) for key, message in check(tls))


def _sources(tls: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key in ("cert", "key", "client_ca"):
        inline, file = tls.get(key), tls.get(f"{key}_file")
        if inline and file:
            yield key, f"found beside {key}_file, expected one of the two"
        if not inline and not file and key != "client_ca":
            yield f"{key}_file", f"missing, expected {key}_file or {key}"


def _clients(tls: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    if (tls.get("client_auth_type") or NO_CLIENT_CERT) != NO_CLIENT_CERT:
        return
    # The toolkit accepts client_allowed_sans here, and then lets every client in.
    for key in ("client_ca", "client_ca_file", "client_allowed_sans"):
        if tls.get(key):
            yield key, _NO_CLIENTS


def _versions(tls: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    low, high = str(tls.get("min_version") or "TLS12"), str(tls.get("max_version") or "TLS13")
    if low not in VERSIONS or high not in VERSIONS:
        return
    suites = tls.get("cipher_suites")
    if high in TOO_OLD:
        yield "max_version", f"found {high}, which OpenSSL speaks no more, expected TLS12 or TLS13"
    elif VERSIONS[high] < VERSIONS[low]:
        yield "max_version", f"found {high} below min_version, expected {low} or later"
    elif high == "TLS12" and isinstance(suites, list) and suites and TLS12_CIPHERS.keys().isdisjoint(suites):
        yield "cipher_suites", "found only suites of TLS 1.3 below max_version TLS12, expected one of TLS 1.2"


def _curves(tls: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    curves = tls.get("curve_preferences")
    if isinstance(curves, list) and len(curves) > 1:
        yield "curve_preferences", f"found {len(curves)} curves, expected one: Python's ssl sets no more"
