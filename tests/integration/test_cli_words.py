"""What the command line says, and how: on a terminal, in a pipe, and where there is nothing to say."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.test_cli import DAY, Cli, cells, cli, new_cli, simulator
from tests.integration.test_cli_leaks import on_a_terminal

__all__ = ["cli", "new_cli", "simulator"]

NO_DAY = "2024-02-28..2024-02-29"


def test_days_that_no_log_has_are_said_and_are_no_failure(cli: Cli, tmp_path: Path) -> None:
    """By `run` and by `plan`, once each and without empty tables; exit 0, for there was nothing to do."""
    for command in ("run", "plan"):
        result = cli.process(command, "--days", NO_DAY)
        assert result.returncode == 0
        said = [line for line in result.stderr.splitlines() if "no log has" in line]
        assert said == ["warning: no log has 2024-02-28, 2024-02-29"]
        assert "─" not in result.stdout
    assert cli("run", "--days", NO_DAY).stdout == f"{NO_DAY}: no log has these days; nothing was asked\n"
    assert json.loads(cli("run", "--days", NO_DAY, "--json").stdout)["status"] == "no_logs"
    (shown,) = on_a_terminal(cli, ("run", "--days", NO_DAY))
    assert "no log has these days" in shown
    assert "cowrie-enrich report" not in shown


def test_a_plan_has_every_key_in_one_column(cli: Cli, tmp_path: Path) -> None:
    """One that a list of scanners spares is not worth a call; it is not told again as never sent."""
    (tmp_path / "scan.txt").write_text("11.0.0.1\n")
    toml = tmp_path / "sensors.toml"
    toml.write_text('[[enrichment.lists]]\nname = "scan"\nsays = "scanner"\nfile = "scan.txt"\n')
    settings = {"SENSORS_TOML": toml, "ENRICH_OWN_NETWORKS": "11.0.0.2"}
    cli("run", "--days", DAY, **settings)
    shown = cli("plan", "--days", DAY, **settings).stdout
    assert cells(shown, "service")[0][:5] == ["service", "keys", "database", "never sent", "not worth a call"]
    assert cells(shown, "dshield")[0][1:5] == ["3", "1", "1", "1"]


def test_every_line_of_an_error_is_marked(cli: Cli) -> None:
    """Two settings that are wrong are two errors; so is what a database's driver says in two lines."""
    said = cli("quota", ENRICH_MAX_WAIT_SECONDS="abc", REDIS_PORT="x").stderr.splitlines()
    assert {line.partition(" = ")[0] for line in said} == {
        "error: environment: REDIS_PORT",
        "error: environment: ENRICH_MAX_WAIT_SECONDS",
    }
    assert len(said) == 2
    lines = cli("quota", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none").stderr.splitlines()
    assert len(lines) > 1
    assert all(line.startswith("error: ") for line in lines)


UPKEEP = {
    ("db", "current"): ["current", "v24"],
    ("db", "upgrade"): ["current", "v24"],
    ("db", "downgrade", "v24"): ["current", "v24"],
    ("cache", "cleanup", "--dry-run"): ["dry run", "yes"],
    ("cache", "purge", "--yes"): ["purged database", "3"],
    ("cache", "import", "."): ["imported", "0"],
}


def test_upkeep_is_a_table_on_a_terminal_and_json_elsewhere(cli: Cli) -> None:
    """The same figures."""
    cli("run", "--days", DAY)
    for (arguments, row), shown in zip(UPKEEP.items(), on_a_terminal(cli, *UPKEEP), strict=True):
        assert "{" not in shown
        assert row in cells(shown.replace("\r", "").replace("\x1b[0m", ""), row[0])
        assert isinstance(json.loads(cli(*arguments).stdout), dict)


def test_what_cannot_be_imported_is_a_row_each(cli: Cli, tmp_path: Path) -> None:
    """Path and reason, whole."""
    cli("run", "--days", DAY)
    folder = tmp_path / "old" / "dshield"
    folder.mkdir(parents=True)
    (folder / "1.2.3.4.json").write_text("{")
    (shown,) = on_a_terminal(cli, ("cache", "import", str(tmp_path / "old")))
    assert "{" not in shown
    assert cells(shown.replace("\r", ""), "bad")
