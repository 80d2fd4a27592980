"""What is typed in the launchpad: it takes effect for one run, and a wrong value starts none."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
from dagster import DagsterInstance, DagsterInvalidConfigError, ExecuteInProcessResult
from dagster._core.execution.api import create_execution_plan
from sqlalchemy import text

from cowrie_enrich_dagster.definitions import defs
from cowrie_enrich_dagster.defs.resources import DatabaseResource, RateLimitsResource, RedisResource
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.ingest import sessions_by_day
from cowrie_enrich_dagster.pacing import Pace, SlowerRateLimiter
from cowrie_enrich_dagster.settings import ConfigError, load_settings
from cowrie_enrich_dagster.simulator import Simulator
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from cowrie_enrich_dagster.vocabulary import Days

DAY = "2025-11-01"


@pytest.fixture
def run(instance: DagsterInstance) -> Any:
    """`enrich_day` as the launchpad starts it, with configuration of resources."""

    def start(**resources: Any) -> ExecuteInProcessResult:
        return defs.resolve_job_def("enrich_day").execute_in_process(
            instance=instance,
            tags={"dagster/asset_partition_range_start": DAY, "dagster/asset_partition_range_end": DAY},
            run_config={"resources": {name: {"config": own} for name, own in resources.items()}},
        )

    return start


def count(url: str, table: str) -> int:
    database = Database(url)
    with database.read() as connection:
        rows = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
    database.close()
    return int(rows)


def limit_row(enricher: Enricher) -> Any:
    with enricher.database.read() as connection:
        return connection.execute(
            text("SELECT configured_rate, configured_burst, learned_rate FROM service_limits")
        ).one()


def test_the_database_of_one_run(run: Any, tmp_path: Path, enricher: Enricher, few_logs: list[str]) -> None:
    """Its rows are in the database that was typed, and in no other."""
    other = f"sqlite:///{tmp_path}/other.db"
    upgrade(Database(other))
    assert run(database={"url": other}).success
    assert count(other, "enriched_sessions") == 3 * len(few_logs)
    assert sum(sessions_by_day(enricher.database, Days.parse(DAY)).values()) == 0


def test_each_field_of_redis(
    run: Any, redis_port: int, environment: pytest.MonkeyPatch, few_logs: list[str]
) -> None:
    """Off by default here: on, where it is told, in the database and for the time that were typed."""
    assert run(redis={"enabled": True, "host": "127.0.0.1", "port": redis_port, "db": 3, "ttl_seconds": 50})
    with redis_client.Redis(port=redis_port, db=3) as client:
        keys = client.keys("*")
        assert len(keys) == len(few_logs)
        assert 0 < client.ttl(keys[0]) <= 50
        client.flushall()
    environment.setenv("ENABLE_REDIS_CACHE", "true")
    environment.setenv("REDIS_PORT", str(redis_port))
    assert run(redis={"enabled": False}).success
    with redis_client.Redis(port=redis_port) as client:
        assert client.dbsize() == 0
    assert run().success
    with redis_client.Redis(port=redis_port) as client:
        assert client.dbsize() == len(few_logs)


@pytest.mark.usefixtures("few_logs")
def test_a_lower_rate_for_one_run(run: Any, simulator: Simulator, enricher: Enricher) -> None:
    """Requests are spaced as was typed; what is configured and learned stays as it was."""
    result = run(rate_limits={"dshield": {"rate": 30.0, "burst": 1}})
    assert result.success
    moments = sorted(record.t for record in simulator.requests("dshield"))
    gaps = [after - before for before, after in pairwise(moments)]
    assert len(gaps) == 11
    assert sorted(gaps)[len(gaps) // 2] >= 1 / 30
    assert limit_row(enricher) == (1000.0, 1, None)


def test_the_patience_of_one_run(
    run: Any, simulator: Simulator, enricher: Enricher, few_logs: list[str]
) -> None:
    """Nobody waits for a slot that is further away than was typed: the rest is deferred."""
    result = run(rate_limits={"max_wait_seconds": 0.0, "dshield": {"rate": 0.1}})
    assert result.success
    assert len(simulator.requests("dshield")) == 1
    backlog = enricher.backlog()["dshield"]
    assert backlog.total == len(few_logs) - 1


def test_a_slower_run_forgets_nothing_that_was_learned(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A rate learned from refusals outlives a run that is slower than it."""
    environment.setenv("DSHIELD_RATE_LIMIT", "10")
    with Enricher(load_settings()) as enricher:
        enricher.source("dshield").limiter.acquire(1)
        learned = "UPDATE service_limits SET learned_rate = 5, learning = :search"
        search = {"good": 5.0, "ceiling": 10.0, "since": time.time() - 1e6, "quiet_s": 600.0}
        with enricher.database.write() as connection:
            connection.execute(text(learned), {"search": json.dumps(search)})
    with Enricher(load_settings(), {"dshield": Pace(rate=2.0)}) as enricher:
        limiter = enricher.source("dshield").limiter
        assert isinstance(limiter, SlowerRateLimiter)
        assert limiter.snapshot().spacing_s >= 0.5
        for _ in range(2):
            limiter.acquire(1)
        assert limit_row(enricher)[2] is not None
        assert limit_row(enricher)[2] >= 5


