"""The one partitioning: UTC days. All days asked for at once are one run, or runs of ENRICH_DAYS_PER_RUN."""

from __future__ import annotations

from dagster import AssetExecutionContext, BackfillPolicy, DailyPartitionsDefinition, OpExecutionContext

from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.vocabulary import Days

# The current day is a partition too: its sessions are worth looking at before midnight.
daily = DailyPartitionsDefinition(start_date=load_settings().start_day.isoformat(), end_offset=1)


def backfill_policy(days_per_run: int | None) -> BackfillPolicy:
    """Runs of at most so many days; None: one run. A key is asked once however many runs there are."""
    return BackfillPolicy.multi_run(days_per_run) if days_per_run else BackfillPolicy.single_run()


in_runs = backfill_policy(load_settings().days_per_run)


def days_of(context: AssetExecutionContext | OpExecutionContext) -> Days:
    """The range of days that this run is for."""
    span = context.partition_key_range
    return Days.parse(f"{span.start}..{span.end}")
