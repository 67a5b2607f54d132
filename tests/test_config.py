"""The configuration: what is read, what is refused and in which words, and that no secret ever shows."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from huaweicloudsdkcore.auth import endpoint as sdk_endpoint
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter import config as public
from exporter.config import (
    AccessKeySettings,
    Config,
    EventSettings,
    LedgerUrl,
    ListenAddress,
    PasswordSettings,
    Secret,
    TokenSettings,
    format_duration,
    iam_endpoint,
    load,
    parse_duration,
)
from exporter.config.addresses import IAM_REGIONS, LISTEN_ADDRESS, parse_endpoint
from exporter.config.credentials import CREDENTIALS
from exporter.config.fields import Section
from exporter.config.loading import substitute
from exporter.config.secret import scrub
from exporter.config.settings import SECTIONS, ProjectSettings
from exporter.errors import ConfigError
from exporter.model import Target
from exporter.pollers import poll_rules

HERE = Path(__file__).parent
SAMPLES = HERE / "config"
EXAMPLE = HERE.parent / "config.example.yaml"

SECRET = "hunter2"
MINIMAL = "projects: [{id: abc, region: cn-north-11}]\ncredentials: {only: {type: chain}}\n"
LEDGER_BY_FILE = "ledger: {url: postgresql://u@db/o, password_file: pw}\n"
EXAMPLE_ENVIRON = {
    f"OCTOPUS_{name}": SECRET
    for name in ("DOMAIN", "USER", "PASSWORD", "TOKEN", "ACCESS_KEY", "SECRET_KEY", "SECURITY_TOKEN")
}
# There are no events unless they are asked for.
DEFAULTS = {name: section() for name, section in SECTIONS.items()} | {"events": None}
MODELS: tuple[type[Section], ...] = (Config, ProjectSettings, *SECTIONS.values(), *CREDENTIALS.values())


def load_text(folder: Path, text: str | bytes, **environ: str) -> Config:
    file = folder / "config.yaml"
    file.write_bytes(text.encode(errors="surrogatepass") if isinstance(text, str) else text)
    return load(file, environ)


def problems_of(file: Path, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(file, environ or {})
    return [problem.removeprefix(str(file)) for problem in caught.value.problems]


@pytest.fixture
def good() -> Config:
    return load(SAMPLES / "good.yaml", {"PASSWORD": SECRET})


class TestGoodFiles:
    def test_every_workspace_of_a_project_is_a_target(self, good: Config) -> None:
        assert [(target.project, target.workspace, target.workspace_id) for target in good.targets()] == [
            ("perception", "0", "0"),
            ("perception", "17", "17"),
            ("perception", "0755", "0755"),
            ("perception", "1e3", "1e3"),
            ("123", "0", None),
        ]

    def test_a_target_carries_what_its_project_says(self, good: Config) -> None:
        assert good.targets()[-1] == Target(
            project="123",
            project_id="123",
            workspace="0",
            workspace_id=None,
            region="",
            endpoint="https://octopus.example.com:8443",
            path="v2/system-job",
            job_types=(),
            credentials="key",
        )

    def test_a_region_gives_the_endpoint(self, good: Config) -> None:
        assert good.targets()[0].endpoint == "https://octopus.cn-south-1.myhuaweicloud.com"

    def test_a_target_knows_its_credentials(self, good: Config) -> None:
        assert good.credentials_of(good.targets()[0]) is good.credentials["user"]

    def test_variables_give_values_of_every_type(self) -> None:
        environ = {"PASSWORD": SECRET, "INTERVAL": "1h", "PAGE": "7", "CREATED": "false", "LEVEL": "error"}
        config = load(SAMPLES / "good.yaml", environ)
        assert (config.poll.interval_seconds, config.poll.page_size) == (3600, 7)
        assert (config.metrics.created_series, config.log.level) == (False, "error")

    def test_defaults_stand_in_for_variables(self, good: Config) -> None:
        assert (good.poll.interval_seconds, good.poll.page_size) == (90, 100)
        assert good.metrics.running_buckets == (0.5, 10)
        assert (good.metrics.created_series, good.log.level) == (True, "debug")

    def test_lookback_all_is_no_limit(self, good: Config) -> None:
        assert good.poll.lookback_seconds is None

    def test_undocumented_statuses_may_be_named_as_terminal(self, good: Config) -> None:
        assert good.poll.terminal_statuses == ("ARCHIVED", "Timed out")

    def test_undocumented_values_have_fifty_labels_unless_told_otherwise(self, good: Config) -> None:
        assert (good.metrics.max_job_types, good.metrics.max_statuses) == (0, 50)

    def test_the_most_resource_specs_are_for_the_counting(self, good: Config) -> None:
        assert good.metrics.max_resource_specs == 12
        assert poll_rules(good).counting.max_resource_specs == 12

    def test_files_are_looked_for_beside_the_configuration(self, good: Config) -> None:
        key = good.credentials["key"]
        assert isinstance(key, AccessKeySettings)
        assert key.secret_key_file == SAMPLES / "secrets/key"
        assert good.web.config_file == SAMPLES / "web.yml"
        assert good.events == EventSettings(to=SAMPLES / "events/runs.log", format="logfmt", include="failed")

    def test_an_absolute_file_stays_where_it_is(self, good: Config) -> None:
        token = good.credentials["token"]
        assert isinstance(token, TokenSettings)
        assert token.token_file == Path("/run/secrets/token")

    def test_listen_addresses_are_read(self, good: Config) -> None:
        assert good.web.listen == (
            ListenAddress(None, 0),
            ListenAddress("127.0.0.1", 9090),
            ListenAddress("::1", 9090),
        )

    def test_sections_may_be_empty(self) -> None:
        config = load(SAMPLES / "good-minimal.yaml", {})
        assert {name: getattr(config, name) for name in SECTIONS} == DEFAULTS

    @pytest.mark.parametrize(
        ("written", "to"), [("stdout", "stdout"), ("stderr", "stderr"), ("./stdout", Path("stdout"))]
    )
    def test_events_go_to_a_stream_or_a_file(self, tmp_path: Path, written: str, to: str | Path) -> None:
        config = load_text(tmp_path, f"{MINIMAL}events: {{to: {written}}}")
        where = tmp_path / to if isinstance(to, Path) else to
        assert config.events is not None
        assert config.events.to == where
        assert config.redacted()["events"]["to"] == str(where)

    def test_the_only_credentials_are_the_default(self) -> None:
        assert load(SAMPLES / "good-minimal.yaml", {}).projects[0].credentials == "only"

    def test_the_name_is_the_id_by_default(self) -> None:
        assert load(SAMPLES / "good-minimal.yaml", {}).projects[0].name == "abc"

    def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(self, tmp_path: Path) -> None:
        text = b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode()
        assert load_text(tmp_path, text) == load_text(tmp_path, MINIMAL)

    def test_nothing_can_be_changed(self, good: Config) -> None:
        with pytest.raises(ValueError, match="frozen"):
            setattr(good.poll, "page_size", 1)  # noqa: B010 - what mypy would refuse


class TestInvalidFiles:
    @pytest.mark.parametrize("file", sorted(SAMPLES.glob("invalid-*.yaml")), ids=lambda file: file.stem)
    def test_each_problem_is_told_in_one_line_without_secrets(self, file: Path) -> None:
        problems = problems_of(file)
        assert problems == file.with_suffix(".txt").read_text().splitlines()
        assert SECRET not in "".join(problems)

    def test_a_missing_file_is_told(self, tmp_path: Path) -> None:
        expected = ": cannot be read (No such file or directory), expected a YAML file"
        assert problems_of(tmp_path / "no.yaml") == [expected]

    def test_a_folder_is_no_file(self, tmp_path: Path) -> None:
        assert problems_of(tmp_path) == [": cannot be read (Is a directory), expected a YAML file"]

    def test_a_huge_file_is_not_read(self, tmp_path: Path) -> None:
        file = tmp_path / "huge.yaml"
        file.write_bytes(b"#" * 1_048_577)
        assert problems_of(file) == [": is larger than 1 MiB, expected a configuration"]

    @pytest.mark.parametrize(
        "text", ["a: " + "[" * 17 + "]" * 17, "[" * 600], ids=["over the limit", "far over"]
    )
    def test_deep_nesting_is_refused(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "deep.yaml"
        file.write_text(text)
        assert problems_of(file) == [": is nested more than 16 levels deep, expected a configuration"]

    def test_more_job_types_than_the_api_takes_are_refused(self, tmp_path: Path) -> None:
        types = ", ".join(f"TYPE_{number}" for number in range(21))
        with pytest.raises(ConfigError, match=r"job_types: found 21 entries, expected at most 20"):
            load_text(tmp_path, MINIMAL.replace("id: abc", f"id: abc, job_types: [{types}]"))

    def test_an_unknown_key_is_refused_even_without_a_value(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"poll\.intervall: unknown key, expected interval$"):
            load_text(tmp_path, MINIMAL + "poll: {intervall: }")

    @pytest.mark.parametrize("value", ["1e999", ".nan", "0", "-1", "true", "1_000", "1:30", "0x10"])
    def test_only_finite_numbers_above_0_are_a_rate(self, tmp_path: Path, value: str) -> None:
        with pytest.raises(ConfigError, match=r"requests_per_second: found .*, expected a number above 0$"):
            load_text(tmp_path, MINIMAL + f"poll: {{requests_per_second: {value}}}")

    def test_a_long_value_is_cut(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            load_text(tmp_path, MINIMAL + f"log: {{level: {'x' * 1000}}}")
        assert len(str(caught.value)) < 300


class TestVariables:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("plain", "plain"),
            ("${A}", "1"),
            ("a${A}b${A}", "a1b1"),
            ("$$", "$"),
            ("$${A}", "${A}"),
            ("$$${A}", "$1"),
            ("pa$word", "pa$word"),
            ("$", "$"),
            ("${A:-2}", "1"),
            ("${B:-2}", "2"),
            ("${B:-}", ""),
            ("${EMPTY}", ""),
            ("${EMPTY:-2}", "2"),
            ("${B:-http://h:1}", "http://h:1"),
            ("${TRICKY}", "${A} $$"),
        ],
    )
    def test_are_replaced_once(self, text: str, expected: str) -> None:
        assert substitute(text, {"A": "1", "EMPTY": "", "TRICKY": "${A} $$"}) == expected

    @pytest.mark.parametrize("text", ["${", "${}", "${1}", "${A", "${A-b}", "${A:-${B}}", "${B}"])
    def test_are_refused_when_wrong_or_unset(self, text: str) -> None:
        with pytest.raises(ValueError, match="expected"):
            substitute(text, {"A": "1"})

    def test_cannot_change_the_structure(self, tmp_path: Path) -> None:
        text = MINIMAL.replace("id: abc", "id: abc, name: '${NAME}'")
        name = "x, region: elsewhere}] # [a]"
        assert load_text(tmp_path, text, NAME=name).projects[0].name == name

    def test_do_not_stand_for_keys(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="unknown key"):
            load_text(tmp_path, MINIMAL + "${KEY}: {}\n", KEY="poll")


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("0", 0),
            ("0s", 0),
            ("500ms", 0.5),
            ("30s", 30),
            ("5m", 300),
            ("1h30m", 5400),
            ("30d", 2_592_000),
            ("1w", 604_800),
            ("1y", 31_536_000),
            ("1d1ms", 86_400.001),
            ("90m", 5400),
        ],
    )
    def test_are_read_as_prometheus_does(self, text: str, seconds: float) -> None:
        assert parse_duration(text) == seconds

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "30",
            "s",
            "1.5s",
            "-1s",
            "1m1h",
            "1s1s",
            " 1s",
            "1s ",
            "1S",
            "300y",
            "\u0661s",
            "1" * 5000 + "s",
        ],
    )
    def test_are_refused_as_prometheus_does(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"duration|digits"):
            parse_duration(text)

    @given(st.integers(0, 100 * 365 * 86_400_000))
    def test_read_back_as_they_were_spelled(self, milliseconds: int) -> None:
        assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000

    def test_are_spelled_in_days(self) -> None:
        assert [format_duration(seconds) for seconds in (0, 5400, 604_800, 0.001)] == [
            "0s",
            "1h30m",
            "7d",
            "1ms",
        ]


class TestAddresses:
    def test_iam_regions_are_those_of_the_sdk(self) -> None:
        """The SDK keeps its list in a private attribute, so the module's text is what is read."""
        listed = re.findall(
            r"https://iam\.([a-z0-9-]+)\.myhuaweicloud\.com", Path(sdk_endpoint.__file__).read_text()
        )
        assert set(listed) == IAM_REGIONS

    def test_iam_is_global_where_the_region_has_none(self) -> None:
        assert iam_endpoint("cn-north-11") == iam_endpoint("") == "https://iam.myhuaweicloud.com"
        assert iam_endpoint("cn-north-4") == "https://iam.cn-north-4.myhuaweicloud.com"

    def test_a_given_iam_endpoint_wins(self, good: Config) -> None:
        user = good.credentials["user"]
        assert isinstance(user, PasswordSettings)
        assert user.iam_endpoint_for("cn-north-4") == "http://[::1]:8080"

    @pytest.mark.parametrize(
        "text", ["http://h", "https://h.example:1", "http://127.0.0.1:8/", "https://[::1]:9"]
    )
    def test_endpoints_lose_only_their_slash(self, text: str) -> None:
        assert parse_endpoint(text) == text.removesuffix("/")

    @pytest.mark.parametrize(
        "text",
        [
            "", "h", "//h", "ftp://h", "http://", "http://h/p", "http://h?q", "http://h#f", "http://u@h",
            "http://h:0", "http://h:99999", "http://h:x", "http://h:", "http://h//", "http://a b", "http://[::1",
            "http://[h]", "http://ho\nst", "http://h/ ", "http://[::1]x:1",
        ],
    )  # fmt: skip
    def test_other_urls_are_no_endpoints(self, text: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - the caller words the problem
            parse_endpoint(text)

    @pytest.mark.parametrize("text", [":0", ":10877", "h:1", "127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80"])
    def test_listen_addresses_are_spelled_as_they_were(self, text: str) -> None:
        assert str(ListenAddress.parse(text)) == text

    @pytest.mark.parametrize(
        ("text", "path"),
        [
            ("sqlite://", None),
            ("sqlite:///:memory:", None),
            ("sqlite:///ledger.db", Path("ledger.db")),
            ("sqlite:////var/lib/ledger.db", Path("/var/lib/ledger.db")),
        ],
    )
    def test_sqlite_urls_give_a_path(self, text: str, path: Path | None) -> None:
        url = LedgerUrl.parse(text)
        assert (url.backend, url.path, url.display) == ("sqlite", path, text)

    @pytest.mark.parametrize(
        ("text", "display"),
        [
            ("postgresql://db/o", "postgresql://db/o"),
            ("postgresql:///o", "postgresql:///o"),
            ("postgresql://u@db:1,db2:2/o", "postgresql://u@db:1,db2:2/o"),
            (f"postgresql://u:{SECRET}@db/o", "postgresql://u:<secret>@db/o"),
            (f"postgresql://u:{SECRET}%40%2F@[::1]:5433/o", "postgresql://u:<secret>@[::1]:5433/o"),
            ("postgresql://u@%2Frun%2Fpostgresql/o", "postgresql://u@%2Frun%2Fpostgresql/o"),
            (
                f"postgresql://db/o?sslcert=c&sslkey=k&sslpassword={SECRET}&sslmode=verify-full",
                "postgresql://db/o?sslcert=c&sslkey=k&sslpassword=<secret>&sslmode=verify-full",
            ),
            (
                f"postgresql://db/o?user=u&password={SECRET}&sslmode=require",
                "postgresql://db/o?user=u&password=<secret>&sslmode=require",
            ),
        ],
    )
    def test_postgresql_urls_never_show_a_password(self, text: str, display: str) -> None:
        url = LedgerUrl.parse(text)
        assert (url.backend, url.url.get()) == ("postgresql", text)
        assert [url.display, str(url), repr(url)] == [display, display, f"LedgerUrl({display})"]
        assert SECRET not in str(asdict(url))

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            # Each may be a part of a password: so none of it is shown.
            (
                f"postgresql://u:a@{SECRET}@db/o",
                "cannot be read, expected postgresql://user:password@host/data",
            ),
            (
                f"postgresql://u:a/{SECRET}@db/o",
                "cannot be read, expected postgresql://user:password@host/data",
            ),
            (
                f"postgresql://u:a?{SECRET}@db/o",
                "cannot be read, expected postgresql://user:password@host/data",
            ),
            (
                f"postgresql://u:a#{SECRET}@db/o",
                "cannot be read, expected postgresql://user:password@host/data",
            ),
            (
                f"postgresql://u:{SECRET}%@db/o",
                "found a % that begins no character, expected % itself as %25",
            ),
            (f"postgresql://u:{SECRET}%ff@db/o", "found a % that begins no character"),
            (f"postgresql://u:{SECRET}%00@db/o", "found a % that begins no character"),
            (f"postgresql://u:{SECRET}/o", "a host cannot be read, expected host, host:port or [ipv6]:port"),
            ("postgresql://db:65536/o", "a host cannot be read"),
            ("postgresql://db:5432,[db]:1/o", "a host cannot be read"),
            (
                f"postgresql://db/o?user=u&{SECRET}",
                "the query has <secret>, expected a connection parameter of",
            ),
            (
                f"postgresql://u:a@db/o?password={SECRET}",
                "found a password before the host and another in the",
            ),
            ("postgresql://db/o?ssl_mode=require", "the query has ssl_mode, expected sslmode"),
            (
                "postgresql://db/o?ssl=true",
                "the query has ssl, expected sslmode=require or sslmode=verify-full",
            ),
            ("postgresql://db/o?passfile=f", "the query has passfile, expected ledger.password_file"),
            (
                "postgresql://db/o?service=s",
                "the query has service, expected host, database and user in the URL",
            ),
            (
                "postgresql://db/o?sslmode=full",
                "the query has sslmode=full, expected disable, allow, prefer, ",
            ),
            ("postgresql://db/o?sslmode=", "the query has sslmode without a value, expected sslmode=value"),
            (
                "postgresql://db/o?sslmode=allow&sslmode=require",
                "the query has sslmode twice, expected it once",
            ),
            (
                "postgresql://db/o?connect_timeout=5s",
                "the query has connect_timeout=<secret>, expected a whole",
            ),
            (
                "postgresql://db/o?target_session_attrs=standby",
                "the query has target_session_attrs=standby, expected any, read-write or primary",
            ),
            (
                "postgresql://db/o?sslrootcert=ca.pem",
                "the query has sslrootcert with sslmode=prefer, which does not use it, expected",
            ),
            (
                "postgresql://db/o?sslrootcert=system&sslmode=require",
                "the query has sslrootcert=system with ssl",
            ),
            (
                "postgresql://db/o?sslmode=disable&sslcert=c",
                "the query has sslcert with sslmode=disable, expec",
            ),
            (
                "postgresql://db/o?sslmode=require&sslkey=k",
                "the query has sslkey without sslcert, expected both",
            ),
        ],
    )
    def test_what_libpq_cannot_use_is_named_in_one_line(self, tmp_path: Path, text: str, said: str) -> None:
        with pytest.raises(ConfigError) as caught:
            load_text(tmp_path, f"{MINIMAL}ledger: {{url: {json.dumps(text)}}}\n")
        (line,) = caught.value.problems
        assert f"ledger.url: {said}" in line
        assert SECRET not in line

    def test_a_plus_in_a_password_stays_a_plus(self) -> None:
        assert LedgerUrl.parse("postgresql://db/o?password=a+b%2Bc").passwords == ("a+b%2Bc", "a+b+c")

    def test_the_files_of_a_url_are_those_for_tls(self) -> None:
        url = LedgerUrl.parse("postgresql://db/o?sslmode=verify-full&sslrootcert=system&sslcert=c&sslkey=/k")
        assert url.files == {"sslcert": Path("c"), "sslkey": Path("/k")}

    @pytest.mark.parametrize(
        ("text", "leaves"),
        [
            ("postgresql:///o", False), ("postgresql://localhost:1,127.0.0.1/o", False),
            ("postgresql://[::1]/o", False), ("postgresql://%2Frun/o", False), ("postgresql://db/o", True),
            ("postgresql:///o?host=db", True), ("postgresql://localhost,db/o", True),
        ],
    )  # fmt: skip
    def test_a_url_tells_whether_it_leaves_the_machine(self, text: str, leaves: bool) -> None:
        assert LedgerUrl.parse(text).leaves_the_machine is leaves


