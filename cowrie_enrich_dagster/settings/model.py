"""What can be set: one annotated field per setting, with where it is read from and what it accepts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Annotated

from pydantic import Field, SecretStr

from cowrie_enrich_dagster.service_names import service_names
from cowrie_enrich_dagster.settings.cores import usable_cores
from cowrie_enrich_dagster.settings.fields import From, Frozen, Source
from cowrie_enrich_dagster.settings.lists import PRESETS, ListSettings, PresetNames
from cowrie_enrich_dagster.settings.values import (
    FEED_SERVICES,
    AbsolutePath,
    ApiUrl,
    DatabaseUrl,
    FeedNames,
    HeaderSecret,
    IsoDay,
    ListedNetworks,
    Network,
    Networks,
    ServiceNames,
    WantedColumns,
    WebhookUrl,
)
from cowrie_enrich_dagster.vocabulary import WANTED_GROUPS

DEFAULT_SERVICE_NAMES = service_names()

DEFAULT_RUN_S = 300.0
MAX_READERS = 8
_NETWORK_FILE = "a text file with an address or CIDR network on each line (# begins a comment)"


class RedisSettings(Frozen):
    """The L1 cache. `max_memory` is what the operator says the server is limited to; nothing enforces it."""

    enabled: Annotated[bool, From(env="ENABLE_REDIS_CACHE", toml=("cache", "redis_enabled"))] = True
    host: Annotated[
        str,
        Field(pattern=r"^([^\s/@:]+|[0-9A-Fa-f.]*(:[0-9A-Fa-f.]*){2,}(%\w+)?)$"),
        From(
            env="REDIS_HOST", toml=("cache", "redis_host"), accepts="a host name or address, without a port"
        ),
    ] = "localhost"
    port: Annotated[
        int,
        Field(ge=1, le=65535),
        From(env="REDIS_PORT", toml=("cache", "redis_port"), accepts="a whole number from 1 to 65535"),
    ] = 6379
    password: Annotated[SecretStr | None, From(env="REDIS_PASSWORD", accepts="text")] = None
    db: Annotated[int, Field(ge=0), From(env="REDIS_DB", accepts="a whole number, 0 or more")] = 0
    tls: Annotated[bool, From(env="REDIS_TLS")] = False
    ttl_seconds: Annotated[
        int,
        Field(ge=1, le=2**31 - 1),
        From(toml=("cache", "redis_ttl_seconds"), accepts="a whole number of seconds, 1 or more"),
    ] = 3600
    max_memory: Annotated[
        str | None,
        Field(pattern=r"^(?i:[0-9]+([kmg]b?|b)?)$"),
        From(toml=("cache", "redis_max_memory"), accepts='a size as Redis writes it, such as "256mb"'),
    ] = None


class ServiceSettings(Frozen):
    """One intelligence service. None for `api_url`, `rate`, `burst` means the service's own default."""

    api_url: Annotated[
        ApiUrl | None,
        From(
            env="{SERVICE}_API_URL",
            accepts="an http:// or https:// URL without credentials, query or fragment"
            " (cymru: whois://host:port)",
            unset="the service's own",
        ),
    ] = None
    # The lower bound keeps 1/rate within what a date can hold.
    rate: Annotated[
        float | None,
        Field(ge=1e-6, allow_inf_nan=False),
        From(
            env="{SERVICE}_RATE_LIMIT",
            toml=("rate_limits", "{service}_rate"),
            accepts="requests per second, a number greater than 0 (at least 0.000001)",
            unset="the service's own",
        ),
    ] = None
    burst: Annotated[
        int | None,
        Field(ge=1, le=1_000_000),
        From(
            env="{SERVICE}_BURST",
            toml=("rate_limits", "{service}_burst"),
            accepts="a whole number of requests from 1 to 1000000",
            unset="the service's own",
        ),
    ] = None
    per_minute: Annotated[
        int | None,
        Field(ge=0, le=1_000_000_000),
        From(
            env="{SERVICE}_PER_MINUTE",
            toml=("rate_limits", "{service}_per_minute"),
            accepts="a whole number of requests a minute; 0: no such limit",
            unset="the service's own",
        ),
    ] = None
    per_day: Annotated[
        int | None,
        Field(ge=0, le=1_000_000_000),
        From(
            env="{SERVICE}_PER_DAY",
            toml=("rate_limits", "{service}_per_day"),
            accepts="a whole number of requests a day; 0: no such limit",
            unset="the service's own",
        ),
    ] = None
    per_month: Annotated[
        int | None,
        Field(ge=0, le=1_000_000_000),
        From(
            env="{SERVICE}_PER_MONTH",
            toml=("rate_limits", "{service}_per_month"),
            accepts="a whole number of requests a month; 0: no such limit",
            unset="the service's own",
        ),
    ] = None
    first_cooldown: Annotated[
        float,
        Field(ge=1, le=3600, allow_inf_nan=False),
        From(
            env="{SERVICE}_FIRST_COOLDOWN",
            toml=("rate_limits", "{service}_first_cooldown"),
            accepts="a number of seconds from 1 to 3600",
        ),
    ] = 60.0
    """How long the first refusal without a Retry-After stops the service; each further one twice as long."""
    api_key: Annotated[
        HeaderSecret | None, From(env="{SERVICE}_API_KEY", accepts="printable ASCII without spaces")
    ] = None
    email: Annotated[
        str | None,
        Field(pattern=r"^[!-?A-~]+@[!-?A-~]+$"),  # it is sent in a header: no spaces, no line breaks
        From(env="{SERVICE}_EMAIL", accepts="an e-mail address", only="dshield", is_private=True),
    ] = None
    database: Annotated[
        AbsolutePath | None,
        From(env="{SERVICE}_DB_PATH", accepts="a file, or a folder with files", only="maxmind"),
    ] = None
    respect_retry_after: Annotated[
        bool, From(env="RESPECT_RETRY_AFTER", toml=("rate_limits", "{service}_respect_retry_after"))
    ] = True

    @property
    def capped(self) -> frozenset[str]:
        """The windows whose limit is set here."""
        here = {"minute": self.per_minute, "day": self.per_day, "month": self.per_month}
        return frozenset(name for name, limit in here.items() if limit is not None)

    def windows(self, own: Mapping[str, int]) -> dict[str, int]:
        """The requests allowed in each `minute`, `day` and `month`: as set here, else the service's `own`."""
        here = {"minute": self.per_minute, "day": self.per_day, "month": self.per_month}
        chosen = {name: own.get(name, 0) if limit is None else limit for name, limit in here.items()}
        return {name: limit for name, limit in chosen.items() if limit}


