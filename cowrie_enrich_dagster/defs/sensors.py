"""What happens by itself: new log files -> their days; due lookups -> drain; runs that died -> failed."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta
from hashlib import sha256
from itertools import groupby

from dagster import (
    AssetCheckEvaluation,
    AssetKey,
    AssetRecordsFilter,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultSensorStatus,
    Failure,
    ResourceParam,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from cowrie_enrich_dagster.defs.assets.cowrie_sessions import LOG_MARK
from cowrie_enrich_dagster.defs.checks import NEWEST_SESSION, of_newest_session
from cowrie_enrich_dagster.defs.jobs import drain_lookups, enrich_day, how_far, index_logs
from cowrie_enrich_dagster.defs.new_days import SHORT, Cursor, Decision, decide
from cowrie_enrich_dagster.defs.orphans import fail_orphans
from cowrie_enrich_dagster.defs.partitions import daily
from cowrie_enrich_dagster.defs.resources import DatabaseResource, RateLimitsResource, RedisResource, opened
from cowrie_enrich_dagster.enrichment.ingest import DayMark, LogDays, newest_session
from cowrie_enrich_dagster.enrichment.notify import tell
from cowrie_enrich_dagster.lookups.ledger import LedgerEntry
from cowrie_enrich_dagster.readable import instant
from cowrie_enrich_dagster.settings import Settings
from cowrie_enrich_dagster.vocabulary import Days, utc_now

_UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
MAX_DAYS_PER_RUN = 31
"""What the sensor puts into one run, unless ENRICH_DAYS_PER_RUN says fewer."""
MAX_RECORDS = 10_000
LOOK_SECONDS = 5.0
"""How long one tick reads logs that are new to it; Dagster ends a tick after 60 seconds."""
_MATERIALISED_BY_HAND = "__ASSET_JOB"  # what Dagster calls a run or backfill of assets from the UI


@sensor(
    jobs=[enrich_day, index_logs],
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description="Enriches the days that new or grown log files touch: new files at once, a day that merely "
    "grows every ENRICH_EVERY_MINUTES and once more when it is over. Has the job index_logs read an archive.",
)
def new_log_files(
    context: SensorEvaluationContext, database: ResourceParam[DatabaseResource]
) -> SensorResult | SkipReason:
    """Enrich exactly the days that new or grown log files touch, neighbouring days as one run.

    Which days and when: see `new_days`. The cursor holds, for each day, a fingerprint of its part of the
    files: a rename or a rotation changes nothing in it, growth and late uploads do. A tick reads for
    `LOOK_SECONDS` at most; what takes longer the job `index_logs` reads, and until that is done no run is
    asked for, since a run would have to read it all first.
    """
    indexing = _unfinished(context.instance, index_logs.name)
    reads_on = [run for run in indexing if run.status is DagsterRunStatus.STARTED]
    try:
        with opened(database) as pipeline:
            settings = pipeline.settings
            look = pipeline.log_days(0 if reads_on else LOOK_SECONDS)
    except Failure as problem:
        return _until_mended(problem)
    if not look.complete:
        return _have_it_read(context, look, indexing)
    now, every = utc_now(), timedelta(minutes=settings.every_minutes)
    found, left_out = _in_partitions(look.days, settings, now.date())
    at_work = _days_at_work(context.instance)
    asked = Cursor.parse(context.cursor) if context.cursor else _read_before(context.instance, found, now)
    decision = decide(found, asked, now, every, set(at_work))
    words = [*_why_days_wait(decision, at_work, settings), *left_out]
    if not decision.ask:
        reason = "; ".join(words if decision.waiting or decision.busy else [_NOTHING_NEW, *left_out])
        return SensorResult(skip_reason=reason, cursor=decision.cursor.dump())
    for sentence in words:
        context.log.info(sentence)
    requests = [
        RunRequest(
            # Of the cursor, too: a tick that is repeated before its cursor is saved starts no second run.
            run_key=f"{days}:{_fingerprint([context.cursor or '', *(found[day].extent for day in days)])}",
            job_name=enrich_day.name,
            tags={
                ASSET_PARTITION_RANGE_START_TAG: str(days.first),
                ASSET_PARTITION_RANGE_END_TAG: str(days.last),
            },
        )
        for days in _ranges(decision.ask, settings.days_per_run or MAX_DAYS_PER_RUN)
    ]
    return SensorResult(run_requests=requests, cursor=decision.cursor.dump())


def _read_before(instance: DagsterInstance, found: Mapping[date, DayMark], now: datetime) -> Cursor:
    """Where the sensor begins: days that are over and were read as they are now need not be read again."""
    over = [day for day in found if day < now.date() - timedelta(days=1)]
    if not over:
        return Cursor()
    wanted = AssetRecordsFilter(AssetKey("cowrie_sessions"), asset_partitions=[str(day) for day in over])
    marks: dict[str, object] = {}
    for record in instance.fetch_materializations(wanted, limit=MAX_RECORDS).records:  # newest first
        told = record.asset_materialization
        mark = told.metadata.get(LOG_MARK) if told else None
        marks.setdefault(str(record.partition_key), mark.value if mark else None)
    return Cursor(
        {day: found[day].extent[:SHORT] for day in over if marks.get(str(day)) == found[day].extent}
    )


def _until_mended(problem: Failure) -> SkipReason:
    """What only a setting can mend is no fault of the tick, which names the setting."""
    return SkipReason(problem.description)


_NOTHING_NEW = "no log file is new or has grown"


def _have_it_read(
    context: SensorEvaluationContext, look: LogDays, indexing: list[DagsterRun]
) -> SensorResult | SkipReason:
    """The words of a tick that finds more than it can read itself, and the job that reads it, once."""
    read = how_far(look.bytes_done, look.bytes_total)
    if indexing:
        return SkipReason(
            f"{read} of the logs; run {indexing[0].run_id[:8]} ({index_logs.name}) reads on, then the days "
            "in them are enriched"
        )
    context.log.info("%s of the logs; the job %s reads on", read, index_logs.name)
    return SensorResult(run_requests=[RunRequest(job_name=index_logs.name, tags={"cowrie/logs": read})])


def _in_partitions(
    days: Mapping[date, DayMark], settings: Settings, today: date
) -> tuple[dict[date, DayMark], list[str]]:
    """The days that can be enriched; a sentence for each kind of those that cannot."""
    keep_from = settings.first_kept_day(today)
    start = settings.start_day
    too_old = [day for day in days if keep_from and day < keep_from]
    too_early = [day for day in days if day < start and not (keep_from and day < keep_from)]
    rest = [day for day in days if day >= max(start, keep_from or start)]
    found = {day: days[day] for day in rest if daily.has_partition_key(str(day))}
    to_come = [day for day in rest if day not in found]
    left_out = {
        f"before ENRICH_START_DAY ({start})": too_early,
        f"older than ENRICH_KEEP_DAYS ({settings.keep_days}) keeps": too_old,
        "still to come by this machine's clock": to_come,
    }
    return found, [f"{_named(of, 'in the logs')} {why}: left out" for why, of in left_out.items() if of]


def _named(days: Collection[date], which: str = "") -> str:
    """`2025-11-01 is` or `3 days, 2025-11-01 to 2025-11-05, are`."""
    which = f" {which}" if which else ""
    if len(days) == 1:
        return f"the day {min(days)}{which} is"
    return f"{len(days)} days{which}, {min(days)} to {max(days)}, are"


def _why_days_wait(decision: Decision, at_work: Mapping[date, str], settings: Settings) -> Iterator[str]:
    for run in sorted({at_work[day] for day in decision.busy}):
        of_run = [day for day in decision.busy if at_work[day] == run]
        yield f"{_named(of_run)} being worked on by run {run}, and asked for again after it"
    if decision.waiting:
        until = min(decision.waiting.values())
        yield (
            f"what was added to {_list(decision.waiting)} is enriched at {until:%H:%M} UTC or soon after "
            f"(ENRICH_EVERY_MINUTES={settings.every_minutes})"
        )


def _list(days: Collection[date]) -> str:
    return str(min(days)) if len(days) == 1 else f"{len(days)} days from {min(days)} to {max(days)}"


@sensor(
    job=drain_lookups,
    minimum_interval_seconds=15,
    default_status=DefaultSensorStatus.RUNNING,
    description="Asks deferred lookups as soon as they are due and their service may be asked, five minutes "
    "at a time. A tick that asks nothing says until when.",
)
def due_lookups(
    context: SensorEvaluationContext,
    database: ResourceParam[DatabaseResource],
    redis: ResourceParam[RedisResource],
    rate_limits: ResourceParam[RateLimitsResource],
) -> RunRequest | SkipReason:
    """Drain the queue, a slice after the other, while something is due that may be asked."""
    for name in (drain_lookups.name, enrich_day.name, _MATERIALISED_BY_HAND):
        if running := _unfinished(context.instance, name):
            return SkipReason(f"run {running[0].run_id[:8]} is not finished; it works on the same queue")
    try:
        with opened(database, redis, rate_limits) as pipeline:
            askable = pipeline.askable(at_once=True)
            if not askable:
                return SkipReason(_why_nothing_is_asked(pipeline.ledger()))
    except Failure as problem:
        return _until_mended(problem)
    context.log.info("due: %s", askable)
    return RunRequest()


def _why_nothing_is_asked(ledger: Iterable[LedgerEntry]) -> str:
    waiting = [entry for entry in ledger if entry.backlog]
    if not waiting:
        return "no lookup is pending"
    return "; ".join(f"{entry.status.service}: nothing is due before {_when(entry)}" for entry in waiting)


def _when(entry: LedgerEntry) -> str:
    moments = (entry.status.next_slot_at, entry.next_attempt_at)
    return instant(max(moment for moment in moments if moment))


def _unfinished(instance: DagsterInstance, job_name: str) -> list[DagsterRun]:
    return list(instance.get_runs(RunsFilter(job_name=job_name, statuses=_UNFINISHED)))


def _days_at_work(instance: DagsterInstance) -> dict[date, str]:
    """The days on which unfinished runs work, those in the queue too; each with the start of the run's id."""
    days: dict[date, str] = {}
    for job_name in (enrich_day.name, _MATERIALISED_BY_HAND):
        for run in _unfinished(instance, job_name):
            first = run.tags.get(ASSET_PARTITION_RANGE_START_TAG) or run.tags.get(PARTITION_NAME_TAG)
            last = run.tags.get(ASSET_PARTITION_RANGE_END_TAG) or first
            with suppress(ValueError):  # the partition of somebody else's asset
                days.update(dict.fromkeys(Days.parse(f"{first}..{last}"), run.run_id[:8]))
    return days


