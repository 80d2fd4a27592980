"""The rows of a growing day: those that change are written, and they say what all of them would say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import select, text

from cowrie_enrich_dagster.cache import CacheEntry
from cowrie_enrich_dagster.enrichment import Enricher, row_writing
from cowrie_enrich_dagster.lookups.answers import AnswerStore
from cowrie_enrich_dagster.services import Answer
from cowrie_enrich_dagster.storage import tables
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus
from tests.integration.enrichment.test_growing_day import BEGIN, NOON, Sensor, append, differences, session

Open = Callable[..., Enricher]
DAY = date(2025, 11, 2)
TODAY = Days(DAY, DAY)
SERVICES = {
    "ENRICH_SERVICES": "dshield,greynoise,urlhaus,hibp",
    "ENRICH_HIBP": "true",
    "DSHIELD_EMAIL": "test@example.org",
    "GREYNOISE_API_KEY": "k",
    "URLHAUS_API_KEY": "k",
    "ENRICH_FEEDS": "",
}


def rows(enricher: Enricher) -> dict[str, list[str]]:
    told = {}
    with enricher.database.read() as connection:
        for model in (tables.EnrichedSession, tables.SessionIp):
            table = tables.table_of(model)
            told[table.name] = sorted(repr(tuple(row)) for row in connection.execute(select(table)))
    return told


def forget_what_is_written(enricher: Enricher) -> None:
    with enricher.database.write() as connection:
        connection.execute(text("DELETE FROM written_days"))
        connection.execute(text(f"DELETE FROM session_ips WHERE day = '{DAY}'"))


class Clock:
    """Moments of the test's own, a second apart."""

    def __init__(self, *enrichers: Enricher, now: datetime = NOON + timedelta(hours=2)) -> None:
        self.now = now
        for enricher in enrichers:
            enricher.database._clock = enricher.cache._clock = self

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def tick(enricher: Enricher) -> None:
    for step in (enricher.ingest, enricher.summarise_addresses, enricher.plan_and_open, enricher.enrich):
        step(TODAY)


def store(enricher: Enricher, name: str, answers: dict[str, Answer]) -> None:
    AnswerStore(enricher.source(name), enricher.database, enricher.queue, enricher.cache).store(
        list(answers), answers
    )


def found(address: str, **network: object) -> Answer:
    """What DShield says of an address."""
    return Answer(LookupStatus.FOUND, {"ip": {"number": address, "as": 7, "asname": "N", **network}})


def assert_is_as_written_anew(enricher: Enricher) -> None:
    """Of the day all rows are written: nothing changes by that."""
    stood = rows(enricher)
    forget_what_is_written(enricher)
    enricher.summarise_addresses(TODAY)
    enricher.enrich(TODAY)
    assert differences(stood, rows(enricher)) == []


class World:
    """A day of a sensor, and services that answer, fail, forget and say other things than before."""

    def __init__(self, rng: Random, enricher: Enricher, logs: Path) -> None:
        self._rng, self._enricher = rng, enricher
        self.now = BEGIN + timedelta(hours=2)
        enricher.database._clock = enricher.cache._clock = lambda: self.now
        self._sensor = Sensor(rng, logs)
        self._sensor.goes_on()
        self.moves = (
            [self.grows] * 4 + [self.is_asked] * 3 + [self.time_passes, self.expires, self.is_refused]
        )

    def grows(self) -> None:
        self._rng.choice(self._sensor.moves)()

    def time_passes(self) -> None:
        self.now += timedelta(minutes=self._rng.randrange(90))

    def expires(self) -> None:
        with self._enricher.database.write() as connection:
            connection.execute(
                text("UPDATE enrichment_cache SET expires_at = :soon WHERE cache_key LIKE :some").bindparams(
                    soon=f"{self.now + timedelta(seconds=1):%Y-%m-%d %H:%M:%S.%f}",
                    some=f"%{self._rng.randrange(9)}",
                )
            )
        self.now += timedelta(seconds=2)

    def is_refused(self) -> None:
        self._store("greynoise", lambda key: Answer(LookupStatus.ERROR, detail="HTTP 500"))

    def is_asked(self) -> None:
        network = {
            "as": self._rng.randrange(1, 9),
            "asname": "N",
            "ascountry": self._rng.choice(["NL", "DE"]),
        }
        for name, answer in {
            "dshield": lambda key: Answer(LookupStatus.FOUND, {"ip": {"number": key, **network}}),
            "greynoise": lambda key: Answer(LookupStatus.NOT_FOUND),
            "urlhaus": lambda key: Answer(LookupStatus.NOT_FOUND),
            "hibp": lambda key: Answer(LookupStatus.FOUND, {"suffixes": {"0" * 35: 3}}),
        }.items():
            if self._rng.random() < 0.6:
                self._store(name, answer)

    def _store(self, name: str, answer: Callable[[str], Answer]) -> None:
        enricher = self._enricher
        with enricher.database.read() as connection:
            query = text("SELECT key FROM lookups WHERE service = :name ORDER BY key").bindparams(name=name)
            keys = list(connection.execute(query).scalars())
        if chosen := self._rng.sample(keys, min(len(keys), 4)):
            store = AnswerStore(enricher.source(name), enricher.database, enricher.queue, enricher.cache)
            store.store(chosen, {key: answer(key) for key in chosen})


