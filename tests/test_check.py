"""`check`: how it asks, what it judges, what it warns of, and what its report keeps to itself."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import yaml
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from exporter.commands.check.command import check, config_warnings, report
from exporter.commands.check.display import CheckedTarget, as_paragraph, as_table
from exporter.commands.check.findings import Code, Field, FormWorks, Spec, TotalsVerdict, Word, Works
from exporter.commands.check.prober import probe_targets
from exporter.commands.check.probes import Probe, ProbeResult, next_probes, read_raw
from exporter.commands.check.report import Anonymiser, Report, decoded, encoded, private_texts
from exporter.commands.check.target_findings import findings_of, order_findings, total_findings
from exporter.commands.choices import CheckFormat
from exporter.config import Config, load
from exporter.errors import ConfigError
from exporter.masking import Secrets
from exporter.octopus.tolerant import DOCUMENTED_WORDS
from exporter.octopus.wire import ListQuery, decode_page
from tests.certificates import Authority
from tests.e2e.processes import free_port
from tests.octopus_fakes import ASKED, Api, Handler, answered, page, row

DOCS = Path(__file__).parent.parent / "docs"
PROJECT = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
TOKEN = "t0ken-of-twenty-chars"


def configured(folder: Path, endpoint: str = "https://octopus.test", **sections: Any) -> Config:
    file = folder / "config.yaml"
    said = {
        "projects": [{"id": PROJECT, "name": "perception", "endpoint": endpoint.rstrip("/")}],
        "credentials": {"only": {"type": "token", "token": TOKEN}},
        "poll": {"requests_per_second": 1000},
        "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
    }
    file.write_text(yaml.safe_dump({**said, **sections}))
    return load(file, {})


async def told_of(folder: Path, api: Api, **sections: Any) -> CheckedTarget:
    """Ask a server, whatever it answers."""
    async with api.server() as server:
        (one,) = await probe_targets(
            configured(folder, str(server.make_url("/")), **sections), Secrets(time.time)
        )
    return CheckedTarget.of(one)


def shown(told: CheckedTarget) -> str:
    return as_paragraph(told, Secrets())


# -- asking ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "reason", "times"), [(503, "unavailable", 2), (405, "contract", 1)])
async def test_what_fails_is_asked_twice_at_most(
    tmp_path: Path, status: int, reason: str, times: int
) -> None:
    api = Api([(status, {"error_code": "octopus.400104", "error_msg": "away"})])
    told = await told_of(tmp_path, api)
    assert (told.works, told.answer, len(api.asked)) == (False, f"fails: {reason}", times)


async def test_the_other_path_of_the_documentation_is_tried(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/data/system-job"):
            return web.json_response({"error_code": "APIGW.0101"}, status=404)
        return web.json_response(page(row(), page_info={"total": 1}))

    api = Api([answer])
    told = await told_of(tmp_path, api)
    assert (told.answer, len(api.asked)) == ("fails: contract", 2)
    assert "system-job answers: set it as the project's path in the configuration" in shown(told)
    (target,) = report(configured(tmp_path), [told], Secrets()).targets
    assert (target.path, target.other_path) == ("system-jobs", "system-job")


async def test_what_fails_once_is_asked_once_more(tmp_path: Path) -> None:
    """So a server that breaks down now and then is judged as one that does not."""
    asked: set[str] = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.query_string not in asked:
            asked.add(request.query_string)
            return web.Response(status=502)
        return web.json_response(page(row(), page_info={"total": 1}))

    api = Api([answer])
    told = await told_of(tmp_path, api)
    assert told.probed.cost.complete
    assert len(api.asked) == 2 * len(asked) < 60


async def test_a_login_that_fails_is_tried_twice_and_not_twice_for_each_request(tmp_path: Path) -> None:
    api = Api([(503, b"")])
    async with api.server() as iam:
        password = {
            "type": "password",
            "domain": "account",
            "user": "someone",
            "password": "a password",
            "iam_endpoint": str(iam.make_url("/")).rstrip("/"),
        }
        config = configured(tmp_path, f"http://127.0.0.1:{free_port()}", credentials={"only": password})
        (one,) = await probe_targets(config, Secrets(time.time))
    assert [request.path for request in api.asked] == ["/v3/auth/tokens"] * 2
    assert CheckedTarget.of(one).answer == "fails: unavailable"


async def test_a_limit_that_is_refused_is_not_the_end(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if int(request.query["limit"]) > 30:
            return web.json_response({"error_code": "octopus.400000"}, status=400)
        return web.json_response(page(row(), page_info={"total": 1}))

    told = await told_of(tmp_path, Api([answer]))
    assert told.works
    assert told.findings is not None
    assert told.findings.page.above == "refused"


async def test_a_server_that_breaks_down_is_left_alone(tmp_path: Path) -> None:
    """What came until then is judged."""
    api = Api([(200, page(row(), page_info={"total": 1})), (500, b"")])
    told = await told_of(tmp_path, api)
    assert told.works
    assert not told.probed.cost.complete
    assert len(api.asked) < 20
    assert "not everything was asked" in shown(told)


async def test_a_server_that_hangs_costs_no_more_than_the_time_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.commands.check.prober.MOST_SECONDS", 0.2)
    over = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    api = Api([hang])
    async with api.server() as server:
        try:
            config = configured(tmp_path, str(server.make_url("/")))
            (one,) = await probe_targets(config, Secrets(time.time))
        finally:
            over.set()
    told = CheckedTarget.of(one)
    assert (told.answer, len(api.asked)) == ("fails: timeout", 1)
    assert "no answer within the 0.2 s that a target is given" in shown(told)


async def test_a_fault_of_the_exporter_costs_one_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("exporter.commands.check.prober.next_probes", fail)
    told = await told_of(tmp_path, Api([(200, page(row()))]))
    assert told.answer == "fails: internal"
    assert "please report it" in shown(told)


SECONDS = "create_at: found 1700000000, not in milliseconds (expected 1000000000000 to 999999999999999)"


async def test_a_row_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    rows = [row(1), row(2, create_at=1_700_000_000)]
    told = await told_of(tmp_path, Api([(200, page(*rows, page_info={"total": 2}))]))
    assert told.works
    assert f"2 came, 1 cannot be read: {SECONDS} (1)" in shown(told)


@pytest.mark.parametrize("readable", [0, 30])
async def test_so_many_unreadable_rows_that_polls_fail_are_a_failure(tmp_path: Path, readable: int) -> None:
    """Whether the whole answer is refused or not, it is told what the rows are like."""
    rows = [row(number, create_at=1_700_000_000 if number > readable else ...) for number in range(1, 41)]
    rows = [{name: value for name, value in one.items() if value is not ...} for one in rows]
    for one in rows:
        one.setdefault("create_at", 1_700_000_000_000)
    told = await told_of(tmp_path, Api([(200, page(*rows, page_info={"total": 40}))]))
    assert not told.works
    assert told.findings is not None
    assert told.findings.rows.too_many_unreadable
    (unreadable,) = told.findings.rows.unreadable
    assert (unreadable.field, unreadable.found, unreadable.rows) == ("create_at", "in seconds", 40 - readable)
    assert "in seconds" in shown(told)


async def test_ids_and_messages_of_a_failure_are_whole(tmp_path: Path) -> None:
    request_id = "0123456789abcdef0123456789abcdef"
    body = {"error_code": "octopus.400004", "error_msg": f"project {PROJECT} " + "is unknown " * 15}
    told = await told_of(tmp_path, Api([(404, body, {"X-Request-Id": request_id})]))
    lines = shown(told).splitlines()
    assert lines[0] == "perception, workspace 0 (credentials only) fails:"
    assert any(line.split() == ["request", "id", request_id] for line in lines)
    assert any(body["error_msg"].strip() in line for line in lines)


async def test_a_table_in_a_narrow_terminal_cuts_nothing(tmp_path: Path) -> None:
    told = await told_of(tmp_path, Api([(404, b"")]))
    console = Console(width=40, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(as_table([told], Secrets()))
    shown_table = console.file.getvalue()
    assert "…" not in shown_table
    cells = [line.split("│") for line in shown_table.splitlines() if "│" in line]
    assert "".join(cell[1].strip() for cell in cells) == "perception"


# -- judging ---------------------------------------------------------------------------------------------


def answer_of(question: Probe, *rows: dict[str, Any], total: int | None = None) -> ProbeResult:
    info = {} if total is None else {"page_info": {"total": total}}
    response = answered(page(*rows, **info))
    return ProbeResult(question, 0, 0, decode_page(response, ASKED), None, read_raw(response))


def jobs(first: int, number: int, **fields: Any) -> list[dict[str, Any]]:
    return [row(one, create_at=1_700_000_000_000 - one, **fields) for one in range(first, first + number)]


FIRST = Probe("page", ListQuery(limit=200))


def with_totals(*totals: tuple[Probe, int, int]) -> list[ProbeResult]:
    return [answer_of(question, *jobs(1, rows), total=total) for question, rows, total in totals]


@pytest.mark.parametrize(
    ("totals", "verdict", "rows_off"),
    [
        ([(FIRST, 10, 10)], "agree", None),
        # A full page does not prove its total.
        ([(FIRST, 200, 5000)], "unknown", None),
        ([(FIRST, 200, 5000), (Probe("failed", ListQuery(limit=200)), 3, 3)], "agree", None),
        ([(FIRST, 10, 12)], "too high", 2),
        ([(FIRST, 10, 9)], "too low", -1),
        ([(FIRST, 10, 9), (Probe("failed", ListQuery(limit=200)), 3, 4)], "differ both ways", -1),
    ],
)
def test_totals_are_judged_by_the_rows_beside_them(
    totals: Sequence[tuple[Probe, int, int]], verdict: str, rows_off: int | None
) -> None:
    found = total_findings(with_totals(*totals))
    assert (found.verdict, found.rows_off) == (verdict, rows_off)


def test_an_order_has_to_fit_every_page() -> None:
    descending = answer_of(FIRST, *jobs(1, 5))
    mixed = answer_of(Probe("failed", ListQuery()), *jobs(9, 2), *jobs(6, 3))
    assert order_findings([descending]) == ("created, descending",)
    assert order_findings([descending, mixed]) == ()


STATUSES = Probe(
    "statuses", ListQuery(statuses=("FINISHED", "STOPPED"), limit=3), "array", ("FINISHED", "STOPPED")
)
ONE = Probe("statuses", ListQuery(statuses=("FINISHED",), limit=3), "single", ("FINISHED",))


@pytest.mark.parametrize(
    ("found", "verdict"), [(True, "works"), (False, "first value only"), (None, "unknown")]
)
def test_where_a_page_is_full_a_single_job_tells_whether_both_values_count(
    found: bool | None, verdict: str
) -> None:
    finished, stopped = jobs(1, 3, status="FINISHED"), jobs(4, 4, status="STOPPED")
    answers = [
        answer_of(Probe("page", ListQuery(limit=200)), *finished, *stopped, *jobs(8, 9)),
        answer_of(ONE, *finished),
        answer_of(STATUSES, *finished),
    ]
    (pair,) = [one for one in next_probes(answers, "system-jobs") if one.topic == "pair"]
    assert (pair.query.statuses, pair.query.job_id) == (("FINISHED", "STOPPED"), 4)
    if found is not None:
        answers.append(answer_of(pair, *(stopped[:1] if found else ())))
    assert findings_of(answers, None).filters.statuses.repeated_keys == verdict


def test_probes_come_to_an_end_whatever_is_answered() -> None:
    answers: list[ProbeResult] = []
    while probes := next_probes(answers, "system-jobs"):
        answers += [answer_of(probe, *jobs(1, 5, status="RUNNING"), total=5) for probe in probes]
        assert len(answers) < 60
    assert len({answer.probe for answer in answers}) == len(answers)


# -- the report ------------------------------------------------------------------------------------------

EXAMPLE = {"OCTOPUS_DOMAIN": "a", "OCTOPUS_USER": "b", "OCTOPUS_PASSWORD": "c"}
SECRETIVE = {
    "projects": [
        {
            "id": PROJECT,
            "name": "night-drives",
            "endpoint": "https://octopus.test",
            "workspaces": ["Workspace Seven"],
            "credentials": "our.own",
        }
    ],
    "credentials": {"our.own": {"type": "token", "token": "hunter-two-token"}},
}
PRIVATE = ("night-drives", PROJECT, "Workspace Seven", "our.own", "hunter-two-token", "octopus.test")
MESSAGE = "THE_PACKAGE_OF_CAR_SEVEN is broken"
IDS = (2**53 + 7, 987654321098765)


def encodings(text: str) -> list[str]:
    raw = text.encode()
    word = as_word(text)
    spelt = [text, text.lower(), f"A_{text}_B", word, f"A_{word}_B", word.replace("_", "")]
    return [*spelt, base64.b64encode(raw).decode(), raw.hex(), raw.hex().upper()]


def as_word(text: str) -> str:
    """Spell a name as the API spells its types and statuses."""
    return re.sub(r"[^A-Z0-9]+", "_", text.upper())


def as_letters(text: str) -> str:
    return re.sub("[^A-Z0-9]", "", text.upper())


async def answer_in_private_words(request: web.Request) -> web.StreamResponse:
    """Repeat what is private in every field that is a word, a code, a spec or a field's name."""
    words = [one for text in (*PRIVATE, *map(str, IDS), MESSAGE) for one in encodings(text)]
    rows = [
        row(
            IDS[0] + number,
            job_type=word,
            status=word,
            msg_code=word,
            msg_error=MESSAGE,
            resource_spec=word,
            data_id="THE_DATA_ID",
            project_id=PROJECT,
            **{word: word, word.lower(): 1},
        )
        for number, word in enumerate([*words, "THE_DATA_ID", "ARCHIVED"])
    ]
    return web.json_response(page(*rows, page_info={"total": len(rows)}))


