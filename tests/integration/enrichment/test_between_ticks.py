"""What happens between two runs of a growing day: its rows and figures are those of writing all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from cowrie_enrich_dagster.cache import CacheEntry, RedisCache, ScannedFile, import_records
from cowrie_enrich_dagster.enrichment import Enricher, ingest, row_writing
from cowrie_enrich_dagster.services import Answer
from cowrie_enrich_dagster.storage import tables
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus
from tests.integration.enrichment.test_growing_day import (
    NOON,
    append,
    differences,
    read_whole,
    session,
)
from tests.integration.enrichment.test_growing_day import rows as rows_of_logs
from tests.integration.enrichment.test_growing_rows import (
    DAY,
    SERVICES,
    TODAY,
    Clock,
    assert_is_as_written_anew,
    forget_what_is_written,
    found,
    rows,
    store,
    tick,
)

Open = Callable[..., Enricher]
SOME = [f"8.8.0.{number}" for number in range(1, 5)]


@pytest.fixture
def opened(open_enricher: Open, tmp_path: Path) -> Open:
    """Opens pipelines over one log: a session of each of four addresses."""
    log = tmp_path / "growing" / "cowrie.json"
    append(log, b"".join(b"".join(session(n, at=NOON + timedelta(minutes=n))) for n in range(1, 5)))

    def open_one(**changes: str) -> Enricher:
        return open_enricher(**{**SERVICES, "COWRIE_LOG_DIR": str(log.parent), **changes})

    return open_one


def all_found(enricher: Enricher) -> None:
    store(enricher, "dshield", {address: found(address) for address in SOME})


def test_a_purged_answer_that_nobody_asks_for_again(opened: Open) -> None:
    """The service has lost its key meanwhile: its answers count as long as they are there."""
    enricher, keyless = opened(), opened(ENRICH_SERVICES="dshield,spur")
    with_key = opened(ENRICH_SERVICES="dshield,spur", SPUR_API_KEY="k")
    clock = Clock(enricher, keyless, with_key)
    tick(with_key)
    store(with_key, "spur", {SOME[0]: Answer(LookupStatus.NOT_FOUND)})
    for _ in range(2):
        clock.now += timedelta(hours=1)
        tick(keyless)
    assert keyless.purge("spur")["database"] == 1
    clock.now += timedelta(hours=1)
    tick(keyless)
    assert_is_as_written_anew(keyless)


def test_a_purge_while_rows_are_written(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was gathered before it goes into the rows, but not for long."""
    enricher = opened(ENRICH_SERVICES="dshield,spur", SPUR_API_KEY="k")
    keyless = opened(ENRICH_SERVICES="dshield,spur")
    clock = Clock(enricher, keyless)
    tick(enricher)
    tick(keyless)
    store(enricher, "spur", {SOME[0]: Answer(LookupStatus.NOT_FOUND)})
    clock.now += timedelta(hours=1)
    gather = row_writing.gather

    def meanwhile(*args: Any, **options: Any) -> Any:
        known = gather(*args, **options)
        if known.name == "spur":
            monkeypatch.setattr(row_writing, "gather", gather)
            enricher.purge("spur")
        return known

    monkeypatch.setattr(row_writing, "gather", meanwhile)
    keyless.enrich(TODAY)
    clock.now += timedelta(hours=1)
    tick(keyless)
    assert_is_as_written_anew(keyless)


def test_an_imported_answer_over_an_older_one(opened: Open) -> None:
    """It was fetched before the rows were written, and the row in the cache is older still."""
    enricher = opened()
    clock = Clock(enricher)
    tick(enricher)
    all_found(enricher)
    for _ in range(2):
        clock.now += timedelta(hours=3)
        tick(enricher)
    answer = CacheEntry.of_answer(
        "dshield", SOME[0], found(SOME[0], asname="M").payload,
        fetched_at=clock.now - timedelta(hours=4), ttl=timedelta(days=7),
    )  # fmt: skip
    clock.now += timedelta(hours=1)
    report = import_records([ScannedFile(Path("x"), answer)], enricher.cache.database, clock=clock)
    assert report.imported == 1
    tick(enricher)
    assert_is_as_written_anew(enricher)


