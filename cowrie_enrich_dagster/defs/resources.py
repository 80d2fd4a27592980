"""What ops need from outside, as it can be seen in the UI and set in the launchpad for one run.

What is left out is taken from the environment, then sensors.toml, then the default (see settings/). None is
nested in another: Dagster does not hand what is typed in the launchpad to a nested resource.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field as with_default
from typing import Any

from dagster import Failure, Field, InitResourceContext, ResourceDefinition, resource

from cowrie_enrich_dagster.cache import RedisCache
from cowrie_enrich_dagster.defs.launch import database_for_a_run, optional
from cowrie_enrich_dagster.enrichment import Enricher, open_redis
from cowrie_enrich_dagster.pacing import Pace, QuotaStatus, quota
from cowrie_enrich_dagster.settings import DEFAULT_SERVICE_NAMES, ConfigError, Settings, load_settings
from cowrie_enrich_dagster.storage.engine import Database, DatabaseUnusable
from cowrie_enrich_dagster.storage.migrate import SchemaOutdated


@dataclass(frozen=True)
class DatabaseResource:
    """The PostgreSQL or SQLite database that holds everything."""

    url: str | None = None

    def applied_to(self, settings: Settings) -> Settings:
        """The settings with this resource's own values in place."""
        if self.url is None:
            return settings
        own = {"database_url": database_for_a_run(settings, self.url), "embedded_database": False}
        return settings.model_copy(update=own)

    @contextmanager
    def open(self) -> Iterator[Database]:
        """The engine and its transactions: `with database.open() as db, db.read() as connection`."""
        opened = Database(self.applied_to(load_settings()).database_url.get_secret_value())
        try:
            yield opened
        finally:
            opened.close()


@dataclass(frozen=True)
class RedisResource:
    """The optional first tier of the cache. The configured password goes to the configured server only."""

    enabled: bool | None = None
    host: str | None = None
    port: int | None = None
    db: int | None = None
    ttl_seconds: int | None = None

    def applied_to(self, settings: Settings) -> Settings:
        """The settings with this resource's own values in place."""
        given: dict[str, Any] = {name: value for name, value in vars(self).items() if value is not None}
        own, configured = settings.redis.model_copy(update=given), settings.redis
        if (own.host, own.port) != (configured.host, configured.port):
            own = own.model_copy(update={"password": None})
        return settings.model_copy(update={"redis": own})

    @contextmanager
    def open(self) -> Iterator[RedisCache | None]:
        """The tier, of which no method raises for what Redis does; None where it is off."""
        opened = open_redis(self.applied_to(load_settings()).redis)
        try:
            yield opened
        finally:
            if opened is not None:
                opened.close()


@dataclass(frozen=True)
class RateLimitsResource:
    """The adaptive rate limiter, whose state is shared by all runs through the database.

    Here a run may be held below the configured rates (`paces`), and be given another patience: a wait that is
    longer defers the lookups, and the run ends partial and green.
    """

    max_wait_seconds: float | None = None
    paces: Mapping[str, Pace] = with_default(default_factory=dict)

    def applied_to(self, settings: Settings) -> Settings:
        """The settings with this resource's own patience in place."""
        if self.max_wait_seconds is None:
            return settings
        return settings.model_copy(update={"max_wait_s": self.max_wait_seconds})

    def snapshot(self, database: Database) -> list[QuotaStatus]:
        """Where the limit of every service that was ever asked stands, whoever asked."""
        return quota(database)


@resource(
    description="The database that holds everything (default: DATABASE_URL).",
    config_schema={
        "url": optional(
            "database_url",
            str,
            "postgresql://user@host/name or sqlite:////file, for this run. Without a password: that of "
            "DATABASE_URL goes along to its own server, and to no other.",
        )
    },
)
def database_resource(init: InitResourceContext) -> DatabaseResource:
    """Built for each step, with what was set for its run."""
    return DatabaseResource(**init.resource_config)


@resource(
    description="The first tier of the cache, Redis (default: ENABLE_REDIS_CACHE, REDIS_HOST, ...).",
    config_schema={
        "enabled": optional("redis.enabled", bool, "false: this run does without Redis"),
        "host": optional("redis.host", str, "a host name or address, without a port and without a password"),
        "port": optional("redis.port", int, "1 to 65535"),
        "db": optional("redis.db", int, "number of the Redis database"),
        "ttl_seconds": optional("redis.ttl_seconds", int, "longest life there of what this run stores"),
    },
)
def redis_resource(init: InitResourceContext) -> RedisResource:
    """Built for each step, with what was set for its run."""
    return RedisResource(**init.resource_config)


def _of_service(name: str) -> Field:
    return Field(
        {
            "rate": optional(f"services.{name}.rate", float, "requests a second; at most what is configured"),
            "burst": optional(f"services.{name}.burst", int, "requests at once; at most what is configured"),
        },
        is_required=False,
        description=f"{name} is asked no faster than this by this run; other runs and what was learned stay.",
    )


@resource(
    description="The adaptive rate limiter. Its state is shared through the database; what is set here holds "
    "for one run, and lowers only.",
    config_schema={
        "max_wait_seconds": optional(
            "max_wait_s", float, "how long the run waits for a service before it defers its lookups"
        ),
        **{name: _of_service(name) for name in DEFAULT_SERVICE_NAMES},
    },
)
def rate_limits_resource(init: InitResourceContext) -> RateLimitsResource:
    """Built for each step, with what was set for its run."""
    own = dict(init.resource_config)
    return RateLimitsResource(
        own.pop("max_wait_seconds", None), {name: Pace(**pace) for name, pace in own.items()}
    )


resources: dict[str, ResourceDefinition] = {
    "database": database_resource,
    "redis": redis_resource,
    "rate_limits": rate_limits_resource,
}


@contextmanager
def opened(
    database: DatabaseResource,
    redis: RedisResource | None = None,
    rate_limits: RateLimitsResource | None = None,
) -> Iterator[Enricher]:
    """The pipeline on these resources; closed, with its statistics written, at the end.

    Raises `Failure`, not to be retried, for what only the operator can mend.
    """
    try:
        settings = load_settings()
        for part in (database, redis, rate_limits):
            settings = part.applied_to(settings) if part else settings
        with Enricher(settings, rate_limits.paces if rate_limits else None) as enricher:
            yield enricher
    except (ConfigError, DatabaseUnusable, SchemaOutdated) as problem:
        raise Failure(str(problem), allow_retries=False) from problem
