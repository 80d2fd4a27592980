"""`sessions` -> `campaigns`."""

from datetime import date
from typing import Any

from dagster import AssetExecutionContext, MaterializeResult, ResourceParam, asset

from cowrie_enrich_dagster.defs.assets.enriched_sessions import enriched_sessions
from cowrie_enrich_dagster.defs.columns import described
from cowrie_enrich_dagster.defs.metadata import table, tell
from cowrie_enrich_dagster.defs.partitions import daily, days_of, in_runs
from cowrie_enrich_dagster.defs.resources import DatabaseResource, opened
from cowrie_enrich_dagster.defs.retries import retry
from cowrie_enrich_dagster.enrichment.campaigns_of_days import DayOfCampaigns
from cowrie_enrich_dagster.enrichment.ingest import sessions_by_day
from cowrie_enrich_dagster.storage.tables import Campaign


@asset(
    group_name="campaigns",
    partitions_def=daily,
    backfill_policy=in_runs,
    retry_policy=retry,
    deps=[enriched_sessions],
    kinds={"sql"},
    metadata=described(Campaign),
)
def campaigns(context: AssetExecutionContext, database: ResourceParam[DatabaseResource]) -> MaterializeResult:  # type: ignore[type-arg]
    """Sessions that share a file, a key, a download host or a script are one campaign, over all days.

    What everybody shares joins nobody. `session_campaigns` has a row for each of their sessions. A partition
    is what a day adds; a campaign that it makes or joins may reach over days before and after.
    """
    days = days_of(context)
    with opened(database) as pipeline:
        found = pipeline.find_campaigns(days)
        sessions = sessions_by_day(pipeline.database, days)
        by_day = {
            day: _of_day(of_day, sessions.get(day, 0), day)
            for day, of_day in pipeline.campaigns_of_days(days).items()
        }
    tell(context, by_day, {"run_days": len(found.days), "run_sessions_with_new_artefacts": found.sessions})
    return MaterializeResult()


def _of_day(of_day: DayOfCampaigns, sessions: int, day: date) -> dict[str, Any]:
    """The figures of one day, for its partition."""
    return {
        "dagster/row_count": of_day.campaigns,
        "campaigns": of_day.campaigns,
        "new_campaigns": of_day.new,
        "sessions": sessions,
        "sessions_in_campaigns": of_day.sessions,
        "largest": table(
            ["campaign", "label", "sessions of the day", "sources of the day", "sessions in all", "since"],
            [
                (one.campaign_id, one.label, one.sessions, one.sources, one.all_sessions,
                 "today" if one.first_seen.date() == day else one.first_seen.date())
                for one in of_day.largest
            ],
        ),
    }  # fmt: skip