class TestLedger:
    def test_the_password_is_read_from_its_file_at_every_use(self, tmp_path: Path) -> None:
        (tmp_path / "pw").write_text("first")
        ledger = load_text(tmp_path, MINIMAL + LEDGER_BY_FILE).ledger
        assert ledger.passwords() == ("first",)
        (tmp_path / "pw").write_text("second\n")
        assert ledger.password is not None
        assert ledger.password.get() == "second"

    def test_a_file_that_cannot_be_read_is_a_problem_of_the_check(self, tmp_path: Path) -> None:
        config = load_text(tmp_path, MINIMAL + LEDGER_BY_FILE)
        (said,) = config.secret_problems()
        assert said.startswith(
            f"ledger.password_file: {tmp_path}/pw: cannot be read (No such file or directory)"
        )

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("sqlite:///o.db", "found it beside a SQLite ledger, expected it with postgresql:// only"),
            (
                f"postgresql://u:{SECRET}@db/o",
                "found it beside a password in ledger.url, expected only one of b",
            ),
            (
                f"postgresql://db/o?password={SECRET}",
                "found it beside a password in ledger.url, expected only",
            ),
        ],
    )
    def test_one_password_is_given_and_only_where_one_is_used(
        self, tmp_path: Path, url: str, said: str
    ) -> None:
        text = f"{MINIMAL}ledger: {{url: {json.dumps(url)}, password_file: pw}}\n"
        with pytest.raises(ConfigError, match=re.escape(f"ledger.password_file: {said}")):
            load_text(tmp_path, text)

    @pytest.mark.parametrize(("lease", "seconds"), [("3s", 3), ("15s", 15), ("5m", 300)])
    def test_a_lease_is_a_duration(self, tmp_path: Path, lease: str, seconds: float) -> None:
        assert load_text(tmp_path, f"{MINIMAL}ledger: {{lease: {lease}}}\n").ledger.lease_seconds == seconds

    @pytest.mark.parametrize("lease", ["2s", "6m", "0", "all", "15"])
    def test_a_lease_has_bounds(self, tmp_path: Path, lease: str) -> None:
        with pytest.raises(ConfigError, match=r"ledger.lease: found .*, expected .*at least 3s, at most 5m"):
            load_text(tmp_path, f"{MINIMAL}ledger: {{lease: {lease}}}\n")


