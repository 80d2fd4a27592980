"""Pruning of Dagster's history: whatever goes, every status that the UI shows stays as it was."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetObservation,
    AssetSelection,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    Definitions,
    OpExecutionContext,
    Output,
    RunsFilter,
    StaticPartitionsDefinition,
    asset,
    asset_check,
    define_asset_job,
    job,
    op,
)
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster._core.test_utils import create_run_for_test

from cowrie_enrich_dagster.defs.prune import OF_A_CHECK, OF_A_PARTITION, prune_runs
from cowrie_enrich_dagster.storage.engine import normalise_url
from tests.dagster.conftest import REPOSITORY
from tests.dagster.test_jobs import run

LETTERS = StaticPartitionsDefinition(["a", "b", "c", "d", "never"])
BROKEN = "tests/broken"
"""Tag of a run: what of it goes wrong."""
KINDS = (
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
)
BY_LETTER, WHOLE, WATCHED = (AssetKey(name) for name in ("by_letter", "whole", "watched"))
INNER, OUTER = AssetCheckKey(BY_LETTER, "inner"), AssetCheckKey(WHOLE, "outer")


@asset(partitions_def=LETTERS, check_specs=[AssetCheckSpec("inner", asset="by_letter")])
def by_letter(context: AssetExecutionContext) -> Iterator[Any]:
    """Breaks, or fails its check, as the run's tag says."""
    broken = context.run.tags.get(BROKEN, "")
    if broken == "asset":
        raise ValueError("the asset is broken")
    yield Output(None)
    yield AssetCheckResult(check_name="inner", passed=broken != "check")


@asset
def whole(context: AssetExecutionContext) -> None:
    """Without partitions."""
    if context.run.tags.get(BROKEN) == "asset":
        raise ValueError("the asset is broken")


@asset_check(asset=whole)
def outer(context: AssetCheckExecutionContext) -> AssetCheckResult:
    """Breaks as the run's tag says."""
    if context.run.tags.get(BROKEN) == "crash":
        raise ValueError("the check is broken")
    return AssetCheckResult(passed=True)


@op
def watch(context: OpExecutionContext) -> None:
    """Looks at what others make."""
    context.log_event(AssetObservation("watched", partition="a"))


@job
def watching() -> None:
    """Observes an asset, materialises none."""
    watch()


SMALL = Definitions(
    assets=[by_letter, whole],
    asset_checks=[outer],
    jobs=[
        define_asset_job("letters", selection=["by_letter"]),
        define_asset_job("wholes", selection=["whole"]),
        define_asset_job("checks", selection=AssetSelection.checks(outer)),
        watching,
    ],
)


def execute(instance: DagsterInstance, job: str, partition: str | None = None, broken: str = "") -> str:
    result = SMALL.resolve_job_def(job).execute_in_process(
        instance=instance,
        partition_key=partition,
        tags={BROKEN: broken} if broken else {},
        raise_on_error=False,
    )
    return result.run_id


def told(instance: DagsterInstance, *, afresh: bool) -> dict[str, Any]:
    """All that the UI works out of runs and events; `afresh` without what it worked out before."""
    storage = instance.event_log_storage
    state: dict[str, Any] = {}
    for key, partitions in ((BY_LETTER, LETTERS), (WHOLE, None), (WATCHED, None)):
        if afresh:
            storage.wipe_asset_cached_status(key)
        record = instance.get_asset_records([key])[0].asset_entry
        state[str(key)] = [
            get_and_update_asset_status_cache_value(instance, key, partitions),
            {kind: storage.get_latest_storage_id_by_partition(key, kind) for kind in KINDS},
            storage.get_latest_asset_partition_materialization_attempts_without_materializations(key),
            instance.get_latest_materialization_event(key),
            record.last_run_id,
            record.last_materialization_record,
            storage.get_latest_planned_materialization_info(key),
            instance.fetch_observations(key, 1).records,
        ]
    for check, partitions in ((INNER, None), (OUTER, None)):
        state[str(check)] = [
            storage.get_asset_check_state([(check, partitions)]),
            storage.get_asset_check_partition_info([check]),
            asyncio.run(_resolved(instance, check)),
        ]
    return state


async def _resolved(instance: DagsterInstance, check: AssetCheckKey) -> list[Any]:
    context = LoadingContextForTest(instance)
    latest = await AssetCheckExecutionRecord.gen(context, check)
    if latest is None:
        return []
    status = await latest.resolve_status(context)
    return [latest.run_id, status, await latest.targets_latest_materialization(context)]


