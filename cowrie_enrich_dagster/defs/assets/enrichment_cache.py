"""`session_ips` -> answers in `enrichment_cache`: plan, ask each service, summarise; each step retryable."""

from collections.abc import Iterator

from dagster import (
    AssetIn,
    Backoff,
    DynamicOut,
    DynamicOutput,
    In,
    Jitter,
    Nothing,
    OpExecutionContext,
    Out,
    RetryPolicy,
    graph_asset,
    op,
)

from cowrie_enrich_dagster.defs.metadata import counts_table, table
from cowrie_enrich_dagster.defs.partitions import daily, days_of, single_run
from cowrie_enrich_dagster.defs.resources import EnricherResource
from cowrie_enrich_dagster.enrichment.fetch import FetchReport
from cowrie_enrich_dagster.enrichment.plan import ServicePlan
from cowrie_enrich_dagster.enrichment.report import RunReport

_retry = RetryPolicy(max_retries=2, delay=5, backoff=Backoff.EXPONENTIAL, jitter=Jitter.PLUS_MINUS)


@op(ins={"start": In(Nothing)}, out=DynamicOut(ServicePlan), retry_policy=_retry)
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
                "calls": len(service.wanted),
                "cached": table(["tier", "keys"], sorted(service.cached.items())),
                "eta_seconds": service.eta_s or 0.0,
            },
        )


@op(retry_policy=_retry)
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


@op(out=Out(Nothing), retry_policy=_retry)
def summarise(context: OpExecutionContext, enricher: EnricherResource, fetched: list[FetchReport]) -> None:
    """Put the reports of all services together and write them down."""
    days = days_of(context)
    report = RunReport.for_services([part.service for part in fetched], days)
    for part in fetched:
        report.add_fetch(part)
    with enricher.open() as pipeline:
        pipeline.end_run(pipeline.begin_run("enrichment_cache", days), report)
        pace = pipeline.quota()
    context.add_output_metadata(
        {
            "status": report.status,
            "api_calls": sum(report.api_calls.values()),
            "pending": report.pending,
            "hits": table(["tier", "keys"], sorted(report.hits.items())),
            "asked": counts_table("service", {part.service: part.statuses for part in fetched}),
            "quota": table(
                ["service", "requests a second", "cooldown until", "why"],
                [(name, s.effective_rate, s.cooldown_until, s.cooldown_reason) for name, s in pace.items()],
            ),
        }
    )


@graph_asset(
    group_name="enrichment",
    partitions_def=daily,
    backfill_policy=single_run,
    ins={"session_ips": AssetIn(dagster_type=Nothing)},
    kinds={"sql", "redis"},
)
def enrichment_cache(session_ips: None) -> None:
    """Every routable address of the day answered by every service: from the cache, or asked once."""
    return summarise(plan(start=session_ips).map(fetch).collect())  # type: ignore[no-any-return]