async def refuse_in_private_words(request: web.Request) -> web.StreamResponse:
    return web.json_response({"error_code": "NIGHT_DRIVES", "error_msg": MESSAGE}, status=404)


@pytest.mark.parametrize("handler", [answer_in_private_words, refuse_in_private_words])
async def test_the_report_has_no_name_id_text_or_secret(tmp_path: Path, handler: Handler) -> None:
    async with Api([handler]).server() as server:
        (project,) = SECRETIVE["projects"]
        sections = SECRETIVE | {"projects": [{**project, "endpoint": str(server.make_url("/")).rstrip("/")}]}
        config, secrets = configured(tmp_path, **sections), Secrets(time.time)
        told = [CheckedTarget.of(one) for one in await probe_targets(config, secrets)]
    written = encoded(report(config, told, secrets)).decode()
    hidden = (*PRIVATE, *map(str, IDS), MESSAGE, "THE_PACKAGE_OF_CAR_SEVEN", "THE_DATA_ID", "127.0.0.1")
    assert [text for text in hidden if text.lower() in written.lower()] == []
    # The last is not in this configuration.
    assert [text for text in (*PRIVATE[:-1], MESSAGE) if as_letters(text) in as_letters(written)] == []
    # In no encoding either, nor any piece of twelve characters.
    assert Secrets.of(*hidden).masked(written) == written
    if handler is answer_in_private_words:
        assert {"name": "ARCHIVED", "rows": 1, "documented": False} in json.loads(written)["targets"][0][
            "findings"
        ]["statuses"]