@pytest.mark.parametrize(
    ("resource", "config", "words"),
    [
        ("database", {"url": "mysql://host/name"}, "accepted: postgresql://user@host/name"),
        ("database", {"url": "nonsense"}, "accepted: postgresql://user@host/name"),
        ("database", {"url": "postgresql://u:hunter2@h/n"}, "holds a password"),
        ("database", {"url": "postgresql://u@h/n?passfile=/etc/x"}, "holds a password, or parameters"),
        ("database", {"url": {"env": "DATABASE_URL"}}, "Invalid scalar"),
        ("redis", {"enabled": "yes"}, "Invalid scalar"),
        ("redis", {"host": "user:secret@host"}, "a host name or address"),
        ("redis", {"host": {"env": "REDIS_HOST"}}, "Invalid scalar"),
        ("redis", {"port": 0}, "from 1 to 65535"),
        ("redis", {"db": -1}, "0 or more"),
        ("redis", {"ttl_seconds": 0}, "1 or more"),
        ("redis", {"password": "x"}, "unexpected config entry"),
        ("rate_limits", {"max_wait_seconds": -1.0}, "from 0 to 1000000000"),
        ("rate_limits", {"max_wait_seconds": float("nan")}, "from 0 to 1000000000"),
        ("rate_limits", {"dshield": {"rate": 0.0}}, "greater than 0"),
        ("rate_limits", {"dshield": {"rate": 1001.0}}, "more than the 1000 that is configured"),
        ("rate_limits", {"dshield": {"burst": 2}}, "more than the 1 that is configured"),
        ("rate_limits", {"dshield": {"burst": 0}}, "from 1 to 1000000"),
        ("rate_limits", {"nobody": {"rate": 1.0}}, "unexpected config entry"),
    ],
)
def test_a_wrong_value_is_refused_before_the_run(resource: str, config: Any, words: str) -> None:
    """The plan of the run, which Dagster makes before it starts one, is refused with what is accepted."""
    with pytest.raises((DagsterInvalidConfigError, ConfigError)) as refusal:
        create_execution_plan(
            defs.resolve_job_def("enrich_day"), run_config={"resources": {resource: {"config": config}}}
        )
    assert words in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_a_password_goes_to_its_own_server_only(environment: pytest.MonkeyPatch) -> None:
    """PostgreSQL's and Redis's: another host, port, user or parameter that leads elsewhere gets none."""
    environment.setenv("DATABASE_URL", "postgresql://me:hunter2@db.internal/cowrie")
    environment.setenv("REDIS_PASSWORD", "hunter3")
    settings = load_settings()

    def url(typed: str) -> str:
        return DatabaseResource(typed).applied_to(settings).database_url.get_secret_value()

    assert url("postgresql://db.internal:5432/other") == "postgresql://me:hunter2@db.internal:5432/other"
    for stranger in ("postgresql://me@evil.example/cowrie", "postgresql://me@db.internal:5433/cowrie",
                     "postgresql://you@db.internal/cowrie"):  # fmt: skip
        assert "hunter2" not in url(stranger)
    assert RedisResource(db=4).applied_to(settings).redis.password is not None
    assert RedisResource(port=6380).applied_to(settings).redis.password is None
    assert RedisResource(host="evil.example").applied_to(settings).redis.password is None
    environment.setenv("PGPASSWORD", "hunter4")
    with pytest.raises(ConfigError, match="PGPASSWORD"):
        url("postgresql://me@evil.example/cowrie")


def test_an_asset_of_ones_own_gets_the_real_things(redis_port: int, tmp_path: Path) -> None:
    """An engine with transactions, a client, and where each limit stands."""
    with DatabaseResource(f"sqlite:///{tmp_path}/own.db").open() as database:
        upgrade(database)
        assert RateLimitsResource().snapshot(database) == []
    with RedisResource(enabled=True, host="127.0.0.1", port=redis_port).open() as redis:
        assert redis is not None
        assert redis.status().reachable
    with RedisResource(enabled=False).open() as redis:
        assert redis is None
