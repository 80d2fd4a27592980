"""`session_ips` -> answers in `enrichment_cache`: plan, ask each service, summarise; each step retryable."""

from collections.abc import Iterator
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetIn,
    DynamicOut,
    DynamicOutput,
    In,
    Nothing,
    OpExecutionContext,
    Out,
    Output,
    ResourceParam,
    graph_asset,
    op,
)

from cowrie_enrich_dagster.defs import checks
from cowrie_enrich_dagster.defs.budget import end_of_run
from cowrie_enrich_dagster.defs.metadata import bars, counts_table, duration, eta_metadata, percent, table
from cowrie_enrich_dagster.defs.partitions import daily, days_of, single_run
from cowrie_enrich_dagster.defs.resources import DatabaseResource, RateLimitsResource, RedisResource, opened
from cowrie_enrich_dagster.defs.retries import retry
from cowrie_enrich_dagster.enrichment.fetch import FetchReport
from cowrie_enrich_dagster.enrichment.ledger import LedgerEntry
from cowrie_enrich_dagster.enrichment.plan import ServicePlan
from cowrie_enrich_dagster.enrichment.report import RunReport


@op(ins={"start": In(Nothing)}, out=DynamicOut(ServicePlan), retry_policy=retry)
def plan(
    context: OpExecutionContext,
    database: ResourceParam[DatabaseResource],
    redis: ResourceParam[RedisResource],
    rate_limits: ResourceParam[RateLimitsResource],
) -> Iterator[DynamicOutput[ServicePlan]]:
    """Look every key up in the cache; what no tier knows is put into the queue.

    And write every session's row with what is known already: rows do not wait for answers.
    """
    days = days_of(context)
    with opened(database, redis, rate_limits) as pipeline:
        found = pipeline.plan_and_open(days)
        rows = pipeline.enrich(days).sessions
    context.log.info("%d sessions have their rows", rows)
    for name, service in found.services.items():
        context.log.info("%s: %d of %d keys to be asked", name, service.wanted, service.keys)
        yield DynamicOutput(
            service,
            mapping_key=name,
            metadata={
                "wanted": service.wanted,
                "calls": service.calls,
                "cached": table(["tier", "keys"], sorted(service.cached.items())),
                "eta_seconds": service.eta_s or 0.0,
                "sessions_covered": table(
                    ["calls", "most valuable first", "first come"],
                    [(p.calls, percent(p.covered), percent(p.first_come)) for p in service.coverage],
                ),
            },
        )


@op(retry_policy=retry, pool="fetch")
def fetch(
    context: OpExecutionContext,
    database: ResourceParam[DatabaseResource],
    redis: ResourceParam[RedisResource],
    rate_limits: ResourceParam[RateLimitsResource],
    plan: ServicePlan,
) -> FetchReport:
    """Ask one service at the pace its limiter allows, most valuable keys of all days first.

    Until the keys of the days are answered or the run's time is over; the rest is deferred.
    """

    def progress(service: str, done: int, wanted: int) -> None:
        context.log.info("%s: %d of %d answered", service, done, wanted)

    days = days_of(context)
    with opened(database, redis, rate_limits) as pipeline:
        if not plan.wanted:
            return FetchReport(plan.service, cached=plan.cached)
        report = pipeline.ask(plan.service, days, end_of_run(context, pipeline.settings), progress)
    report.cached.update(plan.cached)
    context.log.info("%s: %d calls, %d pending", plan.service, report.api_calls, report.pending)
    if report.stopped_because:
        context.log.warning("%s: stopped: %s", plan.service, report.stopped_because)
    return report


@op(
    out={
        "result": Out(Nothing),
        checks.LIMITS_OBEYED.name: Out(Nothing),
        checks.ANSWERS_VALID.name: Out(Nothing),
        checks.KEYS_ACCEPTED.name: Out(Nothing),
    },
    retry_policy=retry,
)
def summarise(
    context: OpExecutionContext,
    database: ResourceParam[DatabaseResource],
    redis: ResourceParam[RedisResource],
    rate_limits: ResourceParam[RateLimitsResource],
    fetched: list[FetchReport],
) -> Iterator[Output[None] | AssetCheckResult]:
    """Put the reports of all services together and write them down."""
    days = days_of(context)
    report = RunReport.for_services([part.service for part in fetched], days)
    report.add_fetches(fetched)
    with opened(database, redis, rate_limits) as pipeline:
        ledger = pipeline.ledger()
        report.foresee(ledger)
        pipeline.end_run(pipeline.begin_run("enrichment_cache", days), report)
    calls = sum(report.api_calls.values())
    yield Output(
        None,
        "result",
        metadata={
            "status": report.status,
            "api_calls": calls,
            "pending": report.pending,
            **eta_metadata(report),
            "worker_seconds_waited": round(sum(part.waited_s for part in fetched), 1),
            "hits": table(["tier", "keys"], sorted(report.hits.items())),
            "answered_by": bars({**report.hits, "service": calls, "pending": report.pending}),
            "asked": counts_table("service", {part.service: part.statuses for part in fetched}),
            "quota": table(_QUOTA_COLUMNS, map(_quota_row, ledger)),
        },
    )
    yield from checks.of_answers(fetched)


_QUOTA_COLUMNS = [
    "service", "requests a second", "limited so far", "backlog", "done in", "left", "cooldown until", "why"
]  # fmt: skip


def _quota_row(entry: LedgerEntry) -> list[object]:
    status = entry.status
    done_in = "never at this pace" if entry.is_never else duration(entry.eta_s)
    left = ", ".join(f"{w.left} this {w.name}" for w in status.windows if w.left is not None)
    return [
        status.service, status.effective_rate, status.limited_total, entry.backlog, done_in,
        left, status.cooldown_until, status.cooldown_reason,
    ]  # fmt: skip


@graph_asset(
    group_name="enrichment",
    partitions_def=daily,
    backfill_policy=single_run,
    ins={name: AssetIn(dagster_type=Nothing) for name in ("session_ips", "dshield_feed", "abuseipdb_feed")},
    check_specs=[checks.LIMITS_OBEYED, checks.ANSWERS_VALID, checks.KEYS_ACCEPTED],
    kinds={"sql", "redis"},
)
def enrichment_cache(session_ips: None, dshield_feed: None, abuseipdb_feed: None) -> dict[str, Any]:
    """Every routable address of the day answered by every service: from the cache, or asked once."""
    result, limits_obeyed, answers_valid, keys_accepted = summarise(
        plan(start=[session_ips, dshield_feed, abuseipdb_feed]).map(fetch).collect()
    )
    return {
        "result": result,
        checks.LIMITS_OBEYED.get_python_identifier(): limits_obeyed,
        checks.ANSWERS_VALID.get_python_identifier(): answers_valid,
        checks.KEYS_ACCEPTED.get_python_identifier(): keys_accepted,
    }
