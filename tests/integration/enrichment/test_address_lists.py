"""Lists before calls: one request a refresh, what they said when, what they spare, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import select, text

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.simulator import Fault, Simulator
from cowrie_enrich_dagster.storage.tables import (
    AddressList,
    EnrichedSession,
    ListEntry,
    Lookup,
    SessionIp,
    table_of,
)
from cowrie_enrich_dagster.vocabulary import Days
from tests.integration.enrichment.listing import at, lines, rows_by_ip, serve, tor
from tests.logs import START, routable_ips, write_logs

Open = Callable[..., Enricher]
DAY = Days.parse("2025-11-01")
IPS = routable_ips(40)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def few_logs(environment: dict[str, str], tmp_path: Path) -> None:
    """Forty addresses with a session each on the first of November."""
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "few", IPS))


def test_a_list_is_fetched_once_and_its_sessions_say_so(
    open_enricher: Open, simulator: Simulator, configure: Callable[..., None]
) -> None:
    """One request for all addresses, without a key; `source_lists` and `source_is_tor` follow."""
    configure(tor(simulator))
    enricher = open_enricher()
    report = enricher.run(DAY)
    told = report.lists["exits"]
    assert (told["status"], told["requests"], told["problem"]) == ("taken", 1, "")
    (request,) = simulator.requests("lists")
    assert request.user_agent.startswith("cowrie_enrich_dagster/")
    with enricher.database.read() as connection:
        networks = set(connection.execute(select(table_of(ListEntry).c.network)).scalars())
    assert told["entries"] == len(networks)
    rows = rows_by_ip(enricher)
    held = {ip for ip in IPS if f"{ip}/32" in networks}
    assert 0 < len(held) < len(IPS)
    for ip in IPS:
        lists = ["list:exits (late)"] if ip in held else None  # the sessions are of before the first look
        assert rows[ip].source_lists == lists
        assert rows[ip].source_is_tor is (True if ip in held else None)
        assert (rows[ip].provenance or {}).get("source_is_tor") == (lists[0] if lists else None)
    again = enricher.run(DAY)
    assert again.lists["exits"]["status"] == "fresh"
    assert len(simulator.requests("lists")) == 1


@pytest.mark.parametrize("form", ["json", "csv"])
@on_sqlite
def test_other_forms_hold_the_same(
    open_enricher: Open, simulator: Simulator, configure: Callable[..., None], form: str
) -> None:
    """Spamhaus's JSON lines and ThreatFox's CSV are read as the plain list is."""
    column: str | int = "cidr" if form == "json" else 3
    configure(
        tor(simulator), tor(simulator, form, name="other", says="malicious", format=form, column=column)
    )
    enricher = open_enricher()
    enricher.run(DAY)
    with enricher.database.read() as connection:
        rows = connection.execute(select(table_of(ListEntry).c.list, table_of(ListEntry).c.network)).all()
    of = {name: {network for held, network in rows if held == name} for name in ("exits", "other")}
    assert of["exits"] == of["other"]
    assert of["exits"]


def test_unchanged_lists_cost_a_conditional_request_and_no_row(
    open_enricher: Open, simulator: Simulator, configure: Callable[..., None]
) -> None:
    """After its refresh hours the ETag is sent back; 304 goes on with what is there."""
    configure(tor(simulator, refresh_hours=6))
    enricher = open_enricher()
    clock = at(enricher, START + timedelta(days=1))
    assert enricher.refresh_lists()[0].status == "taken"
    clock.now += timedelta(hours=5)
    assert enricher.refresh_lists()[0].status == "fresh"
    clock.now += timedelta(hours=1, seconds=90)
    (report,) = enricher.refresh_lists()
    assert (report.status, report.came, report.went) == ("unchanged", 0, 0)
    assert [request.status for request in simulator.requests("lists")] == [200, 304]
    with enricher.database.read() as connection:
        assert (
            connection.execute(text("SELECT count(DISTINCT seen_from) FROM list_entries")).scalar_one() == 1
        )


def test_each_days_sessions_say_what_the_list_said_then_in_any_order(
    open_enricher: Open, simulator: Simulator, configure: Callable[..., None], tmp_path: Path
) -> None:
    """An address comes, goes and comes again over five days; runs again, in any order, change nothing."""
    ip, other = "11.0.0.7", "11.0.0.8"
    logs = tmp_path / "five"
    for number in range(5):
        write_logs(
            logs / f"s{number}",
            [ip, other],
            start=START + timedelta(days=number, hours=12),
            sensor=f"s{number}",
        )
    configure(tor(simulator, says="scanner", refresh_hours=12))
    enricher = open_enricher(COWRIE_LOG_DIR=str(logs))
    clock = at(enricher, START)
    on_list = [True, False, True, True, False]
    days = [Days(day, day) for day in ((START + timedelta(days=n)).date() for n in range(5))]
    for number, is_on in enumerate(on_list):
        clock.now = START + timedelta(days=number, hours=6)
        serve(simulator, lines("11.9.9.9", *([ip] if is_on else [])))
        (report,) = enricher.refresh_lists()
        assert (report.status, report.came, report.went) == (
            "taken",
            (2, 0, 1, 0, 0)[number],
            (0, 1, 0, 0, 1)[number],
        )

    def said() -> list[Any]:
        with enricher.database.read() as connection:
            rows = connection.execute(
                select(table_of(EnrichedSession)).order_by(text("day, source_ip"))
            ).all()
        assert all(row.source_lists is None for row in rows if row.source_ip == other)
        return [(row.source_lists, row.source_is_scanner) for row in rows if row.source_ip == ip]

    wanted = [(["list:exits"], True) if is_on else (None, None) for is_on in on_list]
    for order in ((0, 1, 2, 3, 4), (4, 2, 0, 3, 1), (3, 3, 1)):
        for number in order:
            enricher.run(days[number])
        assert said() == wanted


@pytest.mark.parametrize("by", ["cleanup", "forget"])
def test_what_lists_said_before_the_oldest_session_is_pruned(
    open_enricher: Open, simulator: Simulator, configure: Callable[..., None], tmp_path: Path, by: str
) -> None:
    """Counted first, then deleted, once; no session says anything else for it, run again or not."""
    ips, logs = [f"11.0.0.{n}" for n in range(1, 7)], tmp_path / "three"
    for number in range(3):
        write_logs(
            logs / f"s{number}",
            ips,
            start=START + timedelta(days=number, hours=12),
            sensor=f"s{number}",
        )
    configure(tor(simulator, refresh_hours=12))
    everything = open_enricher(COWRIE_LOG_DIR=str(logs))
    clock = at(everything, START)
    # Of a list with each address from one look to another, half days apart; the last is on it still.
    spans = {0: (-6, -3), 1: (-6, 0), 2: (-1, 1), 3: (-6, 4), 4: (2, 5), 5: (3, None)}
    for look in range(-6, 7):
        clock.now = START + timedelta(hours=12 * look + 6)
        held = [
            ips[n] for n, (since, until) in spans.items() if since <= look and (until is None or look < until)
        ]
        serve(simulator, lines("11.9.9.9", *held))
        assert everything.refresh_lists()[0].status == "taken"
    clock.now = START + timedelta(days=2, hours=13)
    days = Days.parse("2025-11-01..2025-11-03")
    everything.ingest(days)
    everything.summarise_addresses(days)
    everything.enrich(days)
    kept = Days.parse("2025-11-02..2025-11-03") if by == "forget" else days
    keeps = {"ENRICH_KEEP_DAYS": "1"} if by == "forget" else {}
    enricher = open_enricher(COWRIE_LOG_DIR=str(logs), **keeps)
    at(enricher, clock.now)

    def said() -> list[Any]:
        query = select(table_of(EnrichedSession)).order_by(text("day, source_ip"))
        with enricher.database.read() as connection:
            rows = connection.execute(query).all()
        return [
            (row.day, row.source_ip, row.source_lists, row.source_is_tor)
            for row in rows
            if row.day >= kept.first
        ]

    def entries() -> int:
        with enricher.database.read() as connection:
            return int(connection.execute(text("SELECT count(*) FROM list_entries")).scalar_one())

    def prune(*, dry_run: bool) -> int:
        if by == "cleanup":
            return enricher.prune_lists(dry_run=dry_run)
        return enricher.forget_old_days(dry_run=dry_run).list_entries

    before, number = said(), entries()
    assert len({str(lists) for _, _, lists, _ in before}) == 2
    gone = 3 if by == "forget" else 2  # what ended before 12:00 of the first day, or before the second
    assert prune(dry_run=True) == gone
    assert entries() == number
    assert prune(dry_run=False) == gone
    assert prune(dry_run=False) == 0
    assert entries() == number - gone
    assert said() == before
    enricher.enrich(kept)
    assert said() == before
    assert open_enricher(COWRIE_LOG_DIR=str(logs), **keeps).list_book.spans(ips[:1]) == {}


def test_a_scanners_list_spares_calls_and_says_so(
    open_enricher: Open, simulator: Simulator, configure: Callable[..., None]
) -> None:
    """What it holds is not asked about: `skipped_policy`, with the list; once it is off, it is asked."""
    configure(tor(simulator, name="scan", says="scanner", refresh_hours=1))
    serve(simulator, lines(*IPS[:5]))
    enricher = open_enricher()
    clock = at(enricher, START + timedelta(days=1))
    report = enricher.run(DAY)
    assert report.lookups["dshield"]["skipped_policy"] == 5
    assert {record.keys[0] for record in simulator.requests("dshield")} == set(IPS[5:])
    rows = rows_by_ip(enricher)
    assert rows[IPS[0]].intel["dshield"] == {"status": "skipped_policy", "detail": "list:scan"}
    assert rows[IPS[0]].source_is_scanner is True
    with enricher.database.read() as connection:
        assert connection.execute(select(Lookup).where(Lookup.key.in_(IPS[:5]))).all() == []
    serve(simulator, lines("11.0.0.200"))
    clock.now += timedelta(hours=2)
    enricher.run(DAY)
    assert {record.keys[0] for record in simulator.requests("dshield")} == set(IPS)


def test_lookups_that_were_open_end_when_their_address_is_listed(
    open_enricher: Open, simulator: Simulator, configure: Callable[..., None]
) -> None:
    """A list that comes later closes what waits for its turn."""
    enricher = open_enricher()
    enricher.ingest(DAY)
    enricher.summarise_addresses(DAY)
    enricher.plan_and_open(DAY)
    assert enricher.queue.backlog_of("dshield").total == 40
    configure(tor(simulator, name="scan", says="scanner"))
    serve(simulator, lines(*IPS[:8]))
    later = open_enricher()
    later.refresh_lists()
    assert later.queue.backlog_of("dshield").total == 32
    table = table_of(SessionIp)
    with later.database.read() as connection:
        marked = connection.execute(select(table.c.src_ip).where(table.c.scanner_list == "list:scan"))
        assert set(marked.scalars()) == set(IPS[:8])


def test_a_drain_looks_at_lists_whose_time_has_come(
    open_enricher: Open, simulator: Simulator, configure: Callable[..., None], tmp_path: Path
) -> None:
    """Before it asks, so that what a list spares is spared; one that is fresh is left alone."""
    before = open_enricher()
    before.ingest(DAY)
    before.summarise_addresses(DAY)
    before.plan_and_open(DAY)
    friends = tmp_path / "friends.txt"
    friends.write_text(f"{IPS[-1]}\n")
    configure(
        tor(simulator, name="scan", says="scanner", refresh_hours=6),
        {"name": "friends", "says": "own", "file": str(friends)},
    )
    serve(simulator, lines(*IPS[:8]))
    enricher = open_enricher()
    clock = at(enricher, START + timedelta(days=1))
    told = enricher.drain().as_dict()["lists"]
    assert {name: (one["status"], one["problem"]) for name, one in told.items()} == {
        "scan": ("taken", ""), "friends": ("taken", "")
    }  # fmt: skip
    assert {record.keys[0] for record in simulator.requests("dshield")} == set(IPS[8:-1])
    assert enricher.drain().as_dict()["lists"] == {}
    friends.write_text(f"{IPS[-1]}\n{IPS[0]}\n")
    assert enricher.drain().as_dict()["lists"]["friends"]["came"] == 1
    assert len(simulator.requests("lists")) == 1
    clock.now += timedelta(hours=7)
    serve(simulator, "<html>", times=2)
    assert "is an HTML" in enricher.drain().as_dict()["lists"]["scan"]["problem"]
    configure()
    later = open_enricher()
    later.drain()
    assert later.list_book.networks("scanner") == []


def test_a_greedy_scanners_list_is_refused_until_its_share_is_allowed(
    open_enricher: Open, simulator: Simulator, configure: Callable[..., None]
) -> None:
    """More than a fifth of our addresses: refused, with the share to allow."""
    scan = tor(simulator, name="scan", says="scanner")
    configure(scan)
    serve(simulator, lines(*IPS[:10]), times=5)
    enricher = open_enricher()
    report = enricher.run(DAY)
    told = report.lists["scan"]
    assert told["status"] == "refused"
    assert "would spare 25% of our 40 addresses" in told["problem"]
    assert "skipped_policy" not in report.lookups["dshield"]
    configure({**scan, "allowed_share": 0.25})
    later = open_enricher()
    at(later, later.database.moment() + timedelta(hours=2))
    (report,) = later.refresh_lists()
    assert (report.status, report.problem) == ("taken", "")


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ("html", "it is an HTML or XML page"),
        ("empty", "it is empty"),
        ("everything", "0.0.0.0/0, wider than /8"),
        ("half", "entries, where the last good one had"),
    ],
)
def test_hostile_lists_are_refused_and_the_last_good_one_is_kept(
    open_enricher: Open, simulator: Simulator, configure: Callable[..., None], form: str, why: str
) -> None:
    """What is no list changes nothing, and the run says why; it is asked for again an hour later."""
    hostile = requests.get(tor(simulator, form)["url"], timeout=10).text
    simulator.reset()
    configure(tor(simulator))
    enricher = open_enricher()
    clock = at(enricher, START + timedelta(days=1))
    good = enricher.run(DAY).lists["exits"]
    serve(simulator, hostile)
    clock.now += timedelta(days=1)
    told = enricher.run(DAY).lists["exits"]
    assert told["status"] == "refused"
    assert why in told["problem"]
    assert told["problem"].endswith("the one of 2025-11-02 00:00 UTC is kept")
    assert told["entries"] == good["entries"]
    assert any(row.source_is_tor for row in rows_by_ip(enricher).values())
    clock.now += timedelta(minutes=50)
    assert enricher.run(DAY).lists["exits"]["status"] == "refused"
    assert len(simulator.requests("lists")) == 2
    clock.now += timedelta(minutes=11)
    assert enricher.run(DAY).lists["exits"]["problem"] == ""


@on_sqlite
def test_what_cannot_be_had_is_a_failure_and_retry_after_is_obeyed(
    open_enricher: Open, simulator: Simulator, configure: Callable[..., None]
) -> None:
    """A fault, a broken connection, a move, a 429 with Retry-After (which is obeyed): the old list holds."""
    configure(tor(simulator, refresh_hours=2))
    enricher = open_enricher(ENRICH_MAX_WAIT_SECONDS="0")
    clock = at(enricher, START + timedelta(days=1))
    enricher.refresh_lists()
    for fault, why in (
        (Fault(kind="reply", status=500), "failed: "),
        (Fault(kind="reset"), "failed: "),
        (Fault(kind="reply", status=301, headers={"Location": "/x"}), "refused: status 301: it has moved"),
        (Fault(kind="reply", status=429, retry_after_s=7200), "failed: rate limited (HTTP 429)"),
    ):
        clock.now += timedelta(hours=3)
        simulator.set_fault("lists", fault)
        (report,) = enricher.refresh_lists()
        assert report.problem.startswith(why)
        assert report.entries
    sent = len(simulator.requests("lists"))
    simulator.set_fault("lists")
    clock.now += timedelta(minutes=90)  # the hour is over, what the 429 said is not
    (report,) = enricher.refresh_lists()
    assert report.status == "failed"
    assert len(simulator.requests("lists")) == sent
    clock.now += timedelta(minutes=90)
    (report,) = enricher.refresh_lists()
    assert report.problem == ""


def test_an_own_list_keeps_addresses_from_being_sent(
    open_enricher: Open, simulator: Simulator, configure: Callable[..., None], tmp_path: Path
) -> None:
    """From a file; who is on it is ours, and days that were there before follow."""
    friends = tmp_path / "friends.txt"
    friends.write_text(f"{IPS[0]}\n10.0.0.0/8\n")
    configure({"name": "friends", "says": "own", "file": str(friends)})
    enricher = open_enricher()
    enricher.run(DAY)
    assert {record.keys[0] for record in simulator.requests("dshield")} == set(IPS[1:])
    assert rows_by_ip(enricher)[IPS[0]].source_scope == "own"
    assert rows_by_ip(enricher)[IPS[0]].source_lists == ["list:friends (late)"]
    friends.write_text(f"{IPS[1]}\n")
    enricher.look_at_lists()
    rows = rows_by_ip(enricher)
    assert (rows[IPS[0]].source_scope, rows[IPS[1]].source_scope) == ("global", "own")
    friends.unlink()
    (report,) = enricher.refresh_lists()
    assert report.problem.startswith("failed: No such file or directory; the one of ")
    assert rows_by_ip(enricher)[IPS[1]].source_scope == "own"


def test_a_list_that_is_configured_no_more_ends(
    open_enricher: Open, simulator: Simulator, configure: Callable[..., None]
) -> None:
    """Its entries end with that look; what it said before stays."""
    configure(tor(simulator))
    open_enricher().refresh_lists()
    configure()
    enricher = open_enricher()
    assert enricher.refresh_lists() == []
    with enricher.database.read() as connection:
        ends = connection.execute(select(table_of(ListEntry).c.seen_until)).scalars().all()
        last = (
            connection.execute(
                select(table_of(AddressList).c.status).order_by(table_of(AddressList).c.fetched_at.desc())
            )
            .scalars()
            .first()
        )
    assert all(ends)
    assert last == "retired"


@on_sqlite
def test_the_ledger_shows_lists_beside_the_services(
    open_enricher: Open, simulator: Simulator, configure: Callable[..., None]
) -> None:
    """A list has limits of its own, in `quota` like everything that is asked."""
    configure(tor(simulator))
    enricher = open_enricher()
    enricher.refresh_lists()
    assert [entry.status.service for entry in enricher.ledger()] == ["dshield", "list_exits"]
    assert datetime.now(timezone.utc) > START
