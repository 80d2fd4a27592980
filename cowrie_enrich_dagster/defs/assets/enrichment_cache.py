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
    graph_asset,
    op,
)

from cowrie_enrich_dagster.defs import checks
from cowrie_enrich_dagster.defs.metadata import bars, counts_table, duration, percent, table
from cowrie_enrich_dagster.defs.partitions import daily, days_of, single_run
from cowrie_enrich_dagster.defs.resources import EnricherResource
from cowrie_enrich_dagster.defs.retries import retry
from cowrie_enrich_dagster.enrichment.fetch import FetchReport
from cowrie_enrich_dagster.enrichment.ledger import LedgerEntry
from cowrie_enrich_dagster.enrichment.plan import ServicePlan
from cowrie_enrich_dagster.enrichment.report import RunReport


@op(ins={"start": In(Nothing)}, out=DynamicOut(ServicePlan), retry_policy=retry)
def plan(context: OpExecutionContext, enricher: EnricherResource) -> Iterator[DynamicOutput[ServicePlan]]:
    """Look every address up in the cache; what no tier knows is to be asked."""
    with enricher.open() as pipeline:
        found = pipeline.plan(days_of(context))
    for name, service in found.services.items():
        context.log.info("%s: %d of %d keys to be asked", name, len(service.wanted), service.keys)
        yield DynamicOutput(
            service,
            mapping_key=name,
            metadata={
                "wanted": len(service.wanted),
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
def fetch(context: OpExecutionContext, enricher: EnricherResource, plan: ServicePlan) -> FetchReport:
    """Ask one service at the pace its limiter allows; whatever must wait too long is deferred."""

    def progress(service: str, done: int, wanted: int) -> None:
        context.log.info("%s: %d of %d answered", service, done, wanted)

    with enricher.open() as pipeline:
        report = pipeline.fetch(plan.service, plan.wanted, progress)
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
    context: OpExecutionContext, enricher: EnricherResource, fetched: list[FetchReport]
) -> Iterator[Output[None] | AssetCheckResult]:
    """Put the reports of all services together and write them down."""
    days = days_of(context)
    report = RunReport.for_services([part.service for part in fetched], days)
    for part in fetched:
        report.add_fetch(part)
    with enricher.open() as pipeline:
        pipeline.end_run(pipeline.begin_run("enrichment_cache", days), report)
        ledger = pipeline.ledger()
    calls = sum(report.api_calls.values())
    yield Output(
        None,
        "result",
        metadata={
            "status": report.status,
            "api_calls": calls,
            "pending": report.pending,
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
    left = ", ".join(f"{w.left} this {w.name}" for w in status.windows if w.left is not None)
    return [
        status.service, status.effective_rate, status.limited_total, entry.backlog, duration(entry.eta_s),
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
