"""Lists whose settings change, that come back, or that are strange files: they say what they say now."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.settings import ConfigError
from cowrie_enrich_dagster.simulator import Fault, Simulator
from cowrie_enrich_dagster.vocabulary import Days
from tests.integration.enrichment.listing import Clock, at, lines, rows_by_ip, serve, tor
from tests.logs import START, routable_ips, write_logs

Open = Callable[..., Enricher]
Configure = Callable[..., None]
DAY = Days.parse("2025-11-01")
IPS = routable_ips(40)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def held(enricher: Enricher, says: str = "tor") -> set[str]:
    """What lists of a kind hold now."""
    return set(enricher.list_book.networks(says))


def looked_at(first: Enricher) -> tuple[Clock, set[str]]:
    """All lists for the first time: the clock of that look, and what they hold."""
    clock = at(first, START)
    first.refresh_lists()
    return clock, held(first)


def test_a_list_that_is_configured_again_holds_what_it_holds(
    open_enricher: Open, simulator: Simulator, configure: Configure
) -> None:
    """Though its publisher would say that nothing has changed since: what ended comes back."""
    configure(tor(simulator))
    clock, before = looked_at(open_enricher())
    assert before
    for change in ((), (tor(simulator),)):
        configure(*change)
        clock.now += timedelta(minutes=5)
        again = open_enricher()
        at(again, clock)
        told = {report.list: report.status for report in again.refresh_lists()}
        assert told == ({"exits": "taken"} if change else {})
        assert held(again) == (before if change else set())


@on_sqlite
def test_at_another_url_nothing_of_the_former_is_asked_about(
    open_enricher: Open, simulator: Simulator, configure: Configure
) -> None:
    """It is looked at at once, without the validators of the other, and may be much smaller."""
    configure(tor(simulator))
    clock, before = looked_at(open_enricher())
    assert len(before) > 40
    configure(tor(simulator, url=f"{simulator.url('lists')}/addresses/11.1.0.0-24/5"))
    clock.now += timedelta(minutes=5)
    moved = open_enricher()
    at(moved, clock)
    simulator.set_fault("lists", Fault(kind="reply", status=304, times=1))
    (report,) = moved.refresh_lists()
    assert report.reason == "status 304, though we have none"
    clock.now += timedelta(hours=2)
    (report,) = moved.refresh_lists()
    assert (report.status, report.problem) == ("taken", "")
    assert all(network.startswith("11.1.0.") for network in held(moved))


@on_sqlite
@pytest.mark.parametrize(
    ("before", "after", "now"),
    [
        ({"column": 1}, {"column": 2}, {"11.0.0.2/32"}),
        ({"column": 1}, {"column": 1, "says": "own"}, {"11.0.0.1/32", "10.0.0.1/32"}),
    ],
)
def test_a_file_is_read_anew_when_it_is_to_be_read_otherwise(
    open_enricher: Open, configure: Configure, tmp_path: Path,
    before: dict[str, Any], after: dict[str, Any], now: set[str],
) -> None:  # fmt: skip
    """Though the file is the same: another column, or entries of our own that others leave out."""
    file = tmp_path / "list.csv"
    file.write_text("11.0.0.1,11.0.0.2\n10.0.0.1,10.0.0.2\n")
    usual = {"name": "exits", "says": "tor", "file": str(file), "format": "csv"}
    configure({**usual, **before})
    assert open_enricher().refresh_lists()[0].status == "taken"
    configure({**usual, **after})
    enricher = open_enricher()
    (report,) = enricher.refresh_lists()
    assert report.status == "taken"
    assert held(enricher, report.says) == now


@on_sqlite
def test_a_greedy_file_is_taken_once_its_share_is_allowed(
    open_enricher: Open, configure: Configure, tmp_path: Path, environment: dict[str, str]
) -> None:
    """The message says what to set; the file need not change for it."""
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "few", IPS))
    file = tmp_path / "scan.txt"
    file.write_text(lines(*IPS[:10]))
    scan = {"name": "scan", "says": "scanner", "file": str(file)}
    configure(scan)
    first = open_enricher()
    assert "allowed_share = 0.25" in first.run(DAY).lists["scan"]["problem"]
    configure({**scan, "allowed_share": 0.25})
    enricher = open_enricher()
    assert enricher.run(DAY).lists["scan"]["problem"] == ""
    assert rows_by_ip(enricher)[IPS[0]].source_is_scanner is True


@on_sqlite
def test_a_file_that_was_refused_is_read_again_after_an_hour(
    open_enricher: Open, configure: Configure, tmp_path: Path
) -> None:
    """Half of a list is refused while the last good one is young; not for ever."""
    file = tmp_path / "exits.txt"
    file.write_text(lines(*IPS))
    configure({"name": "exits", "says": "tor", "file": str(file)})
    enricher = open_enricher()
    clock = at(enricher, START)
    enricher.refresh_lists()
    file.write_text(lines(*IPS[:5]))
    clock.now += timedelta(days=6)
    assert enricher.refresh_lists()[0].status == "refused"
    assert not enricher.lists_due()
    clock.now += timedelta(hours=2)
    assert enricher.lists_due()
    assert enricher.refresh_lists()[0].status == "refused"
    assert not enricher.lists_due()
    clock.now += timedelta(days=1)
    (report,) = enricher.refresh_lists()
    assert (report.status, report.entries, report.problem) == ("taken", 5, "")


@on_sqlite
def test_a_list_that_is_gone_said_what_it_said_last(
    open_enricher: Open, simulator: Simulator, configure: Configure, tmp_path: Path,
    environment: dict[str, str],
) -> None:  # fmt: skip
    """Not the word that is last in the alphabet of those it ever said."""
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "few", IPS))
    for hours, says in enumerate(("tor", "malicious")):
        configure(tor(simulator, says=says))
        enricher = open_enricher()
        at(enricher, START + timedelta(hours=hours))
        assert enricher.refresh_lists()[0].status == "taken"
    configure()
    enricher = open_enricher()
    enricher.run(DAY)
    rows = rows_by_ip(enricher)
    listed = [row for row in rows.values() if row.source_lists]
    assert listed
    assert all(row.source_is_tor is None for row in listed)


@on_sqlite
def test_nobody_is_asked_while_an_own_list_was_never_read(
    open_enricher: Open, simulator: Simulator, configure: Configure, tmp_path: Path,
    environment: dict[str, str],
) -> None:  # fmt: skip
    """Who is ours is not known then: run and drain end and say why; later the last good one holds."""
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "few", IPS))
    earlier = open_enricher()
    earlier.ingest(DAY)
    earlier.summarise_addresses(DAY)
    earlier.plan_and_open(DAY)
    friends = tmp_path / "friends.txt"
    configure({"name": "friends", "says": "own", "file": str(friends)})
    enricher = open_enricher()
    for asking in (lambda: enricher.run(DAY), enricher.drain):
        with pytest.raises(ConfigError, match="friends: No such file or directory; while it is not known"):
            asking()
    assert simulator.requests("dshield") == []
    friends.write_text(lines(IPS[0]))
    enricher.run(DAY)
    friends.unlink()
    enricher.drain()
    assert {record.keys[0] for record in simulator.requests("dshield")} == set(IPS[1:])


@on_sqlite
@pytest.mark.parametrize("kind", ["fifo", "folder", "endless"])
def test_what_is_no_plain_file_is_not_read(
    open_enricher: Open, configure: Configure, tmp_path: Path, kind: str
) -> None:
    """Nobody writes into the pipe, and a device never ends: the run goes on all the same."""
    path = tmp_path / "list"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    configure({"name": "exits", "says": "tor", "file": str(path)})
    (report,) = open_enricher().refresh_lists()
    assert report.problem == "failed: it is no file"


@on_sqlite
def test_a_list_with_two_networks_that_hold_an_address_is_named_once(
    open_enricher: Open, configure: Configure, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Duplicates and networks inside of others, in any spelling, IPv6 too."""
    six = "2a00:1450:4001::7"
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "few", [IPS[0], six]))
    file = tmp_path / "exits.txt"
    file.write_text(
        lines("11.0.0.0/16", "11.0.0.0/24", IPS[0], IPS[0], f"{IPS[0]}/32", "2A00:1450::/32", six.upper())
    )
    configure({"name": "exits", "says": "tor", "file": str(file)})
    enricher = open_enricher()
    report = enricher.run(DAY)
    assert report.lists["exits"]["entries"] == 5
    assert {row.source_ip: row.source_lists for row in rows_by_ip(enricher).values()} == {
        IPS[0]: ["list:exits (late)"], six: ["list:exits (late)"]
    }  # fmt: skip


