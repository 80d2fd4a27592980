"""Every tier on a real server, sharing one clock that the tests own."""

from __future__ import annotations

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
from cowrie_enrich_dagster.storage.migrate import upgrade

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


@pytest.fixture
def database_cache(database_url: str, now: Now) -> Iterator[DatabaseCache]:
    """The database tier, on each engine in turn."""
    database = Database(database_url, clock=now)
    upgrade(database)
    yield DatabaseCache(database)
    database.close()


@pytest.fixture
def sqlite_cache(tmp_path: Path, now: Now) -> Iterator[DatabaseCache]:
    """The database tier on SQLite, for tests that are about something else."""
    database = Database(f"sqlite:///{tmp_path}/cache.db", clock=now)
    upgrade(database)
    yield DatabaseCache(database)
    database.close()


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
        url = (
            f"sqlite:///{tmp_path}/tier.db"
            if request.param == "sqlite"
            else request.getfixturevalue("postgres_server").new_database()
        )
        database = Database(url, clock=now)
        upgrade(database)
        yield Tier(DatabaseCache(database), now)
        database.close()