def _fingerprint(marks: Iterable[str]) -> str:
    return sha256("".join(marks).encode()).hexdigest()[:16]


def _ranges(days: Iterable[date], at_most: int) -> Iterator[Days]:
    """Neighbouring days as ranges of at most so many."""
    for _, run in groupby(enumerate(sorted(days)), key=lambda item: item[1].toordinal() - item[0]):
        together = [day for _, day in run]
        for start in range(0, len(together), at_most):
            part = together[start : start + at_most]
            yield Days(part[0], part[-1])


@sensor(
    minimum_interval_seconds=60,
    default_status=DefaultSensorStatus.RUNNING,
    description="Marks runs as failed that died with their code server (power cut, kill -9): Dagster would "
    "take them for running for ever. run_retries in dagster.yaml starts them again.",
)
def orphaned_runs(context: SensorEvaluationContext) -> SkipReason:
    """Fail the runs of this project's jobs whose process is gone. See `orphans`."""
    ours = context.repository_def.job_names if context.repository_def else []
    failed = fail_orphans(context.instance, ours, utc_now().timestamp())
    if not failed:
        return SkipReason("every run that is marked as started is at work")
    return SkipReason(f"marked as failed, their process is gone: {', '.join(run[:8] for run in failed)}")


@sensor(
    minimum_interval_seconds=3600,
    default_status=DefaultSensorStatus.RUNNING,
    description="Looks every hour at how old the newest session is, and says it as the check newest_session "
    "and to ENRICH_WEBHOOK_URL: where no log arrives there is no run that could say it.",
)
def freshness(
    context: SensorEvaluationContext, database: ResourceParam[DatabaseResource]
) -> SensorResult | SkipReason:
    """Evaluate the check without a run."""
    try:
        with opened(database) as pipeline:
            newest, now = newest_session(pipeline.database)
            tell(pipeline)
    except Failure as problem:
        return _until_mended(problem)
    if newest is None:
        return SkipReason("there is no session yet")
    told = of_newest_session(newest, now)
    evaluation = AssetCheckEvaluation(
        asset_key=told.asset_key or AssetKey("enriched_sessions"),
        check_name=NEWEST_SESSION.name,
        passed=told.passed,
        metadata=told.metadata,
        severity=told.severity,
    )
    return SensorResult(
        asset_events=[evaluation], skip_reason=f"the newest session began at {newest:%F %H:%M} UTC"
    )


sensors = [new_log_files, due_lookups, orphaned_runs, freshness]