class Settings(Frozen):
    """All settings of one process. Secrets are `SecretStr`; nothing here prints them."""

    home: Annotated[AbsolutePath, From(env="COWRIE_ENRICH_HOME", accepts="a directory")]
    log_dir: Annotated[AbsolutePath | None, From(env="COWRIE_LOG_DIR", accepts="a directory")] = None
    database_url: Annotated[
        DatabaseUrl,
        From(env="DATABASE_URL", accepts="postgresql://user:password@host/name or sqlite:///file"),
    ]
    embedded_database: bool = False
    """Whether `database_url` is the SQLite file under `home`, because DATABASE_URL is not set."""
    cache_dir: Annotated[
        AbsolutePath | None, From(env="CACHE_DIR", accepts="a directory", unset="no filesystem tier")
    ] = None
    """Base of the filesystem tier; None when that tier is off."""
    cache_enabled: Annotated[bool, From(toml=("cache", "enabled"))] = True
    """Off: no filesystem tier, and no Redis either unless ENABLE_REDIS_CACHE asks for it."""
    redis: RedisSettings = RedisSettings()
    max_run_s: Annotated[
        float | None,
        Field(ge=1, allow_inf_nan=False),
        From(
            env="ENRICH_MAX_RUN_SECONDS",
            accepts="a number of seconds, 1 or more",
            unset="300; a drain or run --wait by hand goes on to the end",
        ),
    ] = None
    """How long a run asks, from its start; the rest is deferred."""
    max_wait_s: Annotated[
        float,
        Field(ge=0, le=1e9),
        From(env="ENRICH_MAX_WAIT_SECONDS", accepts="a number of seconds from 0 to 1000000000"),
    ] = 120.0
    """How long one run waits for a service before it defers the lookup, in seconds."""
    start_day: Annotated[IsoDay, From(env="ENRICH_START_DAY", accepts="a day written YYYY-MM-DD")] = date(
        2025, 1, 1
    )
    """The first Dagster partition."""
    every_minutes: Annotated[
        int,
        Field(ge=0, le=1440),
        From(env="ENRICH_EVERY_MINUTES", accepts="a whole number of minutes from 0 to 1440"),
    ] = 15
    """How often a day whose logs merely grow is enriched again under Dagster; 0: at every look."""
    days_per_run: Annotated[
        int | None,
        Field(ge=1, le=3_660),
        From(
            env="ENRICH_DAYS_PER_RUN",
            accepts="a whole number of days from 1 to 3660",
            unset="all days of a backfill in one run",
        ),
    ] = None
    """At most how many days a run of a backfill, or of the sensor, has under Dagster. None: all of them."""
    workers: Annotated[
        int | None,
        Field(ge=1, le=64),
        From(
            env="ENRICH_WORKERS",
            accepts="a whole number from 1 to 64",
            unset="as many as there are cores, 8 at most",
        ),
    ] = None
    """How many processes read logs, where there is enough to read that it pays. None: see `readers`."""
    keep_runs_days: Annotated[
        int,
        Field(ge=1, le=36_500),
        From(env="ENRICH_KEEP_RUNS_DAYS", accepts="a whole number of days from 1 to 36500"),
    ] = 30
    """How long Dagster's record of a finished run is kept, unless the status of a partition rests on it."""
    keep_days: Annotated[
        int | None,
        Field(ge=1, le=36_500),
        From(
            env="ENRICH_KEEP_DAYS",
            accepts="a whole number of days from 1 to 36500",
            unset="kept for ever",
        ),
    ] = None
    """How many days before today sessions are kept; older days are not read again. None: for ever."""
    own_networks: Annotated[
        Networks, From(env="ENRICH_OWN_NETWORKS", accepts="a comma list of addresses and CIDR networks")
    ] = ()
    """Networks of ours: their addresses are never sent to a service."""
    own_networks_file: Annotated[
        ListedNetworks | None, From(env="ENRICH_OWN_NETWORKS_FILE", accepts=_NETWORK_FILE)
    ] = None
    """More of them."""
    scanners_file: Annotated[
        ListedNetworks | None, From(env="ENRICH_SCANNERS_FILE", accepts=_NETWORK_FILE)
    ] = None
    """Scanners known to the operator: marked as such, and no call is spent on them."""
    enabled_services: Annotated[
        ServiceNames | None,
        From(env="ENRICH_SERVICES", accepts="a comma list of {services}", unset="those that are configured"),
    ] = None
    feeds: Annotated[
        FeedNames | None,
        From(
            env="ENRICH_FEEDS",
            accepts=f"a comma list of {', '.join(FEED_SERVICES)}, or none",
            unset="abuseipdb, and dshield where maxmind takes part",
        ),
    ] = None
    """The services whose lists are read before anything is asked one by one."""
    list_presets: Annotated[
        PresetNames | None,
        From(
            env="ENRICH_LISTS",
            accepts=f"a comma list of {', '.join(PRESETS)}",
            unset="none but those of [[enrichment.lists]]",
        ),
    ] = None
    """Public lists that are fetched whole; `lists` holds them with those of sensors.toml."""
    lists: tuple[ListSettings, ...] = ()
    want: Annotated[
        WantedColumns | None,
        From(
            env="ENRICH_WANT",
            accepts=f"all, or a comma list of {', '.join(WANTED_GROUPS)}, or columns of these",
            unset="all: every service is asked about every key",
        ),
    ] = None
    """The columns of enriched rows that are worth a call; None: whatever a service says is."""
    webhook_url: Annotated[
        WebhookUrl | None,
        From(env="ENRICH_WEBHOOK_URL", accepts="an http:// or https:// URL of Slack's form, or ntfy's topic"),
    ] = None
    """Where the operator is told of bans, refused keys, silence, failed checks and the day's report."""
    sensors_toml: Annotated[AbsolutePath | None, From(env="SENSORS_TOML", accepts="a TOML file")] = None
    """The file that was read, if any."""
    services: Mapping[str, ServiceSettings]
    warnings: tuple[str, ...] = ()
    """What the operator should know but need not fix, a line each."""
    sources: Mapping[str, Source] = Field(default={}, repr=False)
    """Where each value that is not a default came from, by dotted path such as `redis.host`."""

    @property
    def readers(self) -> int:
        """How many processes read logs: as set, else one a core, as far as the one that writes keeps up."""
        return self.workers or min(usable_cores(), MAX_READERS)

    @property
    def run_s(self) -> float:
        """The seconds that a run or a slice of a drain may take."""
        return DEFAULT_RUN_S if self.max_run_s is None else self.max_run_s

    def first_kept_day(self, today: date) -> date | None:
        """The first day that ENRICH_KEEP_DAYS keeps; None where all are kept."""
        return None if self.keep_days is None else today - timedelta(days=self.keep_days)

    def all_own_networks(self) -> tuple[Network, ...]:
        """Our networks, wherever they are listed."""
        return self.own_networks + (self.own_networks_file.networks if self.own_networks_file else ())

    def service(self, name: str) -> ServiceSettings:
        """The settings of one service. Raises `KeyError` for a name that was not given to `load_settings`."""
        return self.services[name]

    def services_to_ask(self, known: Iterable[str]) -> tuple[str, ...]:
        """The services to ask, of the `known` ones.

        ENRICH_SERVICES decides when it is set, even for a service whose key is missing (its lookups end as
        `skipped_no_key`); otherwise those that are configured: DShield, and every service of which the key,
        the URL or the file is given. Nothing is sent to a service nobody mentioned, even if it needs no key.
        """
        if self.enabled_services is not None:
            return self.enabled_services
        return tuple(name for name in known if name == "dshield" or self._mentions(name))

    def _mentions(self, name: str) -> bool:
        own = self.services[name]
        return any(value is not None for value in (own.api_url, own.api_key, own.database))