async def test_many_words_make_neither_a_long_output_nor_a_long_report(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        rows = [
            row(
                n,
                job_type=f"T{n}",
                status=f"s {n}",
                msg_code=f"c {n}",
                resource_spec="x" * 900 + str(n),
                **{f"f{n}": n},
            )
            for n in range(300)
        ]
        return web.json_response(page(*rows, page_info={"total": len(rows)}))

    told = await told_of(tmp_path, Api([answer]))
    assert len(shown(told)) < 25_000
    assert len(encoded(report(configured(tmp_path), [told], Secrets()))) < 50_000


TEXTS = st.text(max_size=60) | st.from_regex(r"[A-Z0-9_]{1,50}", fullmatch=True)


@given(st.lists(TEXTS, max_size=5), TEXTS)
def test_whatever_a_server_calls_things_fits_the_schema(private: list[str], text: str) -> None:
    anonymiser = Anonymiser(private, [], lambda one: one)
    for kind, given_to in (
        (Word, anonymiser.word),
        (Code, anonymiser.code),
        (Spec, anonymiser.spec),
        (Field, anonymiser.field),
    ):
        msgspec.convert(given_to(text), kind)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("FINISHED", True),
        ("ARCHIVED", True),
        ("RE_UPLOAD2", True),
        ("Finished", False),
        ("0A1B2C3D4E5F", False),
        ("A1B2C3D4E5F6", False),
        ("A" * 41, False),
        ("ARCHIVED BY LI LEI", False),
    ],
)
def test_a_word_stays_if_it_looks_like_one(text: str, fits: bool) -> None:
    assert (Anonymiser([], [], lambda one: one).word(text) == text) is fits


