"""Public lists -> `list_entries`, before any address is asked about: who was on which of them when."""

from typing import Any

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
from cowrie_enrich_dagster.defs.metadata import escape, table, tell
from cowrie_enrich_dagster.defs.partitions import daily, days_of, in_runs
from cowrie_enrich_dagster.defs.resources import DatabaseResource, RateLimitsResource, RedisResource, opened
from cowrie_enrich_dagster.defs.retries import retry
from cowrie_enrich_dagster.enrichment.lists import ListReport
from cowrie_enrich_dagster.readable import duration
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.storage.tables import ListEntry

NAME = "address_lists"
_DESCRIPTION = "Public lists of Tor exits, scanners and attackers: fetched whole, kept as spans of time."
_READ = AssetCheckSpec(
    "lists_are_good",
    asset=NAME,
    description="Every list was looked at in time, none was refused, and each has between half and twice as "
    "many entries as the time before (warning: the last good one goes on holding).",
)


def list_asset() -> AssetsDefinition | AssetSpec:
    """The asset; where no list is configured only its name and that it is off."""
    kept = described(ListEntry)
    if not load_settings().lists:
        return AssetSpec(
            NAME,
            deps=[session_ips],
            group_name="feeds",
            description=f"**Off**: {_DESCRIPTION} ENRICH_LISTS turns it on, at the next start.",
            kinds={"off"},
            metadata={**kept, "lists": "off"},
        )

    @asset(
        name=NAME,
        group_name="feeds",
        partitions_def=daily,
        backfill_policy=in_runs,
        retry_policy=retry,
        deps=[session_ips],
        check_specs=[_READ],
        pool="fetch",
        kinds={"sql"},
        description=_DESCRIPTION,
        metadata=kept,
    )
    def look_at_lists(
        context: AssetExecutionContext,
        database: ResourceParam[DatabaseResource],
        redis: ResourceParam[RedisResource],
        rate_limits: ResourceParam[RateLimitsResource],
    ) -> MaterializeResult:  # type: ignore[type-arg]
        days = days_of(context)
        with opened(database, redis, rate_limits) as pipeline:
            reports = pipeline.look_at_lists()
            listed = pipeline.listed_by_day(days)
        for report in reports:
            if report.problem:
                context.log.warning("%s: %s", report.list, report.problem)
        by_day = {day: {"dagster/row_count": listed.get(day, 0)} for day in days}
        tell(context, by_day, {"run_lists": _table(reports)})
        return MaterializeResult(check_results=[_check(reports)])

    return look_at_lists


def _table(reports: list[ListReport]) -> Any:
    columns = ["list", "says", "look", "entries", "before", "came", "went", "age", "problem"]
    return table(
        columns,
        [
            (
                one.list, one.says, one.status, one.entries, one.entries_before, one.came, one.went,
                duration(one.age_s), one.problem,
            )
            for one in reports
        ],
    )  # fmt: skip


def _check(reports: list[ListReport]) -> AssetCheckResult:
    figures: dict[str, Any] = {}
    for one in reports:
        if one.problem:
            figures[one.list] = escape(one.problem)
        elif one.is_of_other_size:
            figures[one.list] = f"{one.entries} entries, {one.entries_before} before"
    ages = {f"age_hours_{one.list}": round(one.age_s / 3600, 1) for one in reports if one.age_s is not None}
    return AssetCheckResult(
        check_name=_READ.name,
        passed=not figures,
        severity=AssetCheckSeverity.WARN,
        metadata={**ages, **figures},
    )


address_lists = list_asset()
