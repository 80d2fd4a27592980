"""Runs whose process is gone, but that Dagster takes for running.

A code server tells when one of its runs dies. When the server dies with them (power cut, `kill -9`, a
container ended), nobody does: the launcher that starts runs as processes cannot be asked about them, and
run_monitoring leaves them STARTED. They would keep their places among the concurrent runs, and whoever waits
for them waits for ever.
"""

from __future__ import annotations

import json
from collections.abc import Collection

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

SILENT_SECONDS = 60.0
"""A run that said something this lately is left alone, whatever its server knows of it."""
ANSWER_SECONDS = 5


def fail_orphans(instance: DagsterInstance, job_names: Collection[str], now: float) -> list[str]:
    """Mark the runs of these jobs as failed whose code server is gone or does not know them; their ids.

    `now` is in seconds since the epoch. `run_retries` starts failed runs again. Runs that were not started as
    a process of a code server (those of a container launcher, which can be asked) are left to Dagster.
    """
    failed = []
    for run in instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED])):
        if run.job_name not in job_names or GRPC_INFO_TAG not in run.tags:
            continue
        if _is_silent(instance, run.run_id, now) and not _is_known_to_its_server(run):
            again = instance.get_run_by_id(run.run_id)
            if again and again.status is DagsterRunStatus.STARTED:
                instance.report_run_failed(again, "Its code server has ended, and this run with it.")
                failed.append(run.run_id)
    return failed


def _is_silent(instance: DagsterInstance, run_id: str, now: float) -> bool:
    latest = instance.get_records_for_run(run_id, limit=1, ascending=False).records
    return not latest or latest[0].event_log_entry.timestamp < now - SILENT_SECONDS


def _is_known_to_its_server(run: DagsterRun) -> bool:
    server = json.loads(run.tags[GRPC_INFO_TAG])
    client = DagsterGrpcClient(
        port=server.get("port"),
        socket=server.get("socket"),
        host=server.get("host"),
        use_ssl=bool(server.get("use_ssl", False)),
    )
    try:
        answer = client.can_cancel_execution(
            CanCancelExecutionRequest(run_id=run.run_id), timeout=ANSWER_SECONDS
        )
    except DagsterUserCodeUnreachableError:
        return False
    return deserialize_value(answer, CanCancelExecutionResult).can_cancel
