"""The one partitioning: UTC days. All days asked for at once are one run."""

from __future__ import annotations

from dagster import AssetExecutionContext, BackfillPolicy, DailyPartitionsDefinition, OpExecutionContext

from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.vocabulary import Days

# The current day is a partition too: its sessions are worth looking at before midnight.
daily = DailyPartitionsDefinition(start_date=load_settings().start_day.isoformat(), end_offset=1)
single_run = BackfillPolicy.single_run()


def days_of(context: AssetExecutionContext | OpExecutionContext) -> Days:
    """The range of days that this run is for."""
    span = context.partition_key_range
    return Days.parse(f"{span.start}..{span.end}")
