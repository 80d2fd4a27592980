"""A run that goes on with one that failed: Dagster does so from the UI, and by itself after a power cut."""

from __future__ import annotations

from dagster import DagsterInstance, JobExecutionResult, ReexecutionOptions, execute_job
from dagster._core.definitions.reconstruct import ReconstructableRepository
from sqlalchemy import text

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.simulator import Simulator

DAY = "2025-11-01"
REFUSED = """
CREATE TRIGGER refused BEFORE INSERT ON enrichment_runs WHEN NEW.kind = 'enrichment_cache'
BEGIN SELECT RAISE(ABORT, 'refused'); END
"""


def test_it_counts_what_the_run_that_failed_asked(
    instance: DagsterInstance, enricher: Enricher, simulator: Simulator, few_logs: list[str]
) -> None:
    """What failed is the step that puts reports together: no service is asked again, the calls are told."""
    with enricher.database.write() as connection:
        connection.execute(text(REFUSED))
    job = ReconstructableRepository.for_module("cowrie_enrich_dagster.definitions", "defs")
    enrich_day = job.get_reconstructable_job("enrich_day")
    with execute_job(enrich_day, instance, tags={"dagster/partition": DAY}) as failed:
        assert _failed(failed) == {"enrichment_cache.summarise"}
    with enricher.database.write() as connection:
        connection.execute(text("DROP TRIGGER refused"))
    options = ReexecutionOptions.from_failure(failed.run_id, instance)
    with execute_job(
        enrich_day, instance, tags={"dagster/partition": DAY}, reexecution_options=options
    ) as again:
        assert again.success
        (told,) = again.asset_materializations_for_node("enrichment_cache.summarise")
    assert told.metadata["run_api_calls"].value == len(few_logs)
    assert len(simulator.requests("dshield")) == len(few_logs)


def _failed(result: JobExecutionResult) -> set[str]:
    return {str(event.step_key) for event in result.all_events if event.is_step_failure}
