"""
The exporter-toolkit's own files, word for word: what is good there is taken here, what is bad refused.

Two are refused here though they are good there: Python's ssl cannot do what they ask for.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from exporter.errors import ConfigError
from exporter.web.toolkit import WebConfiguration
from tests.certificates import Authority

SAMPLES = Path(__file__).parent / "samples" / "exporter-toolkit"
TESTDATA = sorted(SAMPLES.glob("testdata/*"))
# What their names say of these is not of the file: it is about one client, the system's authorities, HTTP/2.
TAKEN_THOUGH_BAD = {
    "web_config_auth_client_san.bad.yaml",
    "web_config_auth_clientCAs_missing.bad.yml",
    "web_config_noAuth_noHTTP2Cipher.bad.yml",
}
REFUSED_HERE = {
    "tls_config_noAuth.requireanyclientcert.good.yml": (
        "tls_server_config.client_auth_type: found RequireAnyClientCert, which verifies no certificate:"
        " Python's ssl cannot do that, expected VerifyClientCertIfGiven or RequireAndVerifyClientCert"
    ),
    "web_config_noAuth_allCurves.good.yml": (
        "tls_server_config.curve_preferences: found 4 curves, expected one: Python's ssl sets no more"
    ),
}
JUNK = {"web_config_junk.yml", "web_config_junk_key.yml"}
NOT_TAKEN = JUNK | REFUSED_HERE.keys()
TAKEN = [file for file in TESTDATA if ".bad." not in file.name and file.name not in NOT_TAKEN]
REFUSED = [
    file for file in TESTDATA if file not in TAKEN and file.name not in TAKEN_THOUGH_BAD | REFUSED_HERE.keys()
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the certificates that the files name."""
    authority = Authority(tmp_path, "client2_selfsigned")
    authority.issue("server", "localhost")
    authority.file.with_name("client_selfsigned.pem").write_bytes(authority.file.read_bytes())
    return tmp_path


def load(sample: Path, folder: Path) -> WebConfiguration:
    return WebConfiguration(Path(shutil.copy(sample, folder)))


@pytest.mark.parametrize("sample", TAKEN, ids=lambda sample: sample.name)
def test_what_is_good_is_taken(sample: Path, folder: Path) -> None:
    load(sample, folder)


@pytest.mark.parametrize("sample", REFUSED, ids=lambda sample: sample.name)
def test_what_is_bad_is_refused(sample: Path, folder: Path) -> None:
    with pytest.raises(ConfigError):
        load(sample, folder)


@pytest.mark.parametrize("name", REFUSED_HERE)
def test_what_python_cannot_do_is_refused_and_says_so(name: str, folder: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(SAMPLES / "testdata" / name, folder)
    (problem,) = refusal.value.problems
    assert problem.endswith(REFUSED_HERE[name])


@pytest.mark.parametrize("name", sorted(TAKEN_THOUGH_BAD))
def test_what_is_bad_for_another_reason_is_taken(name: str, folder: Path) -> None:
    load(SAMPLES / "testdata" / name, folder)


def test_they_are_all_there() -> None:
    assert (len(TAKEN), len(REFUSED), len(REFUSED_HERE)) == (15, 19, 2)


def test_the_documented_example_is_taken(folder: Path) -> None:
    using = load(SAMPLES / "web-config.yml", folder).active
    assert list(using.settings.basic_auth_users) == ["alice", "bob"]
    assert using.settings.rate_limit.model_dump() == {"interval_seconds": 1.0, "burst": 20}