@pytest.fixture(params=["sqlite", "postgresql"])
def on_any_storage(
    request: pytest.FixtureRequest, environment: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[DagsterInstance]:
    """Dagster's storage as `dagster dev` has it, and as the deployment has it."""
    if request.param == "postgresql":
        url = normalise_url(request.getfixturevalue("postgres_server").new_database())
        with (tmp_path / "dagster" / "dagster.yaml").open("a") as file:
            file.write(f"\nstorage:\n  postgres:\n    postgres_url: {json.dumps(str(url))}\n")
    with DagsterInstance.get() as opened:
        yield opened


def test_the_status_of_everything_is_the_same_after_pruning(on_any_storage: DagsterInstance) -> None:
    """Materialised, failed after that, failed only, mended, never begun; checks of every ending."""
    instance = on_any_storage
    for letter in "abd":
        execute(instance, "letters", letter)
    execute(instance, "wholes")
    execute(instance, "checks")
    execute(instance, "watching")
    execute(instance, "letters", "d", "asset")
    execute(instance, "letters", "d")
    needed = {
        execute(instance, "letters", "a", "check"),  # the newest of a; its check failed
        execute(instance, "letters", "b"),
        execute(instance, "letters", "d"),
        execute(instance, "wholes"),
        execute(instance, "watching"),
    }
    gone = [execute(instance, "letters", "b", "asset"), execute(instance, "letters", "c", "asset")]
    needed |= {
        execute(instance, "letters", "b", "asset"),
        execute(instance, "letters", "c", "asset"),
        execute(instance, "wholes", broken="asset"),  # planned only, its check too
        execute(instance, "checks", broken="crash"),  # a check that began and never ended
    }
    for afresh in (False, True):
        before = told(instance, afresh=afresh)
    total = len(instance.get_run_ids())
    pruned = prune_runs(instance, _tomorrow())
    left = set(instance.get_run_ids())
    assert not left & set(gone)
    assert pruned.deleted == total - len(left) >= 8
    assert sum(pruned.kept.values()) == len(left)
    assert left <= needed
    for afresh in (False, True):
        assert told(instance, afresh=afresh) == before
    assert prune_runs(instance, _tomorrow()).deleted == 0


def _tomorrow() -> datetime:
    return datetime.now(timezone.utc) + timedelta(days=1)


def test_only_finished_runs_that_are_old_enough_go(instance: DagsterInstance) -> None:
    """A run that waits, one that runs and one that ended lately stay."""
    unfinished = [
        create_run_for_test(instance, job_name="x", status=status).run_id
        for status in (DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING)
    ]
    ended = [
        create_run_for_test(instance, job_name="x", status=status).run_id
        for status in (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
    ]
    assert prune_runs(instance, datetime.now(timezone.utc) - timedelta(days=1)).deleted == 0
    assert sorted(instance.get_run_ids()) == sorted(unfinished + ended)
    assert prune_runs(instance, _tomorrow()).deleted == 3
    assert sorted(instance.get_run_ids()) == sorted(unfinished)


def test_the_reasons_are_counted(instance: DagsterInstance) -> None:
    """Of two runs the newer is needed for its partition; a check of its own for the check."""
    execute(instance, "letters", "a")
    execute(instance, "letters", "a")
    pruned = prune_runs(instance, _tomorrow())
    assert pruned.deleted == 1
    assert dict(pruned.kept) == {OF_A_PARTITION: 1}
    assert OF_A_CHECK not in pruned.kept


def test_nothing_of_a_run_stays_on_disk(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its file of events, what its steps printed and what they handed on go with it."""
    home = tmp_path / "dagster"
    shutil.copy(REPOSITORY / "dagster.yaml", home)  # other tests do without what steps print
    with DagsterInstance.get() as instance:
        gone, stays = execute(instance, "letters", "a"), execute(instance, "letters", "a")
        printed = [path for path in home.rglob("*.err") if gone in str(path)]
        assert printed != []
        (home / "storage" / gone).mkdir(parents=True, exist_ok=True)
        prune_runs(instance, _tomorrow())
    assert [path for path in home.rglob("*") if gone in path.name] == []
    assert [path for path in home.rglob("*") if stays in path.name] != []


def test_more_runs_than_a_batch_with_needed_ones_between(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every run is looked at once, wherever batches end."""
    monkeypatch.setattr("cowrie_enrich_dagster.defs.prune._BATCH", 3)
    kept = [execute(instance, "letters", letter) for letter in "abcd"]
    for _ in range(4):
        create_run_for_test(instance, job_name="x", status=DagsterRunStatus.SUCCESS)
    kept.append(execute(instance, "wholes"))
    for _ in range(2):
        create_run_for_test(instance, job_name="x", status=DagsterRunStatus.SUCCESS)
    pruned = prune_runs(instance, _tomorrow())
    assert (pruned.deleted, sum(pruned.kept.values())) == (6, 5)
    assert sorted(instance.get_run_ids()) == sorted(kept)


def test_the_job_says_what_it_did(instance: DagsterInstance) -> None:
    """Nothing is old here: the run ends well, deletes nothing and names the age."""
    execute(instance, "letters", "a")
    result = run(instance, "prune_history")
    assert result.success
    assert len(instance.get_runs(RunsFilter(job_name="letters"))) == 1
