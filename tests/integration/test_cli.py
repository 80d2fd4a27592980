"""What an operator sees of `cowrie-enrich`: exit codes, messages in one line, tables."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from typer.main import get_command
from typer.testing import CliRunner, Result

from cowrie_enrich_dagster import frames
from cowrie_enrich_dagster.cli import app
from cowrie_enrich_dagster.pacing import fingerprint
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import Simulator, SimulatorConfig
from cowrie_enrich_dagster.storage import migrate
from cowrie_enrich_dagster.storage.engine import Database, DatabaseUnusable
from tests import warm
from tests.all_services import hashes, write_attacks, write_mmdb
from tests.logs import START, routable_ips, write_logs
from tests.servers import free_port

DAY = "2025-11-01"
COMMANDS = [
    ("run", "--days", DAY),
    ("plan", "--days", DAY),
    ("drain",),
    ("quota",),
    ("metrics",),
    ("export", "--days", DAY, "--format", "csv"),
    ("cache", "stats"),
    ("db", "current"),
    ("db", "upgrade"),
]


class Cli:
    """`cowrie-enrich` in an environment that tests change as they need."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def __call__(self, *arguments: str, answer: str = "", **changes: str | Path) -> Result:
        """Call it in this process. Nothing may end in a traceback."""
        given = {**self.environment, **{name: str(value) for name, value in changes.items()}}
        before = signal.getsignal(signal.SIGTERM)
        result = CliRunner().invoke(app, arguments, input=answer, env=given)
        signal.signal(signal.SIGTERM, before)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def process(
        self, *arguments: str, stdout: str | None = None, **changes: str | Path
    ) -> subprocess.CompletedProcess[str]:
        """Call it in a process of its own; `stdout` is a file to write to."""
        given = {**os.environ, **self.environment, **{name: str(value) for name, value in changes.items()}}
        with Path(stdout or os.devnull).open("w") as file:
            result = warm.run(
                *warm.CLI, *arguments, env=given, stdout=file if stdout else warm.PIPE, timeout=60
            )
        assert "Traceback" not in result.stderr
        assert "Exception ignored" not in result.stderr
        return result


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(SimulatorConfig()) as running:
        yield running


_built = cache(get_command)  # a process is called once; here this would be half of what a call costs


def on_twelve_sessions(folder: Path, simulator: Simulator) -> Cli:
    """The command on four sessions of each of three addresses; its home is not there yet."""
    return Cli(
        {
            "COWRIE_ENRICH_HOME": str(folder / "home"),
            "COWRIE_LOG_DIR": str(write_logs(folder / "logs", routable_ips(3), sessions_each=4)),
            "DSHIELD_API_URL": simulator.url("dshield"),
            "DSHIELD_EMAIL": "tests@example.org",
            "DSHIELD_RATE_LIMIT": "1000",
            "ENABLE_REDIS_CACHE": "false",
            "ENRICH_FEEDS": "none",
            "ENRICH_SERVICES": "dshield",
        }
    )