@pytest.mark.parametrize(
    "text", ["4Core_16GiB", "2.1Core_4.1GiB", "P100_1Gpu_2.1Core_4.1GiB", "Ascend910_8Gpu_96Core_720GiB"]
)
def test_documented_specs_stay(text: str) -> None:
    assert Anonymiser([], [], lambda one: one).spec(text) == text


@pytest.mark.parametrize("text", ["0", "-1", "3001", "octopus.400001", "APIGW.0301"])
def test_codes_stay(text: str) -> None:
    assert Anonymiser([], ["300123"], lambda one: one).code(text) == text


def test_a_piece_of_a_token_is_no_word() -> None:
    anonymiser = Anonymiser([], [], Secrets.of("ABCDEFGHIJKLMNOP").masked)
    assert anonymiser.word("CDEFGHIJKLMNO") == "text-1"


NAMES = ("acme-titan", "my-creds", "octopus-demo", "li lei", "NightDrives", "泰坦.west2", "x1", "run", "Café")


@pytest.mark.parametrize(
    "text",
    [
        "ACME_TITAN",
        "ACME_TITAN_NIGHTLY",
        "ACMETITAN2",
        "RE_ACME_TITAN",
        "TITAN_NIGHTLY",
        "NIGHTLY_ACME2",
        "MY_CREDS_X",
        "CREDS",
        "OCTOPUS_DEMO",
        "DEMO_UPLOAD",
        "LI_LEI_ARCHIVED",
        "NIGHT_DRIVES_2",
        "DRIVES",
        "WEST2_IMPORT",
        "CAFE_ARCHIVED",
        "JOB_X1",
        "RUN_ARCHIVED",
    ],
)
def test_a_name_with_other_letters_and_separators_is_still_that_name(text: str) -> None:
    assert Anonymiser(NAMES, [], lambda one: one).word(text) == "text-1"
    assert Anonymiser(NAMES, [], lambda one: one).field(text.lower()) == "text-1"