@pytest.mark.parametrize("held", [False, True])
def test_an_answer_that_redis_alone_has(opened: Open, redis_port: int, held: bool) -> None:
    """The database is an older one that was restored: it lacks the answer, or holds the one before it."""
    with_redis = {"ENRICH_SERVICES": "dshield", "ENABLE_REDIS_CACHE": "true", "REDIS_PORT": str(redis_port)}
    enricher, other = opened(**with_redis), opened(**with_redis)
    clock = Clock(enricher, other)
    tick(enricher)
    if held:
        all_found(enricher)
    clock.now += timedelta(hours=1)
    tick(enricher)
    clock.now += timedelta(hours=1)
    answer = CacheEntry.of_answer(
        "dshield", SOME[0], found(SOME[0], asname="M").payload,
        fetched_at=clock.now - timedelta(minutes=90), ttl=timedelta(days=7),
    )  # fmt: skip
    redis = RedisCache("127.0.0.1", redis_port, clock=clock)
    redis.replace_many([answer])
    redis.close()
    tick(other)
    assert_is_as_written_anew(other)


def test_addresses_that_are_summarised_after_their_rows_were_written(opened: Open) -> None:
    """Somebody materialises the rows alone, with networks that are our own since; the addresses follow."""
    only = {"ENRICH_SERVICES": "dshield"}
    enricher, other = opened(**only), opened(**only, ENRICH_OWN_NETWORKS="8.8.0.0/30")
    clock = Clock(enricher, other)
    tick(enricher)
    all_found(enricher)
    clock.now += timedelta(hours=1)
    other.enrich(TODAY)
    clock.now += timedelta(hours=1)
    tick(other)
    assert_is_as_written_anew(other)


def test_rows_that_were_written_before_their_addresses(opened: Open, tmp_path: Path) -> None:
    """Of a private one nothing is ever learned that would have its row written again."""
    log = tmp_path / "growing" / "cowrie.json"
    append(log, session(5, at=NOON)[0].replace(b"8.8.0.5", b"10.0.0.5"))
    enricher = opened()
    clock = Clock(enricher)
    enricher.ingest(TODAY)
    enricher.enrich(TODAY)
    clock.now += timedelta(hours=1)
    tick(enricher)
    assert_is_as_written_anew(enricher)


def test_a_list_that_spares_too_many(opened: Open, configure: Callable[..., None], tmp_path: Path) -> None:
    """What is allowed of it changes, and with it whom it spares, though it says the same."""
    log, listed = tmp_path / "growing" / "cowrie.json", tmp_path / "scanners.txt"
    append(log, b"".join(b"".join(session(n, at=NOON)) for n in range(5, 30)))
    listed.write_text("\n".join(SOME))
    scanners: Mapping[str, Any] = {"name": "scanners", "says": "scanner", "file": str(listed)}
    enrichers = []
    for share in (1.0, 0.05):
        configure({**scanners, "allowed_share": share})
        enrichers.append(opened(ENRICH_SERVICES="dshield,spur"))
    clock = Clock(*enrichers)
    for step in (tick, Enricher.look_at_lists, all_found, tick, tick):
        step(enrichers[0])
        clock.now += timedelta(minutes=10)
    tick(enrichers[-1])
    stood = rows(enrichers[-1])
    with enrichers[-1].database.write() as connection:  # their addresses stay: of few no list spares too many
        connection.execute(text("DELETE FROM written_days"))
    enrichers[-1].enrich(TODAY)
    assert differences(stood, rows(enrichers[-1])) == []


def test_what_a_feed_told_for_another_day(opened: Open, tmp_path: Path) -> None:
    """A backfill reads a list of last week that holds an address of today, whose lookup stays open."""
    of_days = {days: DAY - timedelta(days=days) for days in (8, 20)}
    for days, day in of_days.items():
        at = NOON - timedelta(days=days)
        append(tmp_path / "growing" / f"cowrie.json.{day}", b"".join(session(1, at=at)))
    enricher = opened(ENRICH_SERVICES="dshield", ENRICH_FEEDS="dshield")
    clock = Clock(enricher)
    for days in range(32):
        day, told = DAY - timedelta(days=days), {SOME[0]: found(SOME[0]).payload} if days == 8 else {}
        enricher.cache.database.set(
            CacheEntry.of_answer(
                "dshield_sources", str(day), {"as_of": str(day), "dropped": 0, "entries": told},
                fetched_at=clock.now, ttl=timedelta(days=3),
            )
        )  # fmt: skip
    for _ in range(2):
        tick(enricher)
        clock.now += timedelta(hours=1)
    for day in of_days.values():
        enricher.ingest(Days(day, day))
        enricher.summarise_addresses(Days(day, day))
    assert enricher.fetch_feed("dshield_sources", Days(of_days[20], of_days[8])).answered == 1
    tick(enricher)
    assert_is_as_written_anew(enricher)


