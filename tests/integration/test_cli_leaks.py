"""What the command line tells, and what it must not: secrets, control characters; whose database it is."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from cowrie_enrich_dagster.simulator import Simulator
from tests import warm
from tests.integration.test_cli import COMMANDS, DAY, Cli, cli, new_cli, parts, simulator

__all__ = ["cli", "new_cli", "simulator"]


_LOADED_ANEW = """
import sys
for name in [name for name in sys.modules if name.startswith("cowrie_enrich_dagster.cli")]:
    del sys.modules[name]  # which find out on import whether they have a terminal
"""


def on_a_terminal(command: Cli, *calls: tuple[str, ...]) -> list[str]:
    """What a terminal gets to see of stdout and stderr, call by call: one process makes them all."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, **command.environment}
    code = _LOADED_ANEW + warm.IN_TURN
    process = warm.Process("-c", code, json.dumps(calls), env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # Linux ends a terminal so
        pass
    assert process.wait(timeout=60) == 0, shown.decode()
    os.close(ours)
    *each, rest = shown.decode().split("\f")
    assert (len(each), rest) == (len(calls), "")
    return each


@pytest.fixture
def hostile(cli: Cli, tmp_path: Path) -> Cli:
    """Sessions in which somebody typed what a terminal obeys."""
    log = tmp_path / "logs" / "cowrie.json"
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    login = lines[0].replace("cowrie.session.connect", "cowrie.login.success").rstrip()
    escaped = '"username": "root\\u001b[2J\\u009b31m\\u202egnp", "password": "x", '
    log.write_text("".join([lines[0], "{" + escaped + login[1:] + "\n", *lines[1:]]), encoding="utf-8")
    cli("run", "--days", DAY)
    return cli


def test_an_export_to_a_terminal_moves_nothing(hostile: Cli) -> None:
    """What was typed is written out there; in a file it is what it was."""
    calls = [("export", "--days", DAY, "--format", form) for form in ("csv", "json")]
    for call, shown in zip(calls, on_a_terminal(hostile, *calls), strict=True):
        assert "root" in shown
        assert not set("\x1b\x9b\u202e").intersection(shown.replace("\x1b[0m", ""))
        written = hostile.process(*call, stdout="out")
        assert written.returncode == 0
        assert "\u202e" in Path("out").read_text(encoding="utf-8")


def test_who_asks_anonymously_is_told_once(cli: Cli) -> None:
    """By the commands that ask; with an address, or without DShield, there is nothing to tell."""
    for arguments in (("run", "--days", DAY), ("drain",)):
        assert cli(*arguments, DSHIELD_EMAIL="").stderr.count("refuse anonymous clients") == 1
        assert "anonymous" not in cli(*arguments).stderr
    assert "anonymous" not in cli("quota", DSHIELD_EMAIL="").stderr


def test_doctor_hides_who_we_are(cli: Cli) -> None:
    """The contact address, and parameters of the database's URL that are not known to be harmless."""
    url = "postgresql://user:Sekret@127.0.0.1:1/name?connect_timeout=2&vault=Sekret"
    for arguments in (("doctor",), ("doctor", "--json")):
        shown = cli(*arguments, DATABASE_URL=url).output
        assert "tests@example.org" not in shown
        assert "Sekret" not in shown
        assert "DSHIELD_EMAIL" in shown


def test_doctor_tries_the_webhook_and_hides_where_it_is(cli: Cli, simulator: Simulator) -> None:
    """By a connection alone; runs go on without it, so that it fails is a warning."""
    there = f"{simulator.base_url}/services/Sekret"
    assert parts(cli)["webhook"] == ("off", "ENRICH_WEBHOOK_URL is not set")
    assert parts(cli, ENRICH_WEBHOOK_URL=there)["webhook"] == ("ok", "reachable")
    state, detail = parts(cli, ENRICH_WEBHOOK_URL="http://127.0.0.1:1/Sekret")["webhook"]
    assert (state, "cannot be reached" in detail) == ("warning", True)
    for arguments in (("doctor",), ("doctor", "--json")):
        shown = cli(*arguments, ENRICH_WEBHOOK_URL=there).output
        assert "ENRICH_WEBHOOK_URL" in shown
        assert "Sekret" not in shown


def test_doctor_looks_where_runs_go(cli: Cli, simulator: Simulator) -> None:
    """Through the proxy, whose password it does not tell; one that is not there is what fails."""
    proxy = simulator.base_url.replace("http://", "http://user:Sekret@")
    elsewhere = "http://service.invalid"
    state, detail = parts(cli, DSHIELD_API_URL=elsewhere, HTTP_PROXY=proxy, http_proxy=proxy)["dshield"]
    assert (state, "through the proxy 127.0.0.1" in detail) == ("ok", True)
    assert "Sekret" not in detail
    gone = "http://user:Sekret@127.0.0.1:1"
    state, detail = parts(cli, DSHIELD_API_URL=elsewhere, HTTP_PROXY=gone, http_proxy=gone)["dshield"]
    assert (state, "127.0.0.1:1 cannot be reached" in detail) == ("failed", True)
    assert "Sekret" not in detail


def test_our_file_is_ours_alone(new_cli: Cli, tmp_path: Path) -> None:
    """Made by a run, and nobody else can read it."""
    new_cli("run", "--days", DAY)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home").glob("enrich.db*")}
    assert modes == {0o600}


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_another_projects_database_is_left_alone(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Every command: exit 2 (doctor: 1), the setting named, the file as it was."""
    path = tmp_path / "theirs.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE raw_events (id INTEGER)")
    before = path.read_bytes()
    result = cli(*arguments, DATABASE_URL=f"sqlite:///{path}")
    said = result.output + result.stderr
    assert result.exit_code == (1 if arguments[0] == "doctor" else 2)
    assert "cowrieprocessor" in " ".join(said.split())
    assert "DATABASE_URL" in said
    assert path.read_bytes() == before


def test_settings_of_cowrieprocessor_are_named_with_ours(cli: Cli, tmp_path: Path) -> None:
    """Its file and its variables; nothing of their values is told."""
    (tmp_path / "sensors.toml").write_text(
        '[global]\ndb = "postgresql://u:Sekret@h/d"\n[[sensor]]\nname = "a"\nlogpath = "/logs"\n'
        'vtapi = "Sekret"\nemail = "Sekret@example.org"\n'
    )
    said = " ".join(cli("quota", VT_API_KEY="Sekret", REDIS_TTL_SECONDS="60").stderr.split())
    assert "VT_API_KEY is cowrieprocessor's: not used; set VIRUSTOTAL_API_KEY" in said
    assert "REDIS_TTL_SECONDS is cowrieprocessor's" in said
    assert "[global] db is cowrieprocessor's: not used; set DATABASE_URL" in said
    assert "[[sensor]] vtapi is cowrieprocessor's: not used; set VIRUSTOTAL_API_KEY" in said
    assert "logpath" not in said  # COWRIE_LOG_DIR is set
    assert "Sekret" not in said
