"""What happens by the clock. All can be switched in the UI."""

from dagster import (
    DefaultScheduleStatus,
    RunConfig,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    schedule,
)

from cowrie_enrich_dagster.defs.jobs import (
    ForgetConfig,
    cleanup_cache,
    drain_lookups,
    forget,
    forget_old_days,
    prune_history,
    refresh_stale,
)
from cowrie_enrich_dagster.settings import load_settings


@schedule(
    name="daily_forgetting",
    job=forget_old_days,
    cron_schedule="30 4 * * *",  # after the cleanup, which moves expired answers into the history
    execution_timezone="UTC",
    default_status=DefaultScheduleStatus.RUNNING,
    description="Deletes the days that ENRICH_KEEP_DAYS does not keep; without that setting it does nothing.",
)
def daily_forgetting(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
    """Ask for a run that deletes, where the operator has said how long days are kept."""
    if load_settings().keep_days is None:
        return SkipReason("ENRICH_KEEP_DAYS is not set: every day is kept")
    return RunRequest(run_config=RunConfig(ops={forget.name: ForgetConfig(dry_run=False)}))


schedules = [
    ScheduleDefinition(
        name="daily_refresh",
        job=refresh_stale,
        cron_schedule="30 1 * * *",  # after the daily quotas are new (00:00 UTC), before the day's own load
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.RUNNING,
        description="Asks again about active addresses before their answers expire.",
    ),
    ScheduleDefinition(
        name="daily_cleanup",
        job=cleanup_cache,
        cron_schedule="0 4 * * *",
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.RUNNING,
        description="Moves expired answers out of the cache into the history.",
    ),
    daily_forgetting,
    ScheduleDefinition(
        name="daily_pruning",
        job=prune_history,
        cron_schedule="0 5 * * *",
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.RUNNING,
        description="Deletes old runs from Dagster's history (ENRICH_KEEP_RUNS_DAYS); no status changes.",
    ),
    # The sensor `due_lookups` does this as soon as something is due; this one is for those who switch it off.
    ScheduleDefinition(
        name="hourly_drain",
        job=drain_lookups,
        cron_schedule="15 * * * *",
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.STOPPED,
        description="Asks what is due, for those who switch the sensor due_lookups off.",
    ),
]