def test_another_version_of_this_software(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may make other rows of the same answers."""
    enricher = opened()
    Clock(enricher)
    tick(enricher)
    with enricher.database.write() as connection:
        connection.execute(text("UPDATE enriched_sessions SET knowledge = 'as it was'"))
    monkeypatch.setattr(row_writing, "VERSION", "99")
    enricher.enrich(TODAY)
    with enricher.database.read() as connection:
        assert (
            "as it was" not in connection.execute(text("SELECT knowledge FROM enriched_sessions")).scalars()
        )


def test_an_answer_of_a_clock_that_ran_ahead_is_stale_in_the_figures(opened: Open) -> None:
    """As it is in the rows, and in the figures of a day that is written whole."""
    enricher = opened()
    clock = Clock(enricher)
    tick(enricher)
    clock.now += timedelta(hours=5)
    all_found(enricher)
    clock.now -= timedelta(hours=5)
    assert_figures_are_those_of_writing_all(enricher)


def test_an_answer_that_was_told_again_is_newer_in_the_figures(opened: Open) -> None:
    """Newer than what a feed told in between."""
    enricher = opened()
    clock = Clock(enricher)
    times = [clock.now - timedelta(days=days) for days in (20, 15, 10)]
    of_feed = {"status": "found", "feed": "dshield_sources", "payload": found(SOME[0]).payload}
    alone = {"status": "not_found", "feed": None, "payload": None}
    again = {"told_until": times[2], "told_at": [f"{times[2]:%Y-%m-%d %H:%M:%S.%f}"]}
    once = {"told_until": None, "told_at": None}
    told = [
        {"service": "dshield", "key": SOME[0], "fetched_at": at, **by, **when}
        for at, by, when in ((times[0], alone, again), (times[1], of_feed, once))
    ]
    with enricher.database.write() as connection:
        connection.execute(tables.table_of(tables.Observation).insert(), told)
    tick(enricher)
    assert_figures_are_those_of_writing_all(enricher)


def assert_figures_are_those_of_writing_all(enricher: Enricher) -> None:
    forget_what_is_written(enricher)
    enricher.summarise_addresses(TODAY)
    whole: dict[date, Any] = {}
    enricher.enrich(TODAY, whole)
    assert replace(whole[DAY], hits=None) == replace(enricher.reports_by_day(TODAY)[DAY], hits=None)


def test_what_was_forgotten_of_a_day_is_read_again(opened: Open, tmp_path: Path) -> None:
    """A day of nothing but lines in quarantine; then ENRICH_KEEP_DAYS is given up."""
    log = tmp_path / "growing" / "cowrie.json"
    log.write_bytes(b'{"timestamp": "2025-11-02T12:00:00.000000Z", "eventid": "x"}\n')
    enricher, keeping = opened(), opened(ENRICH_KEEP_DAYS="1")
    clock = Clock(enricher, keeping)
    enricher.ingest(TODAY)
    clock.now += timedelta(days=3)
    assert keeping.forget_old_days(dry_run=False).quarantined_lines == 1
    enricher.ingest(TODAY)
    assert len(rows_of_logs(enricher.database)["quarantined_lines"]) == 1


def test_a_slower_run_takes_lines_out_of_quarantine(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read the file when it was shorter, and writes down what it found last."""
    log = tmp_path / "growing" / "cowrie.json"
    slow, quick = opened(), opened()
    Clock(slow, quick)
    append(log, b"rubbish\n")
    end = ingest._end_reading

    def later(*args: Any) -> None:
        monkeypatch.setattr(ingest, "_end_reading", end)
        append(log, b"more rubbish\n")
        quick.ingest(TODAY)
        end(*args)

    monkeypatch.setattr(ingest, "_end_reading", later)
    slow.ingest(Days(DAY - timedelta(days=1), DAY))
    append(log, b"".join(session(9, at=NOON + timedelta(hours=1))))
    quick.ingest(TODAY)
    stood = rows_of_logs(quick.database)
    read_whole(quick.database, log.parent)
    assert differences(stood, rows_of_logs(quick.database)) == []
