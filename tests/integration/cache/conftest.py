"""Every tier on a real server, sharing one clock that the tests own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from cowrie_enrich_dagster.cache import (
    CacheEntry,
    CacheTier,
    DatabaseCache,
    FilesystemCache,
    RedisCache,
)
from cowrie_enrich_dagster.storage.engine import Database
from tests.servers import PostgresServer

WEEK = timedelta(days=7)
SERVICE = "dshield"
TTLS = dict.fromkeys(("dshield", "virustotal", "hibp", "urlhaus"), WEEK)


class Now:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime(2025, 11, 3, 12, 0, 0, 123456, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, **span: float) -> None:
        self.moment += timedelta(**span)


@pytest.fixture
def now() -> Now:
    """The clock of every tier and of the database."""
    return Now()


def answer(key: str, fetched_at: datetime, payload: dict[str, Any] | None = None) -> CacheEntry:
    """A FOUND entry of DShield's that says which key it is about."""
    body = payload or {"ip": {"number": key, "count": 3}}
    return CacheEntry.of_answer(SERVICE, key, body, fetched_at=fetched_at, ttl=WEEK)


@dataclass
class Tier:
    """A tier, the clock it goes by, and whether it has a place for negative answers."""

    cache: CacheTier
    now: Now
    keeps_not_found: bool = True


@pytest.fixture(scope="session")
def postgres_url(postgres_server: PostgresServer) -> str:
    """One database on PostgreSQL; making one for each test would take longer than the tests."""
    return postgres_server.new_database("template")


def open_cache(engine: str, request: pytest.FixtureRequest, folder: Path, now: Now) -> DatabaseCache:
    """An empty database tier on that engine."""
    if engine == "postgresql":
        database = Database(request.getfixturevalue("postgres_url"), clock=now)
        with database.write() as connection:
            connection.exec_driver_sql("TRUNCATE enrichment_cache")
    else:
        shutil.copy(request.getfixturevalue("sqlite_template"), folder / f"{engine}.db")
        database = Database(f"sqlite:///{folder}/{engine}.db", clock=now)
    return DatabaseCache(database)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_cache(request: pytest.FixtureRequest, tmp_path: Path, now: Now) -> Iterator[DatabaseCache]:
    """The database tier, on each engine in turn."""
    cache = open_cache(request.param, request, tmp_path, now)
    yield cache
    cache.database.close()


@pytest.fixture
def sqlite_cache(request: pytest.FixtureRequest, tmp_path: Path, now: Now) -> Iterator[DatabaseCache]:
    """The database tier on SQLite, beside `database_cache` or for tests that are about something else."""
    cache = open_cache("second", request, tmp_path, now)
    yield cache
    cache.database.close()


@pytest.fixture
def postgres_cache(request: pytest.FixtureRequest, tmp_path: Path, now: Now) -> Iterator[DatabaseCache]:
    """The database tier on PostgreSQL, for what only it can do."""
    cache = open_cache("postgresql", request, tmp_path, now)
    yield cache
    cache.database.close()


@pytest.fixture(params=["redis", "sqlite", "postgresql", "filesystem"])
def tier(request: pytest.FixtureRequest, tmp_path: Path, now: Now) -> Iterator[Tier]:
    """Every tier in turn."""
    if request.param == "redis":
        redis_tier = RedisCache("127.0.0.1", request.getfixturevalue("redis_port"), clock=now)
        yield Tier(redis_tier, now)
        redis_tier.close()
    elif request.param == "filesystem":
        yield Tier(FilesystemCache(tmp_path / "files", TTLS, clock=now), now, keeps_not_found=False)
    else:
        cache = open_cache(request.param, request, tmp_path, now)
        yield Tier(cache, now)
        cache.database.close()
