"""Runs that died with their code server are told from runs that are at work: real servers, real kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.test_utils import create_run_for_test
from dagster._grpc.client import DagsterGrpcClient

from cowrie_enrich_dagster.defs.orphans import fail_orphans
from tests.dagster.test_sensors import tick
from tests.integration.enrichment.test_processes import wait_for

REPOSITORY = Path(__file__).parents[2]
JOBS = ["enrich_day"]
LONG_AFTER = 10 * 60


@pytest.fixture
def server(environment: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A code server of this project, in a process group of its own, and its socket."""
    environment.setenv("DSHIELD_RATE_LIMIT", "0.5")
    socket = str(tmp_path / "grpc.sock")
    command = [sys.executable, "-m", "dagster", "api", "grpc", "-m", "cowrie_enrich_dagster.definitions"]
    with subprocess.Popen([*command, "--socket", socket], cwd=REPOSITORY, start_new_session=True) as process:
        client = DagsterGrpcClient(socket=socket)
        try:
            wait_for(lambda: process.poll() is None and _answers(client))
            yield process, socket
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _answers(client: DagsterGrpcClient) -> bool:
    try:
        return client.ping("there?")["echo"] == "there?"
    except DagsterUserCodeUnreachableError:
        return False


def start(instance: DagsterInstance, socket: str) -> str:
    """A run of one sample day on the server, as Dagster's default launcher starts it; its id."""
    location = GrpcServerCodeLocationOrigin(host="localhost", socket=socket, location_name="here")
    run = create_run_for_test(
        instance,
        job_name="enrich_day",
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), "enrich_day"),
        tags={
            "dagster/asset_partition_range_start": "2025-11-01",
            "dagster/asset_partition_range_end": "2025-11-01",
        },
        status=DagsterRunStatus.STARTING,
    )
    DefaultRunLauncher.launch_run_from_grpc_client(instance, run, DagsterGrpcClient(socket=socket))
    wait_for(lambda: status(instance, run.run_id) is not DagsterRunStatus.STARTING)
    return run.run_id


def status(instance: DagsterInstance, run_id: str) -> DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_run_that_died_with_its_server_is_marked_as_failed(
    instance: DagsterInstance, server: tuple[subprocess.Popen[bytes], str]
) -> None:
    """Server and run are killed together, as in a power cut: the run would be STARTED for ever.

    So would one of a server that was started anew. A container that restarts has the same address: it
    answers, and the run is not its own.
    """
    process, socket = server
    run_id = start(instance, socket)
    assert status(instance, run_id) is DagsterRunStatus.STARTED
    assert fail_orphans(instance, JOBS, time.time() + LONG_AFTER) == [], "it is at work, however silent"
    of_the_former_one = create_run_for_test(
        instance,
        job_name="enrich_day",
        status=DagsterRunStatus.STARTED,
        tags={".dagster/grpc_info": f'{{"host": "localhost", "socket": "{socket}"}}'},
    )
    assert fail_orphans(instance, JOBS, time.time() + LONG_AFTER) == [of_the_former_one.run_id]
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert fail_orphans(instance, JOBS, time.time()) == [], "it said something a moment ago"
    assert fail_orphans(instance, ["another_job"], time.time() + LONG_AFTER) == []
    assert status(instance, run_id) is DagsterRunStatus.STARTED
    assert fail_orphans(instance, JOBS, time.time() + LONG_AFTER) == [run_id]
    assert status(instance, run_id) is DagsterRunStatus.FAILURE


def test_runs_of_other_launchers_are_left_to_dagster(instance: DagsterInstance) -> None:
    """A container's or pod's run carries no address of a code server; its launcher can be asked for it."""
    run = create_run_for_test(instance, job_name="enrich_day", status=DagsterRunStatus.STARTED)
    assert fail_orphans(instance, JOBS, time.time() + LONG_AFTER) == []
    assert status(instance, run.run_id) is DagsterRunStatus.STARTED


def test_the_sensor_says_what_it_did(instance: DagsterInstance, tmp_path: Path) -> None:
    """A tick with nothing to do says so; one that marks runs names them."""
    assert tick(instance, "orphaned_runs").skip_message == "every run that is marked as started is at work"
    gone = f'{{"host": "localhost", "socket": "{tmp_path}/gone.sock"}}'
    run = create_run_for_test(
        instance, job_name="drain_lookups", status=DagsterRunStatus.STARTED, tags={".dagster/grpc_info": gone}
    )
    said = tick(instance, "orphaned_runs").skip_message
    assert said == f"marked as failed, their process is gone: {run.run_id[:8]}"
    assert status(instance, run.run_id) is DagsterRunStatus.FAILURE
