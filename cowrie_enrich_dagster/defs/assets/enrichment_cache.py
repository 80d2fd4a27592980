"""`session_ips` -> answers in `enrichment_cache`: plan, ask each service, summarise; each step retryable.

A service that is not to be asked has no step: that would be a process, and 20 KiB of Dagster's history. For
that reason, too, the last step goes on with what answers have made worth asking, where calls are weighed, and
`fetch` knows its service from its place in the run, and tells its report as the metadata of its step: each
value that is handed on is three events more.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    AssetIn,
    DagsterEventType,
    DagsterRun,
    DynamicOut,
    DynamicOutput,
    In,
    JsonMetadataValue,
    MetadataValue,
    Nothing,
    OpExecutionContext,
    Out,
    Output,
    ResourceParam,
    graph_asset,
    op,
)
from pydantic import TypeAdapter

from cowrie_enrich_dagster.defs import checks
from cowrie_enrich_dagster.defs.budget import end_of_run
from cowrie_enrich_dagster.defs.columns import described, sample_of_answers
from cowrie_enrich_dagster.defs.metadata import (
    bars,
    counts_table,
    eta_metadata,
    table,
    tell,
)
from cowrie_enrich_dagster.defs.partitions import daily, days_of, in_runs
from cowrie_enrich_dagster.defs.resources import DatabaseResource, RateLimitsResource, RedisResource, opened
from cowrie_enrich_dagster.defs.retries import retry
from cowrie_enrich_dagster.enrichment.hit_rates import AnswersOfDay, HitRates, total
from cowrie_enrich_dagster.enrichment.plan import ServicePlan
from cowrie_enrich_dagster.enrichment.run_report import RunReport
from cowrie_enrich_dagster.enrichment.runs import begin_run, end_run
from cowrie_enrich_dagster.lookups.ledger import LedgerEntry
from cowrie_enrich_dagster.lookups.source import FetchReport
from cowrie_enrich_dagster.readable import counted, duration, percent
from cowrie_enrich_dagster.storage.tables import EnrichmentCache


@op(
    ins={"start": In(Nothing)},
    out={"planned": Out(list[ServicePlan]), "to_ask": DynamicOut(Nothing)},
    retry_policy=retry,
)
def plan(
    context: OpExecutionContext,
    database: ResourceParam[DatabaseResource],
    redis: ResourceParam[RedisResource],
    rate_limits: ResourceParam[RateLimitsResource],
) -> Iterator[Output[list[ServicePlan]] | DynamicOutput[None]]:
    """Look every key up in the cache; what no tier knows is put into the queue.

    And write every session's row with what is known already: rows do not wait for answers.
    """
    days = days_of(context)
    with opened(database, redis, rate_limits) as pipeline:
        found = pipeline.plan_and_open(days, by_day=True)
        rows = pipeline.write_rows(days)
    context.log.info("%d sessions have their rows", rows)
    to_ask = [found.services[name] for name in found.wanted]
    said = ", ".join(f"{of.service} {of.wanted} of {of.keys} keys" for of in to_ask)
    context.log.info("to be asked: %s", said or "nothing")
    for of in to_ask:
        yield DynamicOutput(
            None,
            output_name="to_ask",
            mapping_key=of.service,
            metadata={
                "sessions_covered": table(
                    ["calls", "most valuable first", "first come"],
                    [(p.calls, percent(p.covered), percent(p.first_come)) for p in of.coverage],
                )
            },
        )
    plans = list(found.services.values())
    yield Output(plans, "planned", metadata={"services": table(list(_PLANNED), map(_planned, plans))})


_PLANNED = ("service", "keys", "cached", "to be asked", "calls", "saved", "done in", "cache hits", "L1 hits")


def _planned(of: ServicePlan) -> tuple[object, ...]:
    time = duration(of.eta_s) if of.wanted else None
    rates = percent(of.rates.cache), percent(of.rates.l1)
    return of.service, of.keys, sum(of.cached.values()), of.wanted, of.calls, of.calls_spared, time, *rates


_PLAN = "enrichment_cache.plan"
_REPORT = "report"
_REPORTS = TypeAdapter(FetchReport)


@op(ins={"planned": In(Nothing)}, out=Out(Nothing), retry_policy=retry, pool="fetch")
def fetch(
    context: OpExecutionContext,
    database: ResourceParam[DatabaseResource],
    redis: ResourceParam[RedisResource],
    rate_limits: ResourceParam[RateLimitsResource],
) -> None:
    """Ask one service at the pace its limiter allows, most valuable keys of all days first.

    Until the keys of the days are answered or the run's time is over; the rest is deferred.
    """

    def progress(service: str, done: int, wanted: int) -> None:
        context.log.info("%s: %d of %d answered", service, done, wanted)

    name, days = str(context.get_mapping_key()), days_of(context)
    with opened(database, redis, rate_limits) as pipeline:
        report = pipeline.ask(name, days, end_of_run(context, pipeline.settings), progress)
    context.log.info("%s: %s, %d pending", name, counted(report.api_calls, "call"), report.pending)
    if report.stopped_because:
        context.log.warning("%s: stopped: %s", name, report.stopped_because)
    told = _REPORTS.dump_python(report, mode="json")
    context.add_output_metadata({_REPORT: {name: value for name, value in told.items() if value}})


def _told(context: AssetExecutionContext) -> dict[str, FetchReport]:
    """What the steps of `fetch` told, by service; of the run before, too, if this goes on after its plan."""
    told: dict[str, FetchReport] = {}
    run: DagsterRun | None = context.run
    while run:
        for entry in context.instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_OUTPUT):
            found = entry.get_dagster_event().step_output_data.metadata.get(_REPORT)
            if isinstance(found, JsonMetadataValue):
                report = _REPORTS.validate_python(found.value)
                told.setdefault(report.service, report)
        goes_on = run.step_keys_to_execute and _PLAN not in run.step_keys_to_execute
        before = run.parent_run_id if goes_on else None
        run = context.instance.get_run_by_id(before) if before else None
    return told


_CHECKS = (
    checks.CACHE_HIT_RATE,
    checks.L1_HIT_RATE,
    checks.LIMITS_OBEYED,
    checks.ANSWERS_VALID,
    checks.KEYS_ACCEPTED,
)


@op(
    ins={"asked": In(Nothing)},
    out={"result": Out(Nothing), **{check.name: Out(Nothing) for check in _CHECKS}},
    retry_policy=retry,
    pool="fetch",
)
def summarise(
    context: AssetExecutionContext,
    database: ResourceParam[DatabaseResource],
    redis: ResourceParam[RedisResource],
    rate_limits: ResourceParam[RateLimitsResource],
    planned: list[ServicePlan],
) -> Iterator[Output[None] | AssetCheckResult]:
    """Put the reports of all services together and write them down.

    Where calls are weighed (ENRICH_WANT), first ask what the answers of others have made worth asking.
    """
    days, told = days_of(context), _told(context)
    fetched = [told.get(of.service) or FetchReport(of.service) for of in planned]
    for of, fetch_report in zip(planned, fetched, strict=True):
        fetch_report.cached.update(of.cached)
    report = RunReport.for_services([of.service for of in planned], days)
    report.rates = total(of.rates for of in planned)
    with opened(database, redis, rate_limits) as pipeline:
        fetched = pipeline.ask_on(days, fetched, end_of_run(context, pipeline.settings))
        report.add_fetches(fetched)
        ledger = pipeline.ledger()
        report.foresee(ledger)
        run_id = begin_run(pipeline.database, "enrichment_cache", days, context.run.run_id)
        end_run(pipeline, run_id, report)
        by_day = {
            day: {
                **answers_of_day(answers, total(of.rates_by_day.get(day, HitRates()) for of in planned)),
                "sample": sample_of_answers(pipeline.database, day),
            }
            for day, answers in pipeline.answers_by_day(days).items()
        }
        check_results = checks.of_answers(fetched, report.rates, redis_is_on=pipeline.settings.redis.enabled)
    calls = sum(report.api_calls.values())
    of_run = {
        "run_status": report.status,
        "run_api_calls": calls,
        "run_pending": report.pending,
        **{f"run_{name}": value for name, value in eta_metadata(report).items()},
        "run_worker_seconds_waited": round(sum(part.waited_s for part in fetched), 1),
        "run_hits": table(["tier", "keys"], sorted(report.hits.items())),
        "run_answered_by": bars({**report.hits, "service": calls, "pending": report.pending}),
        "run_asked": counts_table("service", {part.service: part.statuses for part in fetched}),
        "run_quota": _quota(ledger),
    }
    tell(context, by_day, of_run)
    yield Output(None, "result")
    yield from check_results


def answers_of_day(answers: AnswersOfDay, rates: HitRates) -> dict[str, Any]:
    """What the cache has for one day, for its partition: in numbers, of which the UI draws a plot by day."""
    shares = {"cache_hit_rate": rates.cache, "l1_hit_rate": rates.l1}
    shares |= {f"coverage_{name}": share for name, share in answers.coverage.items()}
    return {
        "dagster/row_count": answers.answers,
        "sessions": answers.sessions,
        "cache_expected": rates.expected,
        **{name: round(share, 4) for name, share in shares.items() if share is not None},
    }


def _quota(ledger: Sequence[LedgerEntry]) -> MetadataValue[Any]:
    """Where each service stands; columns that no service has anything for are left out."""
    rows = [_quota_row(entry) for entry in ledger]
    columns = [name for name in next(iter(rows), {}) if any(row[name] not in (None, "") for row in rows)]
    return table(columns, [[row[name] for name in columns] for row in rows])


def _quota_row(entry: LedgerEntry) -> dict[str, object]:
    status = entry.status
    return {
        "service": status.service,
        "requests a second": status.effective_rate,
        "limited so far": status.limited_total,
        "backlog": entry.backlog,
        "done in": "never at this pace" if entry.is_never else duration(entry.eta_s),
        "left": ", ".join(f"{w.left} this {w.name}" for w in status.windows if w.left is not None),
        "cooldown until": status.cooldown_until,
        "why": status.cooldown_reason,
    }


_UPSTREAM = ("session_ips", "address_lists", "dshield_feed", "abuseipdb_feed")


@graph_asset(
    group_name="answers",
    partitions_def=daily,
    backfill_policy=in_runs,
    ins={name: AssetIn(dagster_type=Nothing) for name in _UPSTREAM},
    check_specs=_CHECKS,
    kinds={"sql", "redis"},
    metadata=described(EnrichmentCache),
)
def enrichment_cache(
    session_ips: None, address_lists: None, dshield_feed: None, abuseipdb_feed: None
) -> dict[str, Any]:
    """Every routable address of the day answered by every service: from the cache, or asked once."""
    planned, to_ask = plan(start=[session_ips, address_lists, dshield_feed, abuseipdb_feed])
    asked = to_ask.map(lambda service: fetch(planned=service)).collect()
    result, *of_checks = summarise(planned=planned, asked=asked)
    names = [check.get_python_identifier() for check in _CHECKS]
    return {"result": result, **dict(zip(names, of_checks, strict=True))}
