"""What happens when something is new: log files -> their days; due lookups -> drain."""

import json
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from hashlib import sha256
from itertools import groupby

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from cowrie_enrich_dagster.defs.jobs import drain_lookups, enrich_day
from cowrie_enrich_dagster.defs.partitions import daily
from cowrie_enrich_dagster.defs.resources import EnricherResource
from cowrie_enrich_dagster.enrichment.ledger import LedgerEntry
from cowrie_enrich_dagster.vocabulary import Days

_UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
MAX_DAYS_PER_RUN = 31
_MATERIALISED_BY_HAND = "__ASSET_JOB"  # what Dagster calls a run or backfill of assets from the UI


@sensor(job=enrich_day, minimum_interval_seconds=30, default_status=DefaultSensorStatus.RUNNING)
def new_log_files(context: SensorEvaluationContext, enricher: EnricherResource) -> SensorResult | SkipReason:
    """Enrich exactly the days that new or grown log files touch, neighbouring days as one run.

    The cursor holds, for each day, a fingerprint of its part of the files: a rename or a rotation changes
    nothing in it, growth and late uploads do. While a run is unfinished nothing is requested and the cursor
    stays, so that a growing file does not pile up runs.
    """
    if running := _unfinished(context.instance, enrich_day.name):
        return SkipReason(f"run {running} is not finished; what grew meanwhile is taken up after it")
    with enricher.open() as pipeline:
        found = pipeline.log_days()
    seen = {str(day): mark for day, mark in found.items() if daily.has_partition_key(str(day))}
    known: dict[str, str] = json.loads(context.cursor or "{}")
    changed = [date.fromisoformat(day) for day, mark in seen.items() if known.get(day) != mark]
    if not changed:
        return SkipReason("no log file is new or has grown")
    # A session of the day before may have ended in what is new.
    before = [day - timedelta(days=1) for day in changed if str(day - timedelta(days=1)) in seen]
    requests = [
        RunRequest(
            run_key=f"{days}:{_fingerprint(seen[str(day)] for day in days)}",
            tags={
                "dagster/asset_partition_range_start": str(days.first),
                "dagster/asset_partition_range_end": str(days.last),
            },
        )
        for days in _ranges({*changed, *before})
    ]
    return SensorResult(run_requests=requests, cursor=json.dumps(seen))


@sensor(job=drain_lookups, minimum_interval_seconds=15, default_status=DefaultSensorStatus.RUNNING)
def due_lookups(context: SensorEvaluationContext, enricher: EnricherResource) -> RunRequest | SkipReason:
    """Drain the queue, a slice after the other, while something is due that may be asked."""
    for name in (drain_lookups.name, enrich_day.name, _MATERIALISED_BY_HAND):
        if running := _unfinished(context.instance, name):
            return SkipReason(f"run {running} is not finished; it works on the same queue")
    with enricher.open() as pipeline:
        askable = pipeline.askable()
        if not askable:
            return SkipReason(_why_nothing_is_asked(pipeline.ledger()))
    context.log.info("due: %s", askable)
    return RunRequest()


def _why_nothing_is_asked(ledger: Iterable[LedgerEntry]) -> str:
    waiting = [entry for entry in ledger if entry.backlog]
    if not waiting:
        return "no lookup is pending"
    return "; ".join(f"{entry.status.service}: nothing is due before {_when(entry)}" for entry in waiting)


def _when(entry: LedgerEntry) -> str:
    moments = (entry.status.next_slot_at, entry.next_attempt_at)
    return f"{max(moment for moment in moments if moment):%Y-%m-%d %H:%M:%S} UTC"


def _unfinished(instance: DagsterInstance, job_name: str) -> str | None:
    runs = instance.get_runs(RunsFilter(job_name=job_name, statuses=_UNFINISHED), limit=1)
    return runs[0].run_id[:8] if runs else None


def _fingerprint(marks: Iterable[str]) -> str:
    return sha256("".join(marks).encode()).hexdigest()[:16]


def _ranges(days: Iterable[date]) -> Iterator[Days]:
    """Neighbouring days as ranges of at most a month."""
    for _, run in groupby(enumerate(sorted(days)), key=lambda item: item[1].toordinal() - item[0]):
        together = [day for _, day in run]
        for start in range(0, len(together), MAX_DAYS_PER_RUN):
            part = together[start : start + MAX_DAYS_PER_RUN]
            yield Days(part[0], part[-1])


sensors = [new_log_files, due_lookups]