class TestSecrets:
    def test_show_as_a_mask(self) -> None:
        secret = Secret(SECRET)
        assert {repr(secret), str(secret), f"{secret}", f"{secret:}", "%s" % secret} == {"<secret>"}  # noqa: UP031

    def test_tell_only_when_asked(self) -> None:
        assert Secret(SECRET).get() == SECRET

    def test_that_were_never_given_are_a_problem(self) -> None:
        with pytest.raises(ConfigError, match=r"^no secret was given$"):
            Secret().get()

    def test_are_equal_by_what_they_hold(self) -> None:
        assert Secret(SECRET) == Secret(SECRET) != Secret("other")
        assert len({Secret(SECRET), Secret(SECRET), Secret(file=Path("a"))}) == 2

    def test_are_not_pickled(self) -> None:
        with pytest.raises(TypeError):
            pickle.dumps(Secret(SECRET))

    def test_survive_a_copy(self) -> None:
        assert copy.deepcopy(Secret(SECRET)).get() == copy.copy(Secret(SECRET)).get() == SECRET

    def test_are_read_from_the_file_at_every_use(self, tmp_path: Path) -> None:
        file = tmp_path / "secret"
        secret = Secret(file=file)
        read = []
        for content in ("first\n", "second", " third \r\n"):
            file.write_text(content, newline="")
            read.append(secret.get())
        assert read == ["first", "second", " third "]

    @pytest.mark.parametrize(
        ("content", "fault"),
        [
            (b"", "is empty, expected a secret"),
            (b"\n", "is empty, expected a secret"),
            (b"\xff", "is not UTF-8, expected a secret"),
            (b"hunter2\n\n", "has more than one line or is too long, expected one line with a secret"),
            (b"hunter2" * 10_000, "has more than one line or is too long, expected one line with a secret"),
        ],
    )
    def test_in_an_unusable_file_are_a_problem(self, tmp_path: Path, content: bytes, fault: str) -> None:
        file = tmp_path / "secret"
        file.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            Secret(file=file).get()
        assert caught.value.problems == [f"{file}: {fault}"]

    def test_that_cannot_be_read_are_told_for_all_credentials(self, good: Config) -> None:
        fault = "cannot be read (No such file or directory), expected a secret"
        assert good.secret_problems() == [
            f"credentials.key.secret_key_file: {SAMPLES}/secrets/key: {fault}",
            f"credentials.token.token_file: /run/secrets/token: {fault}",
        ]

    def test_never_show_in_anything_made_of_a_configuration(
        self, good: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        environ = EXAMPLE_ENVIRON | {"OCTOPUS_DOMAIN": "d", "OCTOPUS_USER": "u"}
        config = load_text(tmp_path, EXAMPLE_ALL, **environ)
        logging.getLogger("test").warning("%s %r", config, config.credentials)
        shown = [
            *(repr(each) + str(each) for each in (config, good)),
            *(repr(each.model_dump()) + each.model_dump_json() for each in (config, good)),
            *(json.dumps(each.redacted()) for each in (config, good)),
            repr(config.credentials),
            caplog.text,
        ]
        assert [text for text in shown if SECRET in text] == []
        assert config.redacted()["credentials"]["default"]["password"] == "<secret>"

    @pytest.mark.parametrize(
        ("text", "scrubbed"),
        [
            ("plain?x", "plain?x"),
            ("https://h/p", "https://h/p"),
            (f"https://u:{SECRET}@h/p?q={SECRET}", "https://<secret>@h/p?<secret>"),
            (f"u:{SECRET}@h", "<secret>@h"),
            (f"mysql://u:p?@{SECRET}@h", "mysql://<secret>@h"),
        ],
    )
    def test_are_scrubbed_from_urls(self, text: str, scrubbed: str) -> None:
        assert scrub(text) == scrubbed


class TestOverrides:
    def test_win_over_the_file(self, good: Config) -> None:
        config = good.with_overrides(
            listen=[":1"], web_config_file="w.yml", log_level="warning", log_format="json"
        )
        assert config.web.listen == (ListenAddress(None, 1),)
        assert config.web.config_file == Path("w.yml")
        assert (config.log.level, config.log.format) == ("warning", "json")
        assert config.web.enable_lifecycle == good.web.enable_lifecycle

    def test_leave_what_is_not_given(self, good: Config) -> None:
        assert good.with_overrides(listen=[]) == good

    def test_that_are_wrong_are_told_at_once(self, good: Config) -> None:
        with pytest.raises(ConfigError) as caught:
            good.with_overrides(listen=[":1", "here"], web_config_file="", log_level="loud", log_format="xml")
        assert caught.value.problems == [
            f"--web.listen-address: found here, expected {LISTEN_ADDRESS}",
            '--web.config.file: found "", expected a file name',
            "--log.level: found loud, expected debug, info, warning or error",
            "--log.format: found xml, expected logfmt or json",
        ]

    def test_say_when_an_address_comes_twice(self, good: Config) -> None:
        with pytest.raises(ConfigError, match=r"^--web.listen-address: found :1 twice, expected each once$"):
            good.with_overrides(listen=[":1", ":1"])


def keys_of(text: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(text)
    return document


# Every alternative of the example taken up: the lines that begin with # and a key.
EXAMPLE_ALL = re.sub(r"(?m)^( *)#(?=[a-z]|  [a-z_]+:)", r"\1", EXAMPLE.read_text())
# A file with its password is an alternative of PostgreSQL's.
EXAMPLE_ALL = EXAMPLE_ALL.replace("sqlite:///octopus-ledger.db", "postgresql://octopus@db/octopus")


class TestExample:
    def test_is_a_good_configuration(self) -> None:
        config = load(EXAMPLE, EXAMPLE_ENVIRON)
        assert [target.project for target in config.targets()] == ["perception"]

    def test_is_good_with_every_alternative_taken(self, tmp_path: Path) -> None:
        config = load_text(tmp_path, EXAMPLE_ALL, **EXAMPLE_ENVIRON)
        assert {credentials.type for credentials in config.credentials.values()} == set(CREDENTIALS)

    def test_has_every_key(self) -> None:
        document = keys_of(EXAMPLE_ALL)
        assert set(document) == set(Config.keys())
        assert {name: set(document[name]) for name in SECTIONS} == {
            name: set(section.keys()) for name, section in SECTIONS.items()
        }
        assert set(document["projects"][0]) == set(ProjectSettings.keys())
        given_keys: dict[str, set[str]] = {}
        for credentials in document["credentials"].values():
            given_keys.setdefault(credentials["type"], set()).update(credentials)
        assert given_keys == {kind: set(model.keys()) for kind, model in CREDENTIALS.items()}

    def test_has_the_defaults(self) -> None:
        config = load(EXAMPLE, EXAMPLE_ENVIRON)
        assert {name: getattr(config, name) for name in SECTIONS} == DEFAULTS
        least = ProjectSettings.model_validate({"id": config.projects[0].id, "region": "cn-north-11"})
        assert config.projects[0] == least.model_copy(update={"name": "perception", "credentials": "default"})

    def test_holds_no_secret_itself(self) -> None:
        for credentials in keys_of(EXAMPLE_ALL)["credentials"].values():
            secrets = [credentials.get(key) for key in ("password", "token", "access_key", "secret_key")]
            assert all(secret is None or re.fullmatch(r"\$\{\w+\}", secret) for secret in secrets)


def test_every_key_says_what_it_is_for() -> None:
    for model in MODELS:
        assert "a value" not in model.keys().values()


KEYS = sorted(set().union(*(model.keys() for model in MODELS)))
WORDS = st.one_of(
    st.sampled_from(
        ["30s", "0", "abc", "chain", "token", "password", "${A}", "${", ":1", "1e400", "\ud800", "a@b"]
    ),
    st.text(max_size=8),
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.dates(), st.binary(max_size=3), WORDS
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), LEAVES), inner, max_size=4),
    ),
    max_leaves=20,
)


