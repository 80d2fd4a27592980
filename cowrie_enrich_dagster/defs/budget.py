"""A run's time: it counts from the start of the Dagster run, whichever step asks."""

from __future__ import annotations

import time

from dagster import AssetExecutionContext, OpExecutionContext

from cowrie_enrich_dagster.settings import Settings


def end_of_run(context: AssetExecutionContext | OpExecutionContext, settings: Settings) -> float:
    """The moment (of `time.monotonic`, in this process) at which the run's asking ends."""
    record = context.instance.get_run_record_by_id(context.run.run_id)
    started = record.start_time if record is not None else None
    elapsed = 0.0 if started is None else max(0.0, time.time() - started)
    return time.monotonic() + settings.run_s - elapsed
