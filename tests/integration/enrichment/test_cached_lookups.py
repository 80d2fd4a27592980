"""Answers through the hybrid cache with the real service behind it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.ingest import sessions_by_day
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import Simulator
from cowrie_enrich_dagster.storage.migrate import downgrade, upgrade
from cowrie_enrich_dagster.storage.tables import EnrichedSession, table_of
from cowrie_enrich_dagster.vocabulary import Days
from tests import warm
from tests.integration.enrichment.conftest import SAMPLE_DAYS
from tests.logs import routable_ips

_ROWS = table_of(EnrichedSession)

DAY = Days.parse("2025-11-01")
Open = Callable[..., Enricher]


def test_a_hundred_sessions_from_ten_addresses_one_by_one(
    open_enricher: Open, simulator: Simulator, redis_port: int
) -> None:
    """ADR-005's case: 90 L1 hits, 10 calls; asked in bulk, the answers are the same."""
    sessions = routable_ips(10) * 10
    random.Random(5).shuffle(sessions)
    with_redis = {"ENABLE_REDIS_CACHE": "true", "REDIS_PORT": str(redis_port)}
    enricher = open_enricher(**with_redis)
    hits = [enricher.cache.get_or_fetch("dshield", ip) for ip in sessions]
    assert Counter(hit.tier for hit in hits if hit) == {"redis": 90, "api": 10}
    assert len(simulator.requests("dshield")) == 10
    bulk = open_enricher(**with_redis).cache.get_or_fetch_many("dshield", sessions)
    assert {ip: hit.entry for ip, hit in bulk.items()} == {
        ip: hit.entry for ip, hit in zip(sessions, hits, strict=True) if hit
    }
    assert len(simulator.requests("dshield")) == 10


def ask_all(environment: dict[str, str], ips: list[str]) -> dict[str, str]:
    with Enricher(load_settings(environment)) as enricher:
        hits = enricher.cache.get_or_fetch_many("dshield", ips)
        return {ip: hit.entry.status.value for ip, hit in hits.items()}


def test_processes_that_miss_the_same_keys_at_once_make_one_call_each(
    environment: dict[str, str], simulator: Simulator
) -> None:
    """Eight processes, 100 unknown keys: 100 calls, and all eight have all answers."""
    ips = routable_ips(100)
    with ProcessPoolExecutor(8, mp_context=warm.context()) as pool:
        answers = [future.result() for future in [pool.submit(ask_all, environment, ips) for _ in range(8)]]
    assert simulator.calls_per_key("dshield") == dict.fromkeys(ips, 1)
    assert [len(answer) for answer in answers] == [100] * 8
    assert all(answer == answers[0] for answer in answers)


def test_two_containers_share_answers_but_not_their_homes(
    open_enricher: Open, simulator: Simulator, redis_port: int, tmp_path: Path
) -> None:
    """A second worker with its own home, the same database and Redis, makes no call."""
    shared = {"ENABLE_REDIS_CACHE": "true", "REDIS_PORT": str(redis_port)}
    first = open_enricher(**shared, COWRIE_ENRICH_HOME=str(tmp_path / "a")).run(DAY).as_dict()
    second = open_enricher(**shared, COWRIE_ENRICH_HOME=str(tmp_path / "b")).run(DAY).as_dict()
    assert second["api_calls"] == {"dshield": 0}
    assert len(simulator.requests("dshield")) == first["api_calls"]["dshield"] > 40


def told(enricher: Enricher) -> list[Any]:
    """What is known of each session, and since when; how long an answer is good went with the cache."""
    query = select(_ROWS.c["sensor", "session_id", "knowledge", "source_as_number", "intel"])
    with enricher.database.read() as connection:
        found = connection.execute(query.order_by(_ROWS.c.sensor, _ROWS.c.session_id)).all()
    return [(*row[:-1], row.intel.get("dshield", {}).get("fetched_at")) for row in found]


@pytest.mark.sampled
def test_the_rollback_and_its_undoing(open_enricher: Open, simulator: Simulator) -> None:
    """Down to v11 and up again: sessions stay, and so do the answers in their rows: nothing is paid twice.

    Rows tell the second of an answer, no more: one that came some days after a session may be a day nearer.
    """
    enricher = open_enricher()
    before = told(enricher)
    downgrade(enricher.database, "v11")
    assert sum(sessions_by_day(enricher.database, SAMPLE_DAYS).values()) == 1400
    upgrade(enricher.database)
    report = open_enricher().run(SAMPLE_DAYS).as_dict()
    assert (report["status"], report["api_calls"]["dshield"]) == ("complete", 0)
    after = told(open_enricher())
    assert [row[:2] + row[3:] for row in after] == [row[:2] + row[3:] for row in before]
    changed = [(one[2], other[2]) for one, other in zip(before, after, strict=True) if one[2] != other[2]]
    assert all(int(one.split()[0]) - int(other.split()[0]) == 1 for one, other in changed)
    assert len(changed) < 5
