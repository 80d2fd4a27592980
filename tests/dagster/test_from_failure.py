"""A run that goes on with one that failed: Dagster does so from the UI, and by itself after a power cut."""

from __future__ import annotations

import pytest
from dagster import (
    DagsterInstance,
    JobExecutionResult,
    ReexecutionOptions,
    RetryPolicy,
    execute_job,
    in_process_executor,
)
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster_shared.record import replace
from sqlalchemy import text

from cowrie_enrich_dagster.definitions import defs
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.simulator import Simulator

DAY = "2025-11-01"
REFUSED = """
CREATE TRIGGER refused BEFORE INSERT ON enrichment_runs WHEN NEW.kind = 'enrichment_cache'
BEGIN SELECT RAISE(ABORT, 'refused'); END
"""

here = replace(defs, executor=in_process_executor)
"""Each step in a process of its own takes seconds to start."""


def test_it_counts_what_the_run_that_failed_asked(
    instance: DagsterInstance,
    enricher: Enricher,
    simulator: Simulator,
    few_logs: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What failed is the step that puts reports together: no service is asked again, the calls are told."""
    with enricher.database.write() as connection:
        connection.execute(text(REFUSED))
    monkeypatch.setattr(RetryPolicy, "calculate_delay", lambda *_: 0.0)
    job = ReconstructableRepository.for_module(__name__, "here")
    enrich_day = job.get_reconstructable_job("enrich_day")
    tags = {"dagster/partition": DAY}
    with execute_job(enrich_day, instance, tags=tags) as failed:
        assert _failed(failed) == {"enrichment_cache.summarise"}
    with enricher.database.write() as connection:
        connection.execute(text("DROP TRIGGER refused"))
    options = ReexecutionOptions.from_failure(failed.run_id, instance)
    with execute_job(enrich_day, instance, tags=tags, reexecution_options=options) as again:
        assert again.success
        (told,) = again.asset_materializations_for_node("enrichment_cache.summarise")
    assert told.metadata["run_api_calls"].value == len(few_logs)
    assert len(simulator.requests("dshield")) == len(few_logs)


def _failed(result: JobExecutionResult) -> set[str]:
    return {str(event.step_key) for event in result.all_events if event.is_step_failure}