@on_sqlite
def test_a_renamed_list_tells_of_before_what_it_said_under_its_old_name(
    open_enricher: Open, simulator: Simulator, configure: Configure, tmp_path: Path,
    environment: dict[str, str],
) -> None:  # fmt: skip
    """Of the new name nothing is known of then: it is told as late beside it."""
    ip = "11.0.0.7"
    logs = [START + timedelta(days=n, hours=12) for n in range(2)]
    for number, start in enumerate(logs):
        write_logs(tmp_path / "two" / f"s{number}", [ip], start=start, sensor=f"s{number}")
    environment["COWRIE_LOG_DIR"] = str(tmp_path / "two")
    clock = Clock(START)
    for number, name in enumerate(("old", "new")):
        configure(tor(simulator, name=name))
        serve(simulator, lines(ip))
        enricher = open_enricher()
        at(enricher, clock)
        clock.now = START + timedelta(days=number, hours=6)
        enricher.refresh_lists()
    enricher.run(Days.parse("2025-11-01..2025-11-02"))
    with enricher.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT source_lists FROM enriched_sessions ORDER BY day").scalars()
        assert list(rows) == ['["list:new (late)","list:old"]', '["list:new"]']


@on_sqlite
def test_a_publisher_that_says_unchanged_without_being_asked_is_refused(
    open_enricher: Open, simulator: Simulator, configure: Configure
) -> None:
    """A 304 to an unconditional request is no list."""
    configure(tor(simulator))
    simulator.set_fault("lists", Fault(kind="reply", status=304, times=3))
    (report,) = open_enricher().refresh_lists()
    assert report.problem == "refused: status 304, though we have none"
