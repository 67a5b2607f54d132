"""What a user reads on the command line: help, completion, and one line for whatever goes wrong."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import which

import pytest
import typer

from exporter.cli import app
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter, project, run_once
from tests.e2e.processes import EXPORTER, plain_environment, run, started
from tests.e2e.simulation import simulations
from tests.e2e.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.e2e

COMMANDS = tuple(typer.main.get_group(app).commands)
CHINESE = "感知"
FULL = Path("/dev/full")
NOBODY = 65_534


@pytest.fixture
def exporter(tmp_path: Path) -> Exporter:
    """An exporter whose API is not there."""
    return Exporter(tmp_path / "exporter", "http://127.0.0.1:9")


@pytest.fixture
def chinese(tmp_path: Path, simulate: Simulate) -> Exporter:
    """An exporter of a project with a Chinese name."""
    api = simulate().url
    return Exporter(tmp_path / "exporter", api, projects=[project(api, CHINESE)])


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    """Give the one line that a command says on standard error, without the program's name."""
    assert done.stderr.startswith("octopus-exporter: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("octopus-exporter: ").rstrip("\n")


# Help and completion


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns_and_cuts_no_sentence(tmp_path: Path, command: str) -> None:
    done = run((*command.split(), "--help"), tmp_path, COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "..." not in done.stdout.replace("COMMAND [ARGS]...", "")


def test_help_lists_every_command_the_exit_codes_and_the_documentation(tmp_path: Path) -> None:
    said = run(("--help",), tmp_path, COLUMNS="80").stdout
    assert all(re.search(rf"^  {command} +[A-Z]", said, re.MULTILINE) for command in COMMANDS)
    assert re.findall(r"^    ([0-9])  ", said, re.MULTILINE) == ["0", "1", "2", "3"]
    root = Path(__file__).parents[2]
    pages = re.findall(r"[\w./-]+\.(?:md|yaml)\b", said)
    assert len(pages) >= 4
    assert all((root / page).is_file() for page in pages)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["che"], ["check"]),
        (["run", "--web.li"], ["--web.listen-address"]),
        (["run", "--log.level", "w"], ["warning"]),
        (["run", "--log.format", ""], ["logfmt", "json"]),
    ],
)
def test_bash_completes_commands_options_and_values(
    tmp_path: Path, words: Sequence[str], expected: list[str]
) -> None:
    """The script that is shown is run in a real bash, which asks the real program."""
    bash = which("bash") or "bash"
    folder = Path(sys.executable).parent
    script = subprocess.run(
        [bash, "-c", "octopus-exporter --show-completion"],
        env=plain_environment() | {"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    ).stdout
    line = ["octopus-exporter", *words]
    ask = (
        f"{script}\nCOMP_WORDS=({' '.join(word or repr('') for word in line)}); COMP_CWORD={len(words)}\n"
        '_octopus_exporter_completion octopus-exporter; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    said = subprocess.run(
        [bash, "-c", ask],
        env=plain_environment() | {"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert said.stdout.split() == expected, said.stderr


# What `run` says


def test_run_says_its_urls_and_once_per_target_what_it_has_listed(tmp_path: Path, simulate: Simulate) -> None:
    exporter = Exporter(tmp_path, simulate(jobs=2_020).url)
    with exporter.ready() as program:
        exporter.scrape_after_polls(3)
        assert program.stop()[0] == 0
    url = f"http://127.0.0.1:{exporter.port}/"
    assert program.errors.count(f"msg=listening url={url} metrics={url}metrics ") == 1
    told = re.findall(r'msg="(first [^"]*)" project=(\S+) workspace=(\S+)', program.errors)
    assert len(told) == 1
    assert re.fullmatch(r"first listing: 2,020 jobs in \d+\.\d s", told[0][0])
    with exporter.ready() as program:
        program.wait_for_line("first poll, on from the ledger: 2,020 jobs in ")


def test_an_address_on_every_interface_is_told_as_this_machine_reaches_it(exporter: Exporter) -> None:
    exporter.change(web={"listen": [f":{exporter.port}"]})
    with exporter.running() as program:
        exporter.wait_until_listening(program)
        program.wait_for_line(f"msg=listening url=http://localhost:{exporter.port}/ ")


# One line for what goes wrong, with what to do


@pytest.mark.parametrize("command", ["audit", "jobs"])
def test_what_reads_the_ledger_says_before_the_first_run_that_there_is_none(
    exporter: Exporter, command: str
) -> None:
    done = run((command, "--config", exporter.write()), exporter.folder)
    assert done.returncode == 3
    assert only_line(done).startswith(
        f"ledger {exporter.ledger}: there is none yet, `octopus-exporter run` makes it"
    )
    assert not exporter.ledger.exists()


def test_an_audit_in_another_folder_names_the_file_that_it_looks_for(exporter: Exporter) -> None:
    exporter.change(ledger={"url": "sqlite:///counts.db"})
    done = run(("audit", "--config", exporter.write()), exporter.folder)
    assert f"ledger {exporter.folder}/counts.db: there is none yet" in only_line(done)


def test_a_ledger_in_a_folder_that_is_not_there(exporter: Exporter) -> None:
    exporter.change(ledger={"url": f"sqlite:///{exporter.folder}/nowhere/ledger.db"})
    done = run(("run", "--config", exporter.write()), exporter.folder)
    assert done.returncode == 3
    assert f"the folder {exporter.folder}/nowhere does not exist: make it, or change ledger.url" in only_line(
        done
    )


def test_a_listen_address_without_its_colon(exporter: Exporter) -> None:
    done = run(("run", "--config", exporter.write(), "--web.listen-address", "21901"), exporter.folder)
    assert done.returncode == 2
    assert only_line(done).startswith(
        "--web.listen-address: found 21901, expected :21901 (a port needs a colon before it)"
    )


def test_a_listen_address_without_its_colon_in_the_file(exporter: Exporter) -> None:
    exporter.change(web={"listen": [21901]})
    done = run(("check", "--config", exporter.write()), exporter.folder)
    assert done.returncode == 2
    assert "web.listen[0]: found 21901, expected :21901 (a port needs a colon" in only_line(done)


@pytest.mark.parametrize("command", ["demo", "simulate"])
def test_a_port_that_is_taken_says_how_to_take_another(tmp_path: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run((command, "--port", str(port), "--jobs", "10"), tmp_path)
    assert done.returncode == 3
    assert only_line(done) == (
        f"cannot listen on 127.0.0.1:{port}: address already in use:"
        " take another port with --port N, or any free one with --port 0"
    )


@pytest.mark.parametrize("command", ["demo", "simulate"])
def test_a_profile_that_does_not_exist(tmp_path: Path, command: str) -> None:
    done = run((command, "--port", "0", "--profile", "wild"), tmp_path)
    assert done.returncode == 2
    assert only_line(done) == "profile: 'wild': expected one of calm, even, bursty"


@pytest.mark.parametrize("speed", ["inf", "nan"])
def test_a_speed_that_is_no_number(tmp_path: Path, speed: str) -> None:
    done = run(("demo", "--port", "0", "--speed", speed), tmp_path)
    assert done.returncode == 2
    assert "--speed" in done.stderr


@pytest.mark.parametrize("command", ["check", "run", "once", "audit", "jobs"])
def test_a_configuration_that_is_a_folder(tmp_path: Path, command: str) -> None:
    done = run((command, "--config", tmp_path), tmp_path)
    assert done.returncode == 2
    assert only_line(done) == f"{tmp_path}: cannot be read (Is a directory), expected a YAML file"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_a_configuration_that_may_not_be_read(exporter: Exporter) -> None:
    file = exporter.write()
    file.chmod(0o600)
    become = f"import os; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})"
    # The interpreter itself may be out of that user's reach: it is loaded before.
    program = f"import exporter.commands.check; from exporter.cli import main; {become}; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "check", "--config", file],
        env=plain_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert only_line(done).startswith(f"{file}: cannot be read (Permission denied)")


# Any encoding


ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "COLUMNS": "120"}


@pytest.mark.parametrize("arguments", [("check", "--online"), ("audit",)])
def test_a_chinese_name_in_an_ascii_locale_is_written_as_escapes_and_one_line_says_so(
    chinese: Exporter, arguments: Sequence[str]
) -> None:
    run_once(chinese)
    done = run((*arguments, "--config", chinese.write()), chinese.folder, **ASCII)
    assert done.returncode == 0, done.stderr
    assert r"\u611f\u77e5" in done.stdout
    assert only_line(done).endswith("are written as escapes: set PYTHONIOENCODING=utf-8 to see them")


def test_a_chinese_name_in_the_locale_c_is_written_as_it_is(chinese: Exporter) -> None:
    """Python takes UTF-8 where a locale says nothing else."""
    run_once(chinese)
    done = run(("audit", "--config", chinese.write()), chinese.folder, LC_ALL="C", COLUMNS="120")
    assert (done.returncode, done.stderr) == (0, "")
    assert CHINESE in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gb18030"])
def test_the_exposition_is_utf_8_whatever_the_encoding(chinese: Exporter, encoding: str) -> None:
    done = subprocess.run(
        [*EXPORTER, "once", "--config", chinese.write()],
        env=plain_environment() | {"PYTHONIOENCODING": encoding},
        cwd=chinese.folder,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert f'octopus_up{{project="{CHINESE}",workspace="0"}} 1'.encode() in done.stdout


def test_a_file_name_that_is_no_text_at_all(exporter: Exporter) -> None:
    odd = os.fsencode(exporter.folder) + b"/\xff.yaml"
    Path(os.fsdecode(odd)).write_bytes(exporter.write().read_bytes())
    done = run(("check", "--config", os.fsdecode(odd)), exporter.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\udcff.yaml: valid" in done.stdout


def test_names_are_text_and_no_markup(tmp_path: Path, simulate: Simulate) -> None:
    api = simulate().url
    exporter = Exporter(tmp_path / "exporter", api, projects=[project(api, "a[/b] :smile: [red]")])
    run_once(exporter)
    for arguments in (("audit",), ("check", "--online")):
        done = run((*arguments, "--config", exporter.write()), exporter.folder, COLUMNS="160")
        assert done.returncode == 0, done.stderr
        assert "a[/b] :smile: [red]" in done.stdout


# Streams that cannot be written to


def closed(descriptor: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command with one of its standard streams closed, as `>&-` does."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {descriptor}>&-', "sh", *EXPORTER, *arguments],
        env=plain_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """An exporter whose commands all do well."""
    folder = tmp_path_factory.mktemp("working")
    with simulations(folder / "simulators", {}) as (simulator,):
        exporter = Exporter(folder / "exporter", simulator.url)
        run_once(exporter)
        yield exporter


PRINTING = {
    "help": ("--help",),
    "help of a command": ("run", "--help"),
    "version": ("--version",),
    "check": ("check", "--config", "FILE"),
    "check --online": ("check", "--online", "--config", "FILE"),
    "once": ("once", "--config", "FILE"),
    "audit": ("audit", "--config", "FILE"),
    "jobs": ("jobs", "--config", "FILE"),
    "jobs as JSON": ("jobs", "--format", "json", "--config", "FILE"),
    "jobs as CSV": ("jobs", "--format", "csv", "--config", "FILE"),
    "files": ("files", "config"),
    "demo": ("demo", "--port", "0", "--jobs", "10"),
    "simulate": ("simulate", "--port", "0", "--jobs", "10"),
}


def arguments_of(what: str, exporter: Exporter) -> list[str]:
    return [str(exporter.write()) if one == "FILE" else one for one in PRINTING[what]]


@pytest.mark.parametrize("what", PRINTING)
def test_a_standard_output_that_is_closed(working: Exporter, what: str) -> None:
    done = closed(1, *arguments_of(what, working))
    assert done.returncode == 1, done.stderr
    assert done.stderr.endswith("octopus-exporter: cannot write to standard output: it is closed\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("what", PRINTING)
def test_a_standard_output_that_is_full(working: Exporter, what: str) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [*EXPORTER, *arguments_of(what, working)],
            env=plain_environment(),
            cwd=working.folder,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    assert done.returncode == 1, done.stderr
    assert done.stderr.endswith(
        "octopus-exporter: cannot write to standard output: No space left on device\n"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("what", PRINTING)
def test_a_reader_that_has_gone_ends_the_command_in_silence(working: Exporter, what: str) -> None:
    """As after `| head`: the pipe has no reader when the command first writes."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*EXPORTER, *arguments_of(what, working)],
            env=plain_environment(),
            cwd=working.folder,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.returncode == 1, done.stderr
    assert "octopus-exporter:" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_writer_of_lines_gets_the_error_that_it_expects() -> None:
    """Events are printed on a terminal by code of their own, which a failure must not end."""
    program = (
        "import sys; from exporter.commands import output\n"
        "with output.guarded_streams():\n"
        "    try: print('x', flush=True)\n"
        "    except OSError as error: output.print_error(f'caught: {error}')\n"
        "    sys.exit(7)\n"
    )
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=plain_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    assert done.stderr.startswith(
        "octopus-exporter: caught: cannot write to standard output: No space left on device\n"
    )


@pytest.mark.parametrize("file", ["&-", "/dev/full"])
def test_an_error_that_nobody_can_read_keeps_its_exit_code(exporter: Exporter, file: str) -> None:
    command = ["/bin/sh", "-c", f'exec "$@" 2>{file}', "sh", *EXPORTER, "check", "--config", "missing.yaml"]
    done = subprocess.run(
        command, env=plain_environment(), capture_output=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert (done.returncode, done.stdout) == (2, b"")


def test_the_exporter_runs_with_all_its_standard_streams_closed(tmp_path: Path, simulate: Simulate) -> None:
    """No file of its own gets the number of one: what is printed would be written into it."""
    exporter = Exporter(tmp_path / "exporter", simulate().url)
    command = (*EXPORTER, "run", "--config", exporter.write())
    shell = ("/bin/sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", *command)
    with started(shell, exporter.folder, name="exporter") as program:
        until(lambda: exporter.is_ready(program), "ready")
        opened = {str(Path(f"/proc/{program.process.pid}/fd/{number}").readlink()) for number in (0, 1, 2)}
        assert opened == {os.devnull}
        assert program.stop()[0] == 0
