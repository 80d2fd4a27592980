"""A pipeline on the sample logs, a database on each engine, and a simulated DShield over real HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import Simulator, SimulatorConfig
from tests.conftest import SAMPLE_DAYS
from tests.logs import routable_ips, write_logs

__all__ = ["SAMPLE_DAYS"]


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """DShield without a limit; tests set limits and faults as they need."""
    with Simulator(SimulatorConfig()) as running:
        yield running


@pytest.fixture
def environment(database_url: str, simulator: Simulator, sample_logs: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of one worker; the database has its schema."""
    return {
        "COWRIE_ENRICH_HOME": str(tmp_path),
        "COWRIE_LOG_DIR": str(sample_logs),
        "DATABASE_URL": database_url,
        "DSHIELD_API_URL": simulator.url("dshield"),
        "DSHIELD_EMAIL": "tests@example.org",
        "DSHIELD_RATE_LIMIT": "1000",
        "ENABLE_REDIS_CACHE": "false",
        "ENRICH_SERVICES": "dshield",
    }


@pytest.fixture
def few_logs(environment: dict[str, str], tmp_path: Path) -> list[str]:
    """Logs of one day with three sessions of each of 24 routable addresses instead of the samples."""
    ips = routable_ips(24)
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "few", ips, sessions_each=3))
    return ips


@pytest.fixture
def open_enricher(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Enricher]]:
    """Opens pipelines, each with changes to the environment; all are closed at the end."""
    opened: list[Enricher] = []

    def open_one(**changes: str) -> Enricher:
        enricher = Enricher(load_settings({**environment, **changes}, cwd=tmp_path))
        opened.append(enricher)
        return enricher.__enter__()

    yield open_one
    for enricher in opened:
        enricher.close()


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., None]:
    """Write `[[enrichment.lists]]`, each given as a dict."""

    def write(*lists: dict[str, Any]) -> None:
        entries = []
        for one in lists:
            values = (
                f"{key} = {value if isinstance(value, (int, float)) else repr(value)}"
                for key, value in one.items()
            )
            entries.append("[[enrichment.lists]]\n" + "\n".join(values))
        (tmp_path / "sensors.toml").write_text("\n".join(entries))

    return write
