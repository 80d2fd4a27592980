"""What happens by the clock. All can be switched in the UI."""

from dagster import DefaultScheduleStatus, ScheduleDefinition

from cowrie_enrich_dagster.defs.jobs import cleanup_cache, drain_lookups, refresh_stale

schedules = [
    ScheduleDefinition(
        name="daily_refresh",
        job=refresh_stale,
        cron_schedule="30 1 * * *",  # after the daily quotas are new (00:00 UTC), before the day's own load
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.RUNNING,
    ),
    ScheduleDefinition(
        name="daily_cleanup",
        job=cleanup_cache,
        cron_schedule="0 4 * * *",
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.RUNNING,
    ),
    # The sensor `due_lookups` does this as soon as something is due; this one is for those who switch it off.
    ScheduleDefinition(
        name="hourly_drain",
        job=drain_lookups,
        cron_schedule="15 * * * *",
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.STOPPED,
    ),
]
