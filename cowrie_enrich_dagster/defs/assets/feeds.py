"""Lists that answer for many addresses at once -> `observations`, before any address is asked about alone."""

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetsDefinition,
    AssetSpec,
    MaterializeResult,
    ResourceParam,
    asset,
)

from cowrie_enrich_dagster.defs.assets.session_ips import session_ips
from cowrie_enrich_dagster.defs.columns import described
from cowrie_enrich_dagster.defs.metadata import escape, tell
from cowrie_enrich_dagster.defs.partitions import daily, days_of, in_runs
from cowrie_enrich_dagster.defs.resources import DatabaseResource, RateLimitsResource, RedisResource, opened
from cowrie_enrich_dagster.defs.retries import retry
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.feeds import told_by_feed
from cowrie_enrich_dagster.enrichment.ingest import sessions_by_day
from cowrie_enrich_dagster.readable import percent
from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.services.feeds import FEEDS
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.storage.tables import Observation

_FIGURES = ("requests", "lists", "entries", "dropped", "wanted", "answered", "left")


def is_on(feed: str) -> bool:
    """Whether the settings have this feed read."""
    return feed in Enricher(load_settings()).feeds


def feed_asset(feed: str, description: str) -> AssetsDefinition | AssetSpec:
    """The asset of a feed; of one that is off only its name and that it is, so that nothing can look read."""
    base = FEEDS[feed].service
    name = f"{base}_feed"
    kept = described(Observation)
    if not is_on(feed):
        key = f" with {base.upper()}_API_KEY" if ALL[base].needs_key else ""
        off = f"**Off**: {description} ENRICH_FEEDS turns it on{key}, at the next start."
        return AssetSpec(
            name, deps=[session_ips], group_name="feeds", description=off, kinds={"off"},
            metadata={**kept, "feed": "off"},
        )  # fmt: skip
    read = AssetCheckSpec(
        f"{name}_read",
        asset=name,
        description="Every list that could save calls was read (warning: the addresses are asked about one "
        "by one instead).",
    )

    @asset(
        name=name,
        group_name="feeds",
        partitions_def=daily,
        backfill_policy=in_runs,
        retry_policy=retry,
        deps=[session_ips],
        check_specs=[read],
        pool="fetch",
        kinds={"sql"},
        description=description,
        metadata=kept,
    )
    def read_feed(
        context: AssetExecutionContext,
        database: ResourceParam[DatabaseResource],
        redis: ResourceParam[RedisResource],
        rate_limits: ResourceParam[RateLimitsResource],
    ) -> MaterializeResult:  # type: ignore[type-arg]
        days = days_of(context)
        with opened(database, redis, rate_limits) as pipeline:
            report = pipeline.fetch_feed(feed, days)
            rows, sessions = (
                told_by_feed(pipeline.database, feed, days),
                sessions_by_day(pipeline.database, days),
            )
        if report.problem:
            context.log.warning("%s: %s", feed, report.problem)
        figures = report.as_dict()
        of_run = {
            **{f"run_{name}": figures[name] for name in _FIGURES},
            "run_share_answered": percent(figures["share_answered"]),
            "run_problem": escape(report.problem),
        }
        by_day = {
            day: {"dagster/row_count": rows.get(day, 0), "sessions": sessions.get(day, 0)} for day in days
        }
        tell(context, by_day, of_run)
        return MaterializeResult(
            check_results=[
                AssetCheckResult(
                    check_name=read.name,
                    passed=not report.problem,
                    severity=AssetCheckSeverity.WARN,
                    metadata={"problem": escape(report.problem)},
                )
            ],
        )

    return read_feed


dshield_feed = feed_asset(
    "dshield_sources", "DShield's worst attackers of each day: what was known of ours then."
)
abuseipdb_feed = feed_asset(
    "abuseipdb_blacklist",
    "AbuseIPDB's blacklist as it is now, for the days it still is about.",
)