@pytest.mark.parametrize(
    ("database_url", "seed"),
    [*product(["sqlite"], range(5)), *product(["postgresql"], range(3, 8))],
    indirect=["database_url"],
)
def test_rows_and_figures_are_those_of_writing_all(open_enricher: Open, tmp_path: Path, seed: int) -> None:
    """After each step of a day everything is written anew, and nothing differs."""
    logs = tmp_path / "growing"
    logs.mkdir()
    rng = Random(seed)
    enricher = open_enricher(**SERVICES, COWRIE_LOG_DIR=str(logs))
    world = World(rng, enricher, logs)
    for turn in range(14):
        for _ in range(rng.randrange(1, 4)):
            rng.choice(world.moves)()
        enricher.ingest(TODAY)
        enricher.summarise_addresses(TODAY)
        enricher.plan_and_open(TODAY)
        of_days: dict[date, Any] = {}
        report, found = enricher.enrich(TODAY, of_days), rows(enricher)
        if turn % 3 == 2:  # else what is written whole now would hide what was not written before
            forget_what_is_written(enricher)
            enricher.summarise_addresses(TODAY)
            whole_days: dict[date, Any] = {}
            whole = enricher.enrich(TODAY, whole_days)
            assert differences(found, rows(enricher)) == [], f"turn {turn}"
            assert replace(report, hits=whole.hits) == whole, f"turn {turn}"
            assert replace(of_days[DAY], hits=whole_days[DAY].hits) == whole_days[DAY], f"turn {turn}"


def test_only_rows_that_change_are_written(open_enricher: Open, tmp_path: Path) -> None:
    """Sixty sessions; then one more of a new address, and news of an old one: two rows."""
    log = tmp_path / "growing" / "cowrie.json"
    append(log, b"".join(b"".join(session(n, at=NOON + timedelta(minutes=n))) for n in range(60)))
    enricher = open_enricher(**SERVICES, COWRIE_LOG_DIR=str(log.parent))
    clock = Clock(enricher)
    tick(enricher)
    clock.now += timedelta(hours=1)
    tick(enricher)
    with enricher.database.write() as connection:
        connection.execute(text("UPDATE enriched_sessions SET knowledge = 'as it was'"))
    clock.now += timedelta(hours=1)
    append(log, b"".join(session(60, at=NOON + timedelta(hours=1))))
    store = AnswerStore(enricher.source("dshield"), enricher.database, enricher.queue, enricher.cache)
    store.store(["8.8.0.7"], {"8.8.0.7": Answer(LookupStatus.NOT_FOUND)})
    for step in (enricher.ingest, enricher.summarise_addresses, enricher.plan_and_open):
        step(TODAY)

    assert enricher.enrich(TODAY).sessions == 61

    with enricher.database.read() as connection:
        query = text(
            "SELECT source_ip FROM enriched_sessions WHERE knowledge <> 'as it was' ORDER BY source_ip"
        )
        assert list(connection.execute(query).scalars()) == ["8.8.0.60", "8.8.0.7"]


def test_a_setting_that_rows_rest_on_has_all_of_them_written(open_enricher: Open, tmp_path: Path) -> None:
    """Networks that are our own since: their rows say so, though neither session nor answer changed."""
    log = tmp_path / "growing" / "cowrie.json"
    append(log, b"".join(session(1, at=NOON)))
    now = datetime(2025, 11, 2, 14, tzinfo=timezone.utc)
    scopes = []
    for own in ({}, {"ENRICH_OWN_NETWORKS": "8.8.0.0/24"}):
        enricher = open_enricher(**SERVICES, COWRIE_LOG_DIR=str(log.parent), **own)
        enricher.database._clock = lambda: now
        for step in (enricher.ingest, enricher.summarise_addresses, enricher.plan_and_open, enricher.enrich):
            step(TODAY)
        with enricher.database.read() as connection:
            scopes += connection.execute(text("SELECT source_scope FROM enriched_sessions")).scalars()
    assert scopes == ["global", "own"]


def test_addresses_are_what_their_day_says(open_enricher: Open, tmp_path: Path) -> None:
    """A network that is not ours any more, and a day before whose rows do not follow yet."""
    logs = tmp_path / "growing"
    append(logs / "cowrie.json.1", b"".join(session(1, at=NOON - timedelta(days=1))))
    append(logs / "cowrie.json", b"".join(session(1, at=NOON)))
    former = open_enricher(**SERVICES, COWRIE_LOG_DIR=str(logs), ENRICH_OWN_NETWORKS="8.8.0.0/24")
    enricher = open_enricher(**SERVICES, COWRIE_LOG_DIR=str(logs))
    Clock(former, enricher)
    former.ingest(Days(DAY - timedelta(days=1), DAY))
    former.summarise_addresses(Days(DAY - timedelta(days=1), DAY))
    tick(enricher)
    append(logs / "cowrie.json", b"".join(session(251, at=NOON)).replace(b"8.8.1.1", b"8.8.0.1"))
    tick(enricher)
    with enricher.database.read() as connection:
        scopes = connection.execute(text("SELECT source_scope FROM enriched_sessions")).scalars()
        assert list(scopes) == ["global", "global"]
    assert_is_as_written_anew(enricher)