@pytest.fixture
def new_cli(tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command where nobody has made its home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("typer.testing._get_command", _built)
    return on_twelve_sessions(tmp_path, simulator)


@pytest.fixture
def cli(new_cli: Cli, tmp_path: Path, sqlite_template: Path) -> Cli:
    """The command with the database in its home that its first run would make."""
    (tmp_path / "home").mkdir(mode=0o700)
    shutil.copy(sqlite_template, tmp_path / "home" / "enrich.db")
    return new_cli


@pytest.fixture
def database(cli: Cli) -> Iterator[Database]:
    """The database of the command's home."""
    opened = Database(load_settings(cli.environment).database_url.get_secret_value())
    yield opened
    opened.close()


def parts(cli: Cli, **changes: str | Path) -> dict[str, tuple[str, str]]:
    """What `doctor` says of each part: its state and the detail."""
    result = cli("doctor", "--json", **changes)
    found = json.loads(result.stdout)
    assert result.exit_code == (0 if found["healthy"] else 1)
    return {part["name"]: (part["state"], part["detail"]) for part in found["parts"]}


def cells(output: str, first: str) -> list[list[str]]:
    """The rows of a printed table whose first cell is `first`; empty cells are left out."""
    rows = [re.split(" {2,}", line.strip()) for line in output.splitlines()]
    return [row for row in rows if row[0] == first]


def the_error(result: Result | subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr."""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


# --- plan


def test_plan_reads_the_logs_first(new_cli: Cli, simulator: Simulator) -> None:
    """On a new home the plan knows what a run will ask, and asks nothing."""
    found = json.loads(new_cli("plan", "--days", DAY, "--json").stdout)
    assert (found["addresses"], found["services"]["dshield"]["wanted"]) == (3, 3)
    assert simulator.requests() == []


def test_plan_without_logs_counts_on_what_is_known(cli: Cli) -> None:
    """Without a log folder the plan is made of what was read before; it says so when that is nothing."""
    result = cli("plan", "--days", DAY, COWRIE_LOG_DIR="")
    assert result.exit_code == 0
    assert "COWRIE_LOG_DIR is not set" in result.stderr
    cli("run", "--days", DAY)
    result = cli("plan", "--days", DAY, "--json", COWRIE_LOG_DIR="")
    assert json.loads(result.stdout)["addresses"] == 3
    assert "COWRIE_LOG_DIR" not in result.stderr


def test_plan_says_where_it_found_nothing(cli: Cli, tmp_path: Path) -> None:
    """Days that the logs do not have, and a log folder that is not there."""
    result = cli("plan", "--days", "2024-02-29")
    assert result.exit_code == 0
    assert f"no addresses of 2024-02-29 in the logs under {tmp_path / 'logs'}" in result.stderr
    result = cli("plan", "--days", DAY, COWRIE_LOG_DIR=tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "COWRIE_LOG_DIR" in the_error(result)


def test_plan_shows_no_columns_of_zeros_and_long_times_in_days(cli: Cli) -> None:
    """Sources that answer nothing are left out of the table; weeks are not told in hours."""
    shown = cli("plan", "--days", DAY, DSHIELD_RATE_LIMIT="0.00001").stdout
    (row,) = cells(shown, "dshield")[:1]
    assert row == ["dshield", "3", "3", "3", "–", "2.3 days"]
    assert "redis" not in shown
    cli("run", "--days", DAY)
    shown = cli("plan", "--days", DAY).stdout
    assert cells(shown, "dshield") == [["dshield", "3", "3", "–", "–"]]
    assert "database" in shown


# --- a home or database that cannot be used


@pytest.mark.parametrize("command", COMMANDS)
def test_a_home_that_cannot_be_made(new_cli: Cli, command: tuple[str, ...]) -> None:
    """Every command ends with exit 2 and a line that names the setting and the folder."""
    result = new_cli(*command, COWRIE_ENRICH_HOME="/proc/cowrie")
    assert result.exit_code == 2
    assert "COWRIE_ENRICH_HOME" in the_error(result)
    assert "/proc/cowrie" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("COWRIE_ENRICH_HOME", "file", "file"),
        ("COWRIE_ENRICH_HOME", "file/home", "file/home"),
        ("COWRIE_ENRICH_HOME", "blocked", "blocked/enrich.db"),
        ("COWRIE_ENRICH_HOME", "garbage", "garbage/enrich.db"),
        ("DATABASE_URL", "sqlite:///file/x.db", "file"),
        ("DATABASE_URL", "sqlite:///blocked/enrich.db", "blocked/enrich.db"),
        ("DATABASE_URL", "sqlite:///garbage/enrich.db", "garbage/enrich.db"),
    ],
)
def test_a_database_that_cannot_be_opened(
    cli: Cli, tmp_path: Path, setting: str, value: str, named: str
) -> None:
    """The setting that was used and the path are named; `doctor` tells it of one part and goes on."""
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "blocked" / "enrich.db").mkdir(parents=True)
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "enrich.db").write_text("not a database" * 500)
    result = cli("quota", **{setting: value})
    assert result.exit_code == 2
    assert setting in the_error(result)
    assert named in result.stderr
    assert ("DATABASE_URL" in result.stderr) == (setting == "DATABASE_URL")
    found = parts(cli, **{setting: value})
    state, detail = found["database"]
    assert state == "failed"
    assert setting in detail
    assert named in detail
    assert (found["logs"][0], found["dshield"][0]) == ("ok", "ok")


def test_a_database_server_out_of_reach_is_no_bad_usage(cli: Cli) -> None:
    """Exit 1: it may be there the next time."""
    result = cli("quota", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert result.exit_code == 1
    assert "DATABASE_URL" in result.stderr.splitlines()[0]


def test_only_its_owner_can_look_into_the_home(new_cli: Cli, tmp_path: Path) -> None:
    """The database holds what attackers typed; a folder that is there already keeps its mode."""
    new_cli("drain")
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
    (tmp_path / "shared").mkdir(mode=0o755)
    new_cli("drain", COWRIE_ENRICH_HOME=tmp_path / "shared")
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o755


# --- a SQLite file that is not there yet, or is old

LOOKING = [
    ("quota",),
    ("metrics",),
    ("export", "--days", DAY, "--format", "csv"),
    ("cache", "stats"),
    ("cache", "cleanup"),
    ("cache", "purge", "--yes"),
    ("cache", "import", "logs"),
    ("db", "current"),
    ("db", "downgrade", "v11"),
]
MAKING = [("run", "--days", DAY), ("plan", "--days", DAY), ("drain",), ("refresh",), ("db", "upgrade")]


@pytest.fixture(params=["COWRIE_ENRICH_HOME", "DATABASE_URL"])
def file(request: pytest.FixtureRequest, new_cli: Cli, tmp_path: Path) -> Path:
    """Where the SQLite file of the settings is, before anybody made it."""
    if request.param == "DATABASE_URL":
        new_cli.environment["DATABASE_URL"] = f"sqlite:///{tmp_path}/home/named.db"
        return tmp_path / "home" / "named.db"
    return tmp_path / "home" / "enrich.db"


@pytest.mark.parametrize("command", LOOKING)
def test_looking_makes_no_database(new_cli: Cli, file: Path, command: tuple[str, ...]) -> None:
    """Exit 2, the setting, the path and the command that makes it; no file comes of it, nor a folder."""
    result = new_cli(*command)
    assert (result.exit_code, result.stdout) == (2, "")
    setting = "DATABASE_URL" if "DATABASE_URL" in new_cli.environment else "COWRIE_ENRICH_HOME"
    told = f"error: {setting}: there is no database {file} yet; cowrie-enrich run makes it"
    assert the_error(result) == told
    assert not file.parent.exists()


def test_looking_makes_nothing_of_an_empty_file(new_cli: Cli, file: Path) -> None:
    """As one that another process is just making."""
    file.parent.mkdir()
    file.touch()
    assert "there is no database" in the_error(new_cli("quota"))
    assert [(path.name, path.stat().st_size) for path in file.parent.iterdir()] == [(file.name, 0)]


def test_doctor_makes_no_database(new_cli: Cli, file: Path, tmp_path: Path) -> None:
    """It says who will, and that this is in order; or that nobody can."""
    assert parts(new_cli, CACHE_DIR=tmp_path)["database"] == (
        "ok",
        f"there is no database {file} yet; cowrie-enrich run makes it",
    )
    assert not file.parent.exists()


@pytest.fixture(scope="module")
def old_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home after a run, whose database was then taken back to v15."""
    folder = tmp_path_factory.mktemp("old")
    with Simulator(SimulatorConfig()) as simulator:
        command = on_twelve_sessions(folder, simulator)
        assert command("run", "--days", DAY).exit_code == 0
    assert command("db", "downgrade", "--yes", "v15").exit_code == 0
    return folder / "home"


@pytest.mark.parametrize("command", LOOKING[:-2])
def test_looking_leaves_an_old_database_as_it_is(
    new_cli: Cli, old_home: Path, file: Path, command: tuple[str, ...]
) -> None:
    """Exit 2, and what brings it up to date; neither its bytes change nor what lies beside it."""
    shutil.copytree(old_home, file.parent)
    (file.parent / "enrich.db").rename(file)
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    result = new_cli(*command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert the_error(result) == (
        f"error: The database {file} is at schema v15, this version works on v24. "
        "Run: cowrie-enrich db upgrade (or run, drain, Dagster, which do it as well)"
    )
    state, detail = parts(new_cli)["database"]
    assert (state, detail.split(";")[0]) == ("ok", "schema v15")
    assert {path.name: path.read_bytes() for path in file.parent.iterdir()} == before


@pytest.mark.parametrize("command", MAKING)
def test_what_asks_or_reads_logs_makes_and_upgrades_the_database(
    new_cli: Cli, file: Path, command: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """For nobody else to read; it says so; what it held before an upgrade is copied beside it, whole."""
    assert new_cli(*command).exit_code == 0
    assert caplog.messages == [f"a new database is made: {file}"]
    new_cli("run", "--days", DAY)
    new_cli("db", "downgrade", "--yes", "v15")
    caplog.clear()
    assert new_cli(*command).exit_code == 0
    copy = file.with_name(f"{file.name}.v15.bak")
    assert caplog.messages == [f"{file} goes from schema v15 to v24; a copy is {copy}"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (file, copy)} == {0o600}
    for path, revision in ((file, "v24"), (copy, "v15")):
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)]
            assert connection.execute("SELECT count(*) FROM enrichment_cache").fetchone() == (3,)


def test_a_new_database_is_news_and_no_warning(new_cli: Cli, tmp_path: Path) -> None:
    """That an old one is upgraded, and where its copy is, is for people to heed."""
    file = tmp_path / "home" / "enrich.db"
    assert new_cli.process("run", "--days", DAY).stderr.splitlines()[0] == f"a new database is made: {file}"
    new_cli("db", "downgrade", "--yes", "v15")
    said = new_cli.process("run", "--days", DAY).stderr.splitlines()[0]
    assert said.startswith(f"warning: {file} goes from schema v15 ")


def test_data_frames_make_no_database(
    new_cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A notebook that was started in the wrong folder is told so."""
    for name, value in new_cli.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DatabaseUnusable, match="there is no database"):
        frames.sources(DAY)
    assert not file.parent.exists()
    new_cli("run", "--days", DAY)
    assert len(frames.sources(DAY)) == 3
    new_cli("db", "downgrade", "--yes", "v15")
    with pytest.raises(migrate.SchemaOutdated, match="is at schema v15"):
        frames.sources(DAY)


# --- doctor


def test_doctor_opens_the_maxmind_databases(cli: Cli, tmp_path: Path) -> None:
    """The types of those it can open, else what is wrong with which file."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.mmdb").write_text("not a database")
    write_mmdb(tmp_path / "good.mmdb", ["11.0.0.0/8"])

    def told(path: str) -> tuple[str, str]:
        return parts(cli, ENRICH_SERVICES="maxmind", MAXMIND_DB_PATH=tmp_path / path)["maxmind"]

    assert told("good.mmdb") == ("ok", "GeoLite2-Country")
    for path in ("missing.mmdb", "broken.mmdb", "empty"):
        state, detail = told(path)
        assert state == "failed"
        assert str(tmp_path / path) in detail
    (tmp_path / "good.mmdb").rename(tmp_path / "empty" / "good.mmdb")
    assert told("empty") == ("ok", "GeoLite2-Country")


def test_doctor_says_once_that_redis_is_away(cli: Cli) -> None:
    """In its row, and not as a warning as well; it runs on all the same, so nothing is on stderr."""
    away = {"ENABLE_REDIS_CACHE": "true", "REDIS_PORT": str(free_port())}
    result = cli.process("doctor", **away)
    assert result.returncode == 0
    assert cells(result.stdout, "redis") == [["redis", "warning", "no connection; runs go on without it"]]
    assert result.stderr == ""


def test_doctor_looks_at_the_folder_of_old_files(cli: Cli, tmp_path: Path) -> None:
    """A folder, something else, and no filesystem tier at all."""
    assert parts(cli)["filesystem"] == ("off", "CACHE_DIR is not set")
    assert parts(cli, CACHE_DIR=tmp_path)["filesystem"] == ("ok", str(tmp_path))
    state, detail = parts(cli, CACHE_DIR=tmp_path / "logs" / "cowrie.json")["filesystem"]
    assert state == "warning"
    assert detail == f"CACHE_DIR names {tmp_path / 'logs' / 'cowrie.json'}, not a folder: no filesystem tier"


def test_doctor_tells_of_a_service_that_must_not_be_asked(cli: Cli, database: Database) -> None:
    """A cooldown and a refused contact address, each until when and why; reachable as it may be."""
    assert parts(cli)["dshield"][0] == "ok"
    cli("run", "--days", DAY)
    with database.write() as connection:
        until = database.now(connection) + timedelta(hours=2)
        connection.execute(
            text("UPDATE service_limits SET cooldown_until = :at, cooldown_reason = 'rate_limited'"),
            {"at": until.timestamp()},
        )
    state, detail = parts(cli)["dshield"]
    assert state == "warning"
    assert f"; no request before {until:%Y-%m-%d %H:%M:%S} UTC (rate_limited)" in detail
    with database.write() as connection:
        connection.execute(
            text(
                "UPDATE service_limits SET cooldown_until = 0, credential = :refused,"
                " credential_blocked_until = :at"
            ),
            {"at": until.timestamp(), "refused": fingerprint("tests@example.org")},
        )
    assert "(auth_failed)" in parts(cli)["dshield"][1]
    assert parts(cli, DSHIELD_EMAIL="another@example.org")["dshield"][0] == "ok"
    migrate.downgrade(database, "v12")
    assert parts(cli)["dshield"][0] == "ok"


# --- settings and simulator


def test_cymru_is_asked_by_whois_only(cli: Cli) -> None:
    """An HTTP URL is refused before anything is sent to its port."""
    result = cli("quota", CYMRU_API_URL="http://127.0.0.1:8480/cymru", ENRICH_SERVICES="cymru")
    assert result.exit_code == 2
    assert "CYMRU_API_URL" in the_error(result)
    assert "whois://host:port" in result.stderr.partition("accepted: ")[0]
    assert cli("quota", CYMRU_API_URL="whois://127.0.0.1:4343").exit_code == 0


def test_simulate_tells_the_whois_url_apart(cli: Cli) -> None:
    """Scripts find the base URL alone on stdout; where whois listens is said on stderr."""
    pipes = {"stdout": warm.PIPE, "stderr": warm.PIPE}
    with warm.Process(*warm.CLI, "simulate", "--port", "0", **pipes) as process:
        assert process.stdout
        base = process.stdout.readline()
        process.terminate()
        more, said = process.communicate(timeout=10)
    assert base.startswith("http://127.0.0.1:")
    assert more == ""
    name, _, url = said.strip().partition("=")
    assert name == "CYMRU_API_URL"
    assert urlsplit(url).scheme == "whois"
    assert urlsplit(url).port


# --- the schema


@pytest.mark.parametrize(
    "command",
    [
        ("upgrade", "v99"),
        ("upgrade", ""),
        ("upgrade", "v11:v12"),
        ("upgrade", "+1"),
        ("downgrade", "nonsense"),
        ("downgrade", "@"),
        ("downgrade", "--", "-19"),
    ],
)
def test_a_revision_that_is_not_there(cli: Cli, command: tuple[str, ...]) -> None:
    """Exit 2, and the revisions there are; nothing is asked and nothing changed."""
    result = cli("db", *command, answer="y\n")
    assert result.exit_code == 2
    assert (
        "base, v11, v12, v13, v14, v15, v16, v17_begun, v17, v18, v19, v20, v21, v22, v23, v24"
        in the_error(result)
    )
    assert json.loads(cli("db", "current").stdout)["current"] == "v24"


def test_downgrade_asks_what_may_go(cli: Cli) -> None:
    """It names what is lost and takes anything but yes for no."""
    for answer in ("", "\n", "n\n"):
        result = cli("db", "downgrade", "v12", answer=answer)
        assert result.exit_code == 1
        assert json.loads(cli("db", "current").stdout)["current"] == "v24"
    asked = result.stdout + result.stderr
    assert "observations" in asked
    assert "service_limits" in asked
    assert "enrichment_cache" not in asked
    result = cli("db", "downgrade", "v13", answer="y\n")
    assert json.loads(result.stdout.splitlines()[-1]) == {"current": "v13"}


def test_downgrade_in_a_script(cli: Cli) -> None:
    """With --yes nothing is asked; nor is it where nothing would go."""
    assert json.loads(cli("db", "downgrade", "v24").stdout) == {"current": "v24"}
    assert json.loads(cli("db", "downgrade", "--yes", "--", "-1").stdout) == {"current": "v23"}
    assert json.loads(cli("db", "downgrade", "--yes", "base").stdout) == {"current": None}


def test_every_downgrade_can_name_what_goes(database: Database) -> None:
    """No migration was forgotten."""
    steps = set(migrate.revisions(database)) - {"v17"}  # which goes, and is told, with v17_begun
    assert len(migrate.dropped_by(database, "base")) == len(steps)


# --- days


@pytest.mark.parametrize(
    ("days", "said"),
    [
        ("2025-11-01..", "(A..B)"),
        ("..2025-11-01", "(A..B)"),
        ("2025-11-01..2025-11-02..2025-11-03", "(A..B)"),
        ("2025-11-02..2025-11-01", "ends before it begins"),
        ("0001-01-01..9999-12-31", "from 2000-01-01 to 2100-12-31"),
        ("1999-12-31", "from 2000-01-01 to 2100-12-31"),
        ("2100-12-31..2101-01-01", "from 2000-01-01 to 2100-12-31"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_days_that_are_none(cli: Cli, command: str, days: str, said: str) -> None:
    """Half a range is no day, and no event is of a year that Cowrie was not there."""
    result = cli(command, "--days", days)
    assert result.exit_code == 2
    assert "--days" in the_error(result)
    assert said in result.stderr


@pytest.mark.parametrize("days", ["2000-01-01", "2100-12-31", "2000-01-01..2000-01-03"])
def test_the_first_and_the_last_day(cli: Cli, days: str) -> None:
    """The days beside them, which are read too, need not be within the bounds."""
    assert cli("run", "--days", days).exit_code == 0


def test_a_start_day_that_no_run_takes_is_refused(cli: Cli) -> None:
    """The bounds are those of --days."""
    result = cli("quota", ENRICH_START_DAY="1970-01-01")
    assert result.exit_code == 2
    assert "from 2000-01-01 to 2100-12-31" in the_error(result)


# --- what cannot be written


@pytest.mark.parametrize(
    "command",
    [
        ("quota", "--json"),
        ("plan", "--days", DAY),
        ("doctor",),
        ("metrics",),
        ("export", "--days", DAY, "--format", "csv"),
        ("db", "current"),
    ],
)
def test_a_full_disk_under_stdout(cli: Cli, command: tuple[str, ...]) -> None:
    """Exit 1 and one line, whichever way the command prints."""
    result = cli.process(*command, stdout="/dev/full")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "error: No space left on device"


@pytest.mark.parametrize("command", [("export", "--days", DAY, "--format", "csv"), ("metrics",)])
def test_an_output_that_is_no_file(cli: Cli, tmp_path: Path, command: tuple[str, ...]) -> None:
    """Exit 2, and nothing is put in its place."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "nowhere" / "x", tmp_path / "pipe"):
        result = cli(*command, "--output", str(path))
        assert result.exit_code == 2
        assert "--output" in the_error(result)
        assert str(path) in result.stderr or str(path.parent) in result.stderr
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


# --- run


def test_a_damaged_log_file_is_warned_of(cli: Cli, tmp_path: Path) -> None:
    """How many files, and where it is written which; once."""
    whole = gzip.compress((tmp_path / "logs" / "cowrie.json").read_bytes())
    for name in ("cowrie.json.2025-10-30.gz", "cowrie.json.2025-10-31.gz"):
        (tmp_path / "logs" / name).write_bytes(whole[:-30])
    result = cli.process("run", "--days", DAY, "--json")
    assert result.returncode == 0
    said = " ".join(result.stderr.split())
    assert said.count("2 log files are damaged or cut off") == 1
    assert "quarantined_lines has each as its line 0" in said
    shutil.rmtree(tmp_path / "logs")
    write_logs(tmp_path / "logs", routable_ips(3))
    assert "damaged" not in cli.process("run", "--days", DAY).stderr


def test_days_whose_logs_are_gone_are_named(
    cli: Cli, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that have rows to keep and those that have none: the first three, and how many more."""
    log = tmp_path / "logs" / "cowrie.json"
    for number in range(5):
        write_logs(tmp_path / "logs", routable_ips(1), start=START + timedelta(days=number))
        rotated = log.with_name(f"cowrie.json.{number}")
        rotated.write_text(log.read_text().replace('"session": "0', f'"session": "{number}'))
        log.unlink()
    span = "2025-10-20..2025-11-20"
    cli("run", "--days", span)
    assert caplog.messages == ["no log has 2025-10-20, 2025-10-21, 2025-10-22 and 24 more days"]
    caplog.clear()
    for number in range(4):
        log.with_name(f"cowrie.json.{number}").unlink()
    cli("run", "--days", span)
    assert caplog.messages == [
        "no log file has 2025-11-01, 2025-11-02, 2025-11-03 and 1 more days any more; their rows are kept",
        "no log has 2025-10-20, 2025-10-21, 2025-10-22 and 24 more days",
    ]
    caplog.clear()
    cli("run", "--days", "2025-11-02")
    assert caplog.messages == ["no log file has 2025-11-02 any more; their rows are kept"]


def test_the_table_of_a_run_counts_keys_and_tells_calls_once(
    cli: Cli, tmp_path: Path, simulator: Simulator
) -> None:
    """Files are no addresses; what a service was asked stands in the first of its rows."""
    write_attacks(tmp_path / "logs", [*routable_ips(40), "10.0.0.1"], files=hashes(12))
    changes: Mapping[str, str] = {
        "ENRICH_SERVICES": "dshield,virustotal",
        "VIRUSTOTAL_API_URL": simulator.url("virustotal"),
        "VIRUSTOTAL_API_KEY": "tests-key",
        "VIRUSTOTAL_RATE_LIMIT": "1000",
        "ENRICH_MAX_WAIT_SECONDS": "5",
    }
    shown = cli("run", "--days", DAY, **changes).stdout
    assert "Keys by service and status" in shown
    rows = cells(shown, "dshield")
    assert len(rows) > 1
    assert [row[3:] for row in rows] == [["40"], *[[]] * (len(rows) - 1)]
    assert int(cells(shown, "virustotal")[0][3]) > 0
