"""The hit rates against a real Redis: each can fail, and what Redis knew alone is kept."""

from __future__ import annotations

from typing import Any

import pytest
import redis as redis_client
from dagster import AssetCheckEvaluation, ExecuteInProcessResult
from sqlalchemy import text

from cowrie_enrich_dagster.cache.entry import encode
from cowrie_enrich_dagster.cache.redis_tier import KEY_PREFIX
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.metrics import render
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import Simulator
from tests.dagster.conftest import Materialise
from tests.servers import RedisServer

pytestmark = pytest.mark.usefixtures("few_logs")
DAY = "2025-11-01"


def checks(result: ExecuteInProcessResult) -> dict[str, AssetCheckEvaluation]:
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def rate(result: ExecuteInProcessResult, check: str) -> tuple[bool, int, float | None]:
    told = checks(result)[check]
    share = told.metadata.get("hit_rate")
    return told.passed, int(str(told.metadata["expected"].value)), share and float(str(share.value))


def execute(enricher: Enricher, statement: str) -> None:
    with enricher.database.write() as connection:
        connection.execute(text(statement))


def count(enricher: Enricher, query: str) -> int:
    with enricher.database.read() as connection:
        return int(connection.execute(text(query)).scalar_one())


def assert_told_everywhere(told: dict[str, AssetCheckEvaluation], enricher: Enricher) -> None:
    shown = render(enricher).decode()
    kind = '{kind="enrichment_cache",'
    assert f'cowrie_enrich_last_run_hit_ratio{kind}tier="cache"}} 1.0' in shown
    assert told["cache_hit_rate"].metadata["hit_rate"].value == 1.0
    share = told["sessions_without_call"].metadata["dshield"].value
    assert f'cowrie_enrich_last_run_sessions_without_call_ratio{kind}service="dshield"}} {share}' in shown
    assert f'cowrie_enrich_last_run_coverage_ratio{kind}service="dshield"}} 1.0' in shown


@pytest.fixture
def with_redis(environment: pytest.MonkeyPatch, redis_port: int) -> redis_client.Redis:
    environment.setenv("ENABLE_REDIS_CACHE", "true")
    environment.setenv("REDIS_PORT", str(redis_port))
    return redis_client.Redis(port=redis_port)


def test_the_cache_fails_when_it_lost_what_was_paid_for(
    materialise: Materialise, enricher: Enricher, simulator: Simulator
) -> None:
    """Nothing is expected of a first run, all of a second; wiped it fails, though all is bought anew.

    `enrichment_runs` of a Dagster run and Prometheus tell what the checks tell.
    """
    assert rate(materialise(DAY), "cache_hit_rate") == (True, 0, None)
    asked = len(simulator.requests("dshield"))
    again = materialise(DAY)
    assert rate(again, "cache_hit_rate") == (True, asked, 1.0)
    assert_told_everywhere(checks(again), enricher)
    execute(enricher, "DELETE FROM enrichment_cache")
    wiped = materialise(DAY)
    assert rate(wiped, "cache_hit_rate") == (False, asked, 0.0)
    assert checks(wiped)["coverage"].passed
    assert len(simulator.requests("dshield")) == 2 * asked


def test_redis_fails_when_it_lost_what_it_was_given(
    materialise: Materialise, with_redis: redis_client.Redis, enricher: Enricher
) -> None:
    """Emptied within its TTL it is told; what its time has run out for, or nobody gave it, is not missed."""
    assert rate(materialise(DAY), "l1_hit_rate") == (True, 0, None)
    passed, expected, share = rate(materialise(DAY), "l1_hit_rate")
    assert (passed, share) == (True, 1.0)
    with_redis.flushall()
    assert rate(materialise(DAY), "l1_hit_rate") == (False, expected, 0.0)
    with_redis.flushall()
    execute(enricher, "UPDATE enrichment_cache SET l1_until = '2025-11-01 00:00:00+00:00'")
    assert rate(materialise(DAY), "l1_hit_rate") == (True, 0, None)


def test_a_dead_redis_claims_no_latency(materialise: Materialise, environment: pytest.MonkeyPatch) -> None:
    """It is unreachable, and neither its failed calls nor their time count as lookups."""
    server = RedisServer()
    environment.setenv("ENABLE_REDIS_CACHE", "true")
    environment.setenv("REDIS_PORT", str(server.port))
    materialise(DAY)
    server.kill()
    told = checks(materialise(DAY))
    server.close()
    assert not told["l1_reachable"].passed
    assert not told["l1_latency"].passed
    assert "p50_ms" not in told["l1_latency"].metadata
    assert not told["l1_hit_rate"].passed
    assert told["cache_hit_rate"].passed


def test_what_redis_knows_alone_reaches_the_database(
    materialise: Materialise,
    with_redis: redis_client.Redis,
    environment: pytest.MonkeyPatch,
    enricher: Enricher,
    simulator: Simulator,
    tmp_path: Any,
) -> None:
    """A new database and a filled Redis: no call, every answer kept with its age, and kept without Redis."""
    materialise(DAY)
    asked = len(simulator.requests("dshield"))
    ages = "SELECT cache_key, fetched_at FROM enrichment_cache ORDER BY 1"
    with enricher.database.read() as connection:
        before = connection.execute(text(ages)).all()
    environment.setenv("COWRIE_ENRICH_HOME", str(tmp_path / "new"))
    assert materialise(DAY).success
    with Enricher(load_settings()) as new, new.database.read() as connection:
        assert connection.execute(text(ages)).all() == before
    with_redis.flushall()
    assert materialise(DAY).success
    assert len(simulator.requests("dshield")) == asked


def test_what_is_no_answer_is_not_taken_from_redis(
    materialise: Materialise, with_redis: redis_client.Redis, enricher: Enricher, simulator: Simulator
) -> None:
    """An entry about another address is not believed, not kept, and asked about anew."""
    materialise(DAY)
    asked = len(simulator.requests("dshield"))
    with enricher.database.read() as connection:
        two = text("SELECT cache_key FROM enrichment_cache ORDER BY 1 LIMIT 2")
        keys = connection.execute(two).scalars().all()
    entries = enricher.cache.database.get_many("dshield", keys)
    execute(enricher, f"DELETE FROM enrichment_cache WHERE cache_key = '{keys[0]}'")
    with_redis.set(f"{KEY_PREFIX}:dshield:{keys[0]}", encode(entries[keys[1]]))
    materialise(DAY)
    assert [record.keys[0] for record in simulator.requests("dshield")[asked:]] == [keys[0]]
    assert count(enricher, "SELECT count(*) FROM enrichment_cache") == asked