# Each example writes its file over that of the last one, so sharing the folder is right.
ANY_INPUT = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)


def config_or_problems(folder: Path, content: str | bytes) -> Iterator[str]:
    try:
        config = load_text(folder, content)
    except ConfigError as exc:
        yield from exc.problems
    else:
        assert config.targets()
        json.dumps(config.redacted())


class TestAnyInput:
    """Whatever the file holds, the answer is a Config or lines to read."""

    @ANY_INPUT
    @given(TREES)
    def test_of_yaml_gives_a_config_or_one_line_per_problem(self, tmp_path: Path, tree: object) -> None:
        for problem in config_or_problems(tmp_path, yaml.safe_dump(tree, allow_unicode=True)):
            assert problem.startswith(str(tmp_path))
            assert len(problem.splitlines()) == 1

    @ANY_INPUT
    @given(
        st.dictionaries(st.sampled_from(KEYS), TREES, max_size=6), st.dictionaries(WORDS, TREES, max_size=3)
    )
    @example({}, {"\r": None, "b": None})
    def test_of_the_right_keys_gives_a_config_or_one_line_per_problem(
        self, tmp_path: Path, project: dict[str, object], credentials: dict[str, object]
    ) -> None:
        document = {**project, "projects": [project], "credentials": credentials}
        for problem in config_or_problems(tmp_path, yaml.safe_dump(document)):
            assert len(problem.splitlines()) == 1

    @ANY_INPUT
    @given(
        st.one_of(st.binary(max_size=40), st.text("\t\n :-{}[]&*!|>'\"%@`#?,\\xuU0" + string.ascii_letters))
    )
    @example("%YAML 9.9\n---\n")
    @example("{\ud800: 1}")
    @example("? [a]\n: 1")
    @example("!!bool x: !!null y")
    @example("- !!set {a}\n- !!binary x")
    @example("a: !!bool x\nb: !!int [x]\n<<: 1")
    def test_of_bytes_gives_a_config_or_one_line_per_problem(
        self, tmp_path: Path, content: str | bytes
    ) -> None:
        for problem in config_or_problems(tmp_path, content):
            assert len(problem.splitlines()) == 1


def test_everything_public_is_there() -> None:
    assert all(hasattr(public, name) for name in public.__all__)