@pytest.mark.parametrize("text", ["AXMEN", "PRUNED", "OCTOPUS_ARCHIVED", "BOX12", "REPACK_CLIPS"])
def test_a_short_name_or_a_documented_word_in_a_name_hides_no_other_word(text: str) -> None:
    assert Anonymiser(NAMES, [], lambda one: one).word(text) == text


@pytest.mark.parametrize("name", [*sorted(DOCUMENTED_WORDS), "run", "upload", "scenario", "a", "0"])
def test_no_name_hides_a_documented_word(name: str) -> None:
    anonymiser = Anonymiser([name, name.lower()], [name], lambda one: one)
    assert [word for word in DOCUMENTED_WORDS if anonymiser.word(word) != word] == []


@pytest.mark.parametrize("name", ["octopus", "gpu", "core", "octopus-gib", "1", "16", "30", "3001"])
def test_no_name_hides_a_documented_form_of_code_or_spec(name: str) -> None:
    anonymiser = Anonymiser([name], [], lambda one: one)
    assert anonymiser.code("octopus.400001") == "octopus.400001"
    assert anonymiser.code("3001") == "3001"
    assert anonymiser.spec("P100_1Gpu_2Core_16GiB") == "P100_1Gpu_2Core_16GiB"


def test_a_number_in_a_name_is_no_code_and_no_resource() -> None:
    anonymiser = Anonymiser(["acme-300123", "p100"], [], lambda one: one)
    assert anonymiser.code("octopus.300123") == "text-1"
    assert anonymiser.spec("P100_1Gpu_2Core_16GiB") == "text-2"


