"""Lists that answer for many addresses at once -> `observations`, before any address is asked about alone."""

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetsDefinition,
    MaterializeResult,
    ResourceParam,
    asset,
)

from cowrie_enrich_dagster.defs.assets.session_ips import session_ips
from cowrie_enrich_dagster.defs.metadata import escape, percent
from cowrie_enrich_dagster.defs.partitions import daily, days_of, single_run
from cowrie_enrich_dagster.defs.resources import DatabaseResource, RateLimitsResource, RedisResource, opened
from cowrie_enrich_dagster.defs.retries import retry

_FIGURES = ("requests", "lists", "entries", "dropped", "wanted", "answered", "left")


def _feed_asset(name: str, feed: str, description: str) -> AssetsDefinition:
    read = AssetCheckSpec(
        f"{name}_read",
        asset=name,
        description="Every list that could save calls was read, if the feed is turned on (warning: the "
        "addresses are asked about one by one instead).",
    )

    @asset(
        name=name,
        group_name="feeds",
        partitions_def=daily,
        backfill_policy=single_run,
        retry_policy=retry,
        deps=[session_ips],
        check_specs=[read],
        pool="fetch",
        kinds={"sql"},
        description=description,
    )
    def feed_asset(
        context: AssetExecutionContext,
        database: ResourceParam[DatabaseResource],
        redis: ResourceParam[RedisResource],
        rate_limits: ResourceParam[RateLimitsResource],
    ) -> MaterializeResult:  # type: ignore[type-arg]
        with opened(database, redis, rate_limits) as pipeline:
            report = pipeline.fetch_feed(feed, days_of(context)) if feed in pipeline.feeds else None
        if report is None:
            passed = AssetCheckResult(check_name=read.name, passed=True, metadata={"feed": "turned off"})
            return MaterializeResult(metadata={"feed": "turned off"}, check_results=[passed])
        if report.problem:
            context.log.warning("%s: %s", feed, report.problem)
        figures = report.as_dict()
        return MaterializeResult(
            metadata={
                "feed": "read",
                **{name: figures[name] for name in _FIGURES},
                "share_answered": percent(figures["share_answered"]),
                "problem": escape(report.problem),
            },
            check_results=[
                AssetCheckResult(
                    check_name=read.name,
                    passed=not report.problem,
                    severity=AssetCheckSeverity.WARN,
                    metadata={"problem": escape(report.problem)},
                )
            ],
        )

    return feed_asset


dshield_feed = _feed_asset(
    "dshield_feed", "dshield_sources", "DShield's worst attackers of each day: what was known of ours then."
)
abuseipdb_feed = _feed_asset(
    "abuseipdb_feed",
    "abuseipdb_blacklist",
    "AbuseIPDB's blacklist as it is now, for the days it still is about.",
)
