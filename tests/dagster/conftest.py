"""The project in Dagster: its own home, the sample logs where files may be dropped, a simulated DShield."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster_postgres.utils
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster import DagsterInstance, Definitions, ExecuteInProcessResult
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from sqlalchemy import Engine, NullPool, QueuePool, create_engine

from cowrie_enrich_dagster.definitions import defs
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import Simulator, SimulatorConfig
from tests.logs import routable_ips, write_logs

REPOSITORY = Path(__file__).parents[2]
NO_COMPUTE_LOGS = """
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""
Materialise = Callable[..., ExecuteInProcessResult]


@pytest.fixture(scope="session", autouse=True)
def hang_up(compiled_once: object) -> Iterator[Callable[[], None]]:
    """Dagster's databases, connected to once in a test: Dagster makes an engine or a connection for every
    event that it stores, for half the time of a run. What is stored is the same. Calling it ends them all."""
    made: dict[str, Engine] = {}

    def kept(url: str, **options: Any) -> Engine:
        if options["poolclass"] is not NullPool:
            return create_engine(url, **options)
        if url not in made:
            held = {**options, "poolclass": QueuePool, "execution_options": {"compiled_cache": compiled_once}}
            made[url] = create_engine(url, **held)
            made[url].dispose = lambda: None  # which Dagster calls each time
        return made[url]

    def end() -> None:
        while made:
            Engine.dispose(made.popitem()[1])

    with pytest.MonkeyPatch.context() as patch:
        for module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage, dagster_postgres.utils):
            # The oldest dagster-postgres that we allow has none there: what it opens is not kept.
            patch.setattr(module, "create_engine", kept, raising=False)
        yield end
    end()


@pytest.fixture(autouse=True)
def hung_up(hang_up: Callable[[], None]) -> Iterator[None]:
    """No test leaves connections to the next."""
    yield
    hang_up()


@pytest.fixture(scope="session", autouse=True)
def kept_scripts() -> Iterator[None]:
    """Dagster's migrations, read once: it reads all of them for each storage that it opens."""
    read: dict[object, ScriptDirectory] = {}
    of_config = ScriptDirectory.from_config

    def kept(config: Config) -> ScriptDirectory:
        where = (config.config_file_name, config.get_main_option("script_location"))
        if where not in read:
            read[where] = of_config(config)
        return read[where]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", kept)
        yield


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """DShield without a limit; tests set limits and faults as they need."""
    with Simulator(SimulatorConfig()) as running:
        yield running


@pytest.fixture
def logs(tmp_path: Path, sample_logs: Path) -> Path:
    """A log folder of the test's own, with the sample logs in it."""
    return Path(shutil.copytree(sample_logs, tmp_path / "logs"))


@pytest.fixture(scope="session")
def dagster_template(tmp_path_factory: pytest.TempPathFactory, hang_up: Callable[[], None]) -> Path:
    """A DAGSTER_HOME with the project's own dagster.yaml, in which Dagster has made its storage: a copy of it
    takes a hundredth of the time.

    What steps print is not kept: for that Dagster starts four processes a run, two of them with Python.
    """
    home = tmp_path_factory.mktemp("dagster")
    (home / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text() + NO_COMPUTE_LOGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        with DagsterInstance.get() as instance:
            assert instance.get_runs_count() == 0
    hang_up()
    return home


@pytest.fixture(autouse=True)
def environment(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    simulator: Simulator,
    logs: Path,
    dagster_template: Path,
) -> pytest.MonkeyPatch:
    """The environment of `dagster dev`; Dagster has run nothing yet.

    The database is new or, where the test is marked as `sampled`, what a run over the sample days at the
    command line left.
    """
    dagster_home = shutil.copytree(dagster_template, tmp_path / "dagster")
    kind = "sampled" if request.node.get_closest_marker("sampled") else "template"
    shutil.copy(request.getfixturevalue(f"sqlite_{kind}"), tmp_path / "enrich.db")
    for name, value in {
        "COWRIE_ENRICH_HOME": str(tmp_path),
        "COWRIE_LOG_DIR": str(logs),
        "DAGSTER_HOME": str(dagster_home),
        "DSHIELD_API_URL": simulator.url("dshield"),
        "DSHIELD_EMAIL": "tests@example.org",
        "DSHIELD_RATE_LIMIT": "1000",
        "ENABLE_REDIS_CACHE": "false",
        "ENRICH_SERVICES": "dshield",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def few_logs(environment: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Logs of 2025-11-01 with three sessions of each of twelve routable addresses instead of the samples."""
    ips = routable_ips(12)
    environment.setenv("COWRIE_LOG_DIR", str(write_logs(tmp_path / "few", ips, sessions_each=3)))
    return ips


@pytest.fixture
def instance(environment: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    """Dagster's own storage, as DAGSTER_HOME has it."""
    with DagsterInstance.get() as opened:
        yield opened


@pytest.fixture
def materialise(instance: DagsterInstance) -> Materialise:
    """Runs `enrich_day` over a range of days in this process."""

    def run(
        first: str, last: str | None = None, *, succeed: bool = True, definitions: Definitions = defs
    ) -> ExecuteInProcessResult:
        return definitions.resolve_job_def("enrich_day").execute_in_process(
            instance=instance,
            tags={
                "dagster/asset_partition_range_start": first,
                "dagster/asset_partition_range_end": last or first,
            },
            raise_on_error=succeed,
        )

    return run


@pytest.fixture
def enricher(environment: pytest.MonkeyPatch) -> Iterator[Enricher]:
    """The pipeline beside Dagster, to look into its database and to prepare it."""
    with Enricher(load_settings()) as opened:
        yield opened
