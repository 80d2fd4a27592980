"""What an operator sees of `report`, `who` and `session`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cowrie_enrich_dagster.cli import output
from cowrie_enrich_dagster.services.base import VERSION
from tests.integration.test_cli import DAY, Cli, cli, new_cli, simulator, the_error
from tests.logs import routable_ips

__all__ = ["cli", "new_cli", "simulator"]  # fixtures

ADDRESS = routable_ips(1)[0]


@pytest.fixture
def ran(cli: Cli) -> Cli:
    """The command after a run over its twelve sessions of three addresses."""
    assert cli("run", "--days", DAY).exit_code == 0
    return cli


def test_a_report_says_what_happened_and_where_the_page_is(ran: Cli, tmp_path: Path) -> None:
    """The top of it on stdout, the file in this folder unless another is named."""
    result = ran("report", "--days", DAY)
    assert result.exit_code == 0
    first, nobody, *_, last = result.stdout.splitlines()
    assert first.startswith("12 sessions from 3 addresses; of 31 October 2025 nothing is on record")
    assert nobody == "Nobody got in: 0 logins tried, none accepted."
    assert last == "Every service has told what it can."
    page = tmp_path / f"report-{DAY}.html"
    assert str(page) in result.stderr
    assert page.read_text().startswith("<!doctype html>")
    named = tmp_path / "other.html"
    assert ran("report", "--days", f"{DAY}..2025-11-02", "--output", named.name).exit_code == 0
    assert "1–2 November 2025" in named.read_text()


def test_a_report_as_json_is_one_object(ran: Cli, tmp_path: Path) -> None:
    """And writes no file; the figures are those of the page."""
    result = ran("report", "--days", DAY, "--json")
    figures = json.loads(result.stdout)
    assert (figures["totals"]["sessions"], figures["sources"]["total"]) == (12, 3)
    assert figures["gaps"][0]["service"] == "dshield"
    assert list(tmp_path.glob("report-*")) == []
    assert ran("report", "--days", DAY, "--json", "--output", "x.html").exit_code == 2


def test_a_report_that_cannot_be_written_is_said_before_it_is_made(ran: Cli) -> None:
    """In one line, as bad usage."""
    result = ran("report", "--days", DAY, "--output", "/no/such/folder/x.html")
    assert result.exit_code == 2
    assert "--output" in the_error(result)


def test_days_without_a_session_have_a_report_that_says_so(ran: Cli, tmp_path: Path) -> None:
    """No plots of nothing; from when to when there are records."""
    result = ran("report", "--days", "2024-02-29")
    assert result.exit_code == 0
    assert result.stdout.startswith("No session is on record for 2024-02-29: there are records from")
    assert "<svg" not in (tmp_path / "report-2024-02-29.html").read_text()


def test_who_tells_all_of_an_address(ran: Cli) -> None:
    """As a card or as JSON, whatever the spelling of the address."""
    told = ran("who", ADDRESS)
    assert told.exit_code == 0
    assert told.stdout.startswith(ADDRESS)
    assert re.search(r"sessions +4, on sensor-a", told.stdout)
    assert re.search(r"dshield .*\d{4}-\d\d-\d\d \d\d:\d\d", told.stdout)
    card = json.loads(ran("who", f"::ffff:{ADDRESS}", "--json").stdout)
    assert (card["address"], card["scope"], card["sessions"], card["days"]) == (ADDRESS, "global", 4, [DAY])
    assert card["services"]["dshield"]["status"] in ("found", "not_found")


def test_session_tells_all_of_a_session(ran: Cli) -> None:
    """As a card, or as a list of those that have the id."""
    assert ran("session", "000000000000").stdout.startswith("session 000000000000  on sensor-a")
    (one,) = json.loads(ran("session", "000000000000", "--json").stdout)
    assert (one["source_ip"], one["day"], one["campaigns"]) == (ADDRESS, DAY, [])


def test_whom_nobody_knows_is_a_sentence(ran: Cli) -> None:
    """Exit 1 for what is not on record, 2 for what is no address."""
    for arguments, code, words in (
        (("who", "9.9.9.9"), 1, "no session on record came from 9.9.9.9"),
        (("who", "9.9.9"), 2, "'9.9.9' is not an IP address"),
        (("session", "x"), 1, "no session on record has the id x"),
    ):
        for more in ((), ("--json",)):
            result = ran(*arguments, *more)
            assert result.exit_code == code
            assert words in the_error(result)
            assert result.stdout == ""


def test_the_version_and_completion_are_there(cli: Cli) -> None:
    """As of every well-kept command."""
    assert cli("--version").stdout == f"cowrie-enrich {VERSION}\n"
    help_text = cli("--help").stdout
    assert "--install-completion" in help_text
    assert "Exit 0" in help_text


def test_a_run_on_a_terminal_ends_with_the_top_of_the_report(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says where the rest is; in a pipe, and as JSON, nothing is added."""
    assert "cowrie-enrich report" not in cli("run", "--days", DAY).stdout
    monkeypatch.setattr(output.out, "_force_terminal", True)
    shown = cli("run", "--days", DAY).stdout
    assert "12 sessions from 3 addresses; of 31 October 2025 nothing is on" in shown
    assert f"All of it on a page: cowrie-enrich report --days {DAY}" in shown
    assert "cowrie-enrich report" not in cli("run", "--days", DAY, "--json").stdout