@pytest.mark.parametrize(
    ("message", "word", "stays"),
    [
        ("the package of car-seven", "THE_PACKAGE_OF_CAR_SEVEN", False),
        ("upload failed", "RE_UPLOAD_FAILED", True),
        ("ok", "OK", True),
        ("失败: ARCHIVED", "ARCHIVED", True),
        ("[400104]", "ARCHIVED", True),
    ],
)
def test_a_message_is_compared_as_a_whole(message: str, word: str, stays: bool) -> None:
    anonymiser = Anonymiser([], private_texts([{"msg_error": message}]), lambda one: one)
    assert (anonymiser.word(word) == word) is stays
    assert anonymiser.code("octopus.400104") == "octopus.400104"


def test_a_report_with_anything_else_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        decoded(b'{"version": "1.0", "date": "2026-01-01", "targets": [], "note": "hello"}')


def documented_keys(kind: type[msgspec.Struct]) -> Iterator[str]:
    """Give every key of the report, however deep."""
    for found in msgspec.structs.fields(kind):
        yield found.name
        for inner in structures(found.type):
            yield from documented_keys(inner)


def structures(kind: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for inner in get_args(kind):
        yield from structures(inner)


@pytest.mark.parametrize("name", ["first-contact.md", "first-contact.zh-CN.md"])
def test_the_documentation_has_every_key_and_every_verdict(name: str) -> None:
    text = (DOCS / name).read_text()
    verdicts = {*get_args(FormWorks), *get_args(Works), *get_args(TotalsVerdict)}
    assert {key for key in (*documented_keys(Report), *verdicts) if f"`{key}`" not in text} == set()


# -- the command -----------------------------------------------------------------------------------------


def checked(config: Config, folder: Path, **options: Any) -> bool:
    given = {"online": False, "output": CheckFormat.TABLE, "report_file": None, **options}
    return check(config, folder / "config.yaml", **given)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"report_file": "report.json"},
            "--report: there is nothing to report without --online, expected both",
        ),
        (
            {"report_file": "none/r.json", "online": True},
            "No such file or directory, expected a file that can be",
        ),
    ],
)
def test_a_report_that_cannot_be_written_is_told_before_anything_is_asked(
    tmp_path: Path, fields: dict[str, Any], problem: str
) -> None:
    fields = {**fields, "report_file": tmp_path / fields["report_file"]}
    with pytest.raises(ConfigError, match=problem):
        checked(configured(tmp_path), tmp_path, **fields)


@pytest.fixture
def with_files(tmp_path: Path) -> Config:
    """Give a configuration that names a file of each kind."""
    pair = Authority(tmp_path).issue("server", "localhost")
    (tmp_path / "web.yaml").write_text(
        f"tls_server_config: {{cert_file: {pair.certificate.name}, key_file: {pair.key.name}}}\n"
    )
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "ledger.db").write_bytes(b"counts")
    return configured(
        tmp_path,
        credentials={"only": {"type": "token", "token_file": "token"}},
        web={"config_file": "web.yaml"},
        events={"to": "events.jsonl"},
    )


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("config.yaml", "is the configuration"),
        ("token", "credentials.only.token_file"),
        ("web.yaml", "web.config_file"),
        ("server.key", "web.config_file"),
        ("ledger.db", "ledger.url"),
        ("ledger.db-wal", "ledger.url"),
        ("events.jsonl", "events.to"),
    ],
)
@pytest.mark.parametrize("kind", ["itself", "symbolic link", "hard link", "other path"])
def test_a_report_never_replaces_the_configuration_or_what_it_names(
    tmp_path: Path, with_files: Config, name: str, named: str, kind: str
) -> None:
    file = tmp_path / name
    before = file.read_bytes() if file.exists() else None
    path = another_path(file, kind)
    with pytest.raises(ConfigError) as raised:
        checked(with_files, tmp_path, online=True, report_file=path)
    (problem,) = raised.value.problems
    assert problem.startswith(f"--report: {path}: ")
    assert named in problem
    assert problem.endswith(", expected another file")
    assert (file.read_bytes() if file.exists() else None) == before


def another_path(file: Path, kind: str) -> Path:
    """Give a path that leads to the file."""
    link = file.with_name("report.json")
    match kind:
        case "symbolic link":
            link.symlink_to(file)
            return link
        case "hard link" if file.exists():
            link.hardlink_to(file)
            return link
        case "other path":
            return file.parent / ".." / file.parent.name / file.name
        case _:
            return file