def test_what_expired_and_was_cleaned_up_is_stale(open_enricher: Open, tmp_path: Path) -> None:
    """Between two looks an answer expires, and goes from the cache into the history."""
    append(tmp_path / "growing" / "cowrie.json", b"".join(session(1, at=NOON)))
    enricher = open_enricher(**SERVICES, COWRIE_LOG_DIR=str(tmp_path / "growing"))
    clock = Clock(enricher, now=NOON - timedelta(days=7) + timedelta(hours=4))
    enricher.ingest(TODAY)
    enricher.summarise_addresses(TODAY)
    enricher.plan_and_open(TODAY)
    store(enricher, "dshield", {"8.8.0.1": found("8.8.0.1")})
    clock.now = NOON + timedelta(hours=3)
    tick(enricher)
    tick(enricher)
    clock.now = NOON + timedelta(hours=5)
    assert enricher.cleanup() == {"dshield": 1}
    enricher.enrich(TODAY)
    with enricher.database.read() as connection:
        intel = connection.execute(select(tables.table_of(tables.EnrichedSession).c.intel)).scalar_one()
    assert intel["dshield"]["stale"] is True
    assert_is_as_written_anew(enricher)


def test_what_a_feed_told_is_stale_in_its_time(open_enricher: Open, tmp_path: Path) -> None:
    """It stands in the history from the first, and is as fresh there as answers in the cache."""
    append(tmp_path / "growing" / "cowrie.json", b"".join(session(1, at=NOON)))
    enricher = open_enricher(**SERVICES, COWRIE_LOG_DIR=str(tmp_path / "growing"))
    clock = Clock(enricher)
    told = tables.table_of(tables.Observation).insert().values(
        service="dshield", key="8.8.0.1", fetched_at=NOON - timedelta(days=7) + timedelta(hours=4),
        status="found", payload=found("8.8.0.1").payload, feed="dshield",
    )  # fmt: skip
    with enricher.database.write() as connection:
        connection.execute(told)
    tick(enricher)
    tick(enricher)
    clock.now = NOON + timedelta(hours=5)
    enricher.enrich(TODAY)
    assert_is_as_written_anew(enricher)


def test_an_answer_that_came_long_after_it_was_fetched(open_enricher: Open, tmp_path: Path) -> None:
    """So it is with what is imported, and what Redis or the old files alone had."""
    append(tmp_path / "growing" / "cowrie.json", b"".join(session(1, at=NOON)))
    enricher = open_enricher(**SERVICES, COWRIE_LOG_DIR=str(tmp_path / "growing"))
    clock = Clock(enricher)
    tick(enricher)
    clock.now += timedelta(hours=1)
    tick(enricher)
    clock.now += timedelta(hours=1)
    answer = CacheEntry.of_answer(
        "dshield", "8.8.0.1", found("8.8.0.1").payload, fetched_at=NOON - timedelta(days=2), ttl=timedelta(7)
    )
    enricher.cache.database.set(answer)
    tick(enricher)
    assert_is_as_written_anew(enricher)


def test_what_was_not_committed_when_it_was_looked_for(
    open_enricher: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that began before rows were written and ends after that: what it wrote is seen then."""
    append(tmp_path / "growing" / "cowrie.json", b"".join(session(1, at=NOON)))
    enricher = open_enricher(**SERVICES, COWRIE_LOG_DIR=str(tmp_path / "growing"))
    clock = Clock(enricher)
    tick(enricher)
    clock.now += timedelta(hours=1)
    gather = row_writing.gather

    def before_it_ends(*args: Any, **options: Any) -> Any:
        known = gather(*args, **options)
        monkeypatch.setattr(row_writing, "gather", gather)
        later, clock.now = clock.now, clock.now - timedelta(seconds=20)
        with enricher.database.write() as connection:
            enricher.queue.close(connection, ["8.8.0.1"], LookupStatus.SKIPPED_POLICY)
        clock.now = later
        return known

    monkeypatch.setattr(row_writing, "gather", before_it_ends)
    enricher.enrich(TODAY)
    enricher.enrich(TODAY)
    assert_is_as_written_anew(enricher)


def test_a_clock_that_is_set_back(open_enricher: Open, tmp_path: Path) -> None:
    """What is learned then has moments before those at which rows were written."""
    append(tmp_path / "growing" / "cowrie.json", b"".join(session(1, at=NOON)))
    enricher = open_enricher(**SERVICES, COWRIE_LOG_DIR=str(tmp_path / "growing"))
    clock = Clock(enricher)
    tick(enricher)
    clock.now += timedelta(hours=3)
    tick(enricher)
    clock.now -= timedelta(hours=2)
    store(enricher, "dshield", {"8.8.0.1": found("8.8.0.1")})
    tick(enricher)
    assert_is_as_written_anew(enricher)
