"""What assets need from outside, as it can be seen and overridden in the UI.

A field left empty is taken from the environment, then sensors.toml, then the default (see settings.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dagster import ConfigurableResource, Failure
from pydantic import SecretStr

from cowrie_enrich_dagster.enrichment.enricher import Enricher
from cowrie_enrich_dagster.settings import ConfigError, Settings, load_settings
from cowrie_enrich_dagster.storage.engine import DatabaseUnusable
from cowrie_enrich_dagster.storage.migrate import SchemaOutdated


class DatabaseResource(ConfigurableResource[None]):
    """The PostgreSQL or SQLite database that holds everything (default: DATABASE_URL)."""

    url: str | None = None

    def applied_to(self, settings: Settings) -> Settings:
        """The settings with this resource's own values in place."""
        if self.url is None:
            return settings
        return settings.model_copy(update={"database_url": SecretStr(self.url), "embedded_database": False})


class RedisResource(ConfigurableResource[None]):
    """The optional L1 cache (default: ENABLE_REDIS_CACHE, REDIS_HOST, REDIS_PORT, ...)."""

    enabled: bool | None = None
    host: str | None = None
    port: int | None = None

    def applied_to(self, settings: Settings) -> Settings:
        """The settings with this resource's own values in place."""
        own = {name: getattr(self, name) for name in ("enabled", "host", "port")}
        given: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
        return settings.model_copy(update={"redis": settings.redis.model_copy(update=given)})


class RateLimitResource(ConfigurableResource[None]):
    """The adaptive rate limiter; its state is shared by all runs through the database.

    `max_wait_seconds` is a run's patience (default: ENRICH_MAX_WAIT_SECONDS): a wait that is longer defers
    the lookups instead, and the run ends partial and green.
    """

    max_wait_seconds: float | None = None

    def applied_to(self, settings: Settings) -> Settings:
        """The settings with this resource's own values in place."""
        if self.max_wait_seconds is None:
            return settings
        return settings.model_copy(update={"max_wait_s": self.max_wait_seconds})


class EnricherResource(ConfigurableResource[None]):
    """The pipeline on the three resources above."""

    database: DatabaseResource
    redis: RedisResource
    rate_limits: RateLimitResource

    @contextmanager
    def open(self) -> Iterator[Enricher]:
        """An open `Enricher`; closed, with its statistics written, at the end.

        Raises `Failure`, not to be retried, for what only the operator can mend.
        """
        try:
            settings = load_settings()
            for part in (self.database, self.redis, self.rate_limits):
                settings = part.applied_to(settings)
            with Enricher(settings) as enricher:
                yield enricher
        except (ConfigError, DatabaseUnusable, SchemaOutdated) as problem:
            raise Failure(str(problem), allow_retries=False) from problem


_database, _redis, _rate_limits = DatabaseResource(), RedisResource(), RateLimitResource()
resources = {
    "database": _database,
    "redis": _redis,
    "rate_limits": _rate_limits,
    "enricher": EnricherResource(database=_database, redis=_redis, rate_limits=_rate_limits),
}