def test_the_example_gives_no_cause_for_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger beside it can be made."""
    monkeypatch.chdir(tmp_path)
    assert config_warnings(load(DOCS.parent / "config.example.yaml", EXAMPLE)) == []


def test_a_valid_file_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(configured(tmp_path), tmp_path, output=CheckFormat.JSON)
    said = json.loads(capsys.readouterr().out)
    assert said == {
        "config": str(tmp_path / "config.yaml"),
        "valid": True,
        "projects": 1,
        "targets": 1,
        "warnings": [],
        "online": None,
        "ledger": None,
    }


# -- doubts ----------------------------------------------------------------------------------------------


def two_projects(**fields: Any) -> dict[str, Any]:
    one = {"id": PROJECT, "name": "one", "endpoint": "https://octopus.test"}
    return {"projects": [one, {**one, "name": "two", **fields}]}


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({}, ()),
        ({"projects": [{"id": PROJECT, "region": "cn-north-11"}]}, ()),
        ({"projects": [{"id": PROJECT, "region": "cn-nroth-11"}]}, ("projects[0].region: cn-nroth-11",)),
        (
            {"projects": [{"id": "perception", "region": "cn-north-4"}]},
            ("projects[0].id: perception is not",),
        ),
        (two_projects(), ("projects[1].id: the same project as projects[0], named one: the jobs of",)),
        (two_projects(workspaces=["7"]), ("named one: sums over",)),
        (two_projects(endpoint="https://other.test"), ()),
        ({"poll": {"page_size": 10}}, ("poll.page_size: 10",)),
        ({"poll": {"interval": "20m"}}, ("poll.audit_interval: 600s is less than poll.interval, 1200s",)),
        (
            {"poll": {"lookback": "5m"}},
            ("poll.lookback: 300s is less than poll.overlap, 600s",),
        ),
        ({"poll": {"lookback": "all"}}, ()),
        ({"poll": {"requests_per_second": 0.05}}, ("1 targets at https://octopus.test take 60 s",)),
        ({"ledger": {"url": "sqlite://"}}, ()),
        ({"ledger": {"url": "postgresql://localhost/database"}}, ()),
        (
            {"ledger": {"url": "postgresql://host/database"}},
            ("ledger.url: sslmode is prefer, which does not check that this server is the right one",),
        ),
        (
            {"ledger": {"url": "postgresql://host/database?sslmode=verify-full&sslrootcert=/nowhere/ca.pem"}},
            ("ledger.url: sslrootcert: /nowhere/ca.pem: cannot be read (No such file or directory)",),
        ),
        ({"ledger": {"url": "sqlite:////nowhere/ledger.db"}}, ("the folder /nowhere does not exist",)),
        ({"ledger": {"url": "sqlite:////tmp"}}, ("/tmp is a folder, expected a file",)),
        ({"events": {"to": "stdout"}}, ()),
        ({"events": {"to": "/nowhere/events.json"}}, ("events.to: the folder /nowhere does not exist",)),
    ],
)
def test_what_is_valid_and_unlikely_is_a_warning(
    tmp_path: Path, sections: dict[str, Any], said: tuple[str, ...]
) -> None:
    found = config_warnings(configured(tmp_path, **sections))
    assert len(found) == len(said)
    assert all(part in line for part, line in zip(said, found, strict=True))


@pytest.mark.parametrize("locked", [".", "ledger.db"])
def test_a_ledger_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked: str
) -> None:
    """The system's answer is made up, since a test may run as root, who may write everywhere."""
    (tmp_path / "ledger.db").touch()
    place = tmp_path / locked
    monkeypatch.setattr("os.access", lambda path, mode: path != place)
    (said,) = config_warnings(configured(tmp_path))
    assert said == f"ledger.url: {place} cannot be written by this user: run cannot start"


def test_a_warning_is_a_line_on_standard_error_and_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(tmp_path, poll={"page_size": 10})
    assert checked(config, tmp_path)
    said = capsys.readouterr()
    assert said.out == f"{tmp_path}/config.yaml: valid, 1 targets in 1 projects\n"
    assert said.err.startswith(
        f"octopus-exporter: warning: {tmp_path}/config.yaml: poll.page_size: 10 is small"
    )
