"""Dagster's own history: finished runs go once they are old and nothing that is shown rests on them.

What the UI shows of a partition, asset or check is worked out from the latest event of each kind and, where
that is a plan only, from the status of its run (Dagster 1.13, `SqlEventLogStorage`:
`get_latest_storage_id_by_partition`, `get_latest_asset_partition_materialization_attempts_without_...`,
`get_latest_asset_check_execution_by_key`, `get_asset_check_partition_info`). `DagsterInstance.delete_run`
takes a run's row and events away, so the runs of these events stay, whatever their age; then every maximum
over the events is the same before and after.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.tags import BACKFILL_ID_TAG
from sqlalchemy import ColumnElement, Select, Table, func, select

FINISHED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
OF_A_PARTITION = "the status of a partition rests on them"
OF_A_CHECK = "they hold the latest execution of an asset check"
OF_A_BACKFILL = "their backfill is not finished"
_BATCH = 100
_TOLD = (
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_FAILED_TO_MATERIALIZE,
)
_UNFINISHED_BACKFILLS = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]


@dataclass
class Pruned:
    """How many runs were deleted, and how many that are old enough were kept, by reason."""

    deleted: int = 0
    kept: Counter[str] = field(default_factory=Counter)


def prune_runs(
    instance: DagsterInstance, ended_before: datetime, progress: Callable[[Pruned], None] | None = None
) -> Pruned:
    """Delete the finished runs that ended before the moment, oldest first, save those that are needed.

    Memory: the ids of the needed runs (at most a few for each partition and check) and a batch of runs. May
    be stopped and repeated. Raises TypeError for a storage of events that is not an SQL database.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise TypeError(f"{type(storage).__name__} cannot be asked which runs are needed")
    needed = _needed(instance, storage)
    old = RunsFilter(statuses=FINISHED, updated_before=ended_before)
    pruned = Pruned()
    after: str | None = None
    while batch := instance.get_run_records(old, limit=_BATCH, cursor=after, ascending=True):
        for record in batch:
            run = record.dagster_run
            if reason := needed.get(run.run_id) or needed.get(run.tags.get(BACKFILL_ID_TAG, "")):
                pruned.kept[reason] += 1
                after = run.run_id  # of a run that is gone the storage cannot tell what comes after it
            else:
                _delete(instance, storage, run.run_id)
                pruned.deleted += 1
        if progress:
            progress(pruned)
    return pruned


def _needed(instance: DagsterInstance, storage: SqlEventLogStorage) -> dict[str, str]:
    """The ids of runs and backfills that must stay, with the reason."""
    backfills = instance.get_backfills(filters=BulkActionsFilter(statuses=_UNFINISHED_BACKFILLS))
    needed = {backfill.backfill_id: OF_A_BACKFILL for backfill in backfills}
    checks, events = AssetCheckExecutionsTable, SqlEventLogStorageTable
    of_check = [checks.c.asset_key, checks.c.check_name, checks.c.partition]
    told = events.c.asset_key.is_not(None) & events.c.dagster_event_type.in_([kind.value for kind in _TOLD])
    # An old plan has no event's number; Dagster passes over it in one place and not in the other.
    numbered = checks.c.evaluation_event_storage_id.is_not(None)
    latest = [
        (OF_A_CHECK, _runs_of_latest(checks, checks.c.run_id.is_not(None), of_check)),
        (OF_A_CHECK, _runs_of_latest(checks, numbered, of_check)),
        (
            OF_A_PARTITION,
            _runs_of_latest(
                events, told, [events.c.asset_key, events.c.dagster_event_type, events.c.partition]
            ),
        ),
    ]
    with storage.index_connection() as connection:
        for reason, query in latest:
            needed.update(dict.fromkeys(connection.execute(query).scalars(), reason))
    return needed


def _runs_of_latest(
    table: Table, condition: ColumnElement[bool], group: Sequence[ColumnElement[Any]]
) -> Select[Any]:
    latest = select(func.max(table.c.id)).where(condition).group_by(*group)
    return select(table.c.run_id).distinct().where(table.c.id.in_(latest))


def _delete(instance: DagsterInstance, storage: SqlEventLogStorage, run_id: str) -> None:
    """The run, its events, what its steps printed, and on a local disk the files that held them."""
    instance.delete_run(run_id)
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    shutil.rmtree(Path(instance.storage_directory()) / run_id, ignore_errors=True)
    if isinstance(storage, SqliteEventLogStorage):  # keeps a file for each run, now an empty database
        for suffix in ("", "-wal", "-shm"):
            Path(storage.path_for_shard(run_id) + suffix).unlink(missing_ok=True)
