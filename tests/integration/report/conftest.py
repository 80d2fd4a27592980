"""The sample logs, enriched by a simulated DShield, on each engine; read only."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.settings import load_settings
from tests.servers import PostgresServer


def settings_of(home: Path, url: str, logs: Path, **more: str) -> dict[str, str]:
    """The environment of a pipeline that asks DShield alone."""
    return {
        "COWRIE_ENRICH_HOME": str(home),
        "COWRIE_LOG_DIR": str(logs),
        "DATABASE_URL": url,
        "DSHIELD_EMAIL": "tests@example.org",
        "DSHIELD_RATE_LIMIT": "1000",
        "ENABLE_REDIS_CACHE": "false",
        "ENRICH_SERVICES": "dshield",
        **more,
    }


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def enriched(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sample_logs: Path
) -> Iterator[Enricher]:
    """The pipeline after a run over the sample days. What a test changes, others see."""
    home = tmp_path_factory.mktemp("report")
    url = f"sqlite:///{home}/test.db"
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_sampled")
        url = server.new_database("template")
    else:
        shutil.copy(request.getfixturevalue("sqlite_sampled"), home / "test.db")
    with Enricher(load_settings(settings_of(home, url, sample_logs), cwd=home)) as enricher:
        yield enricher
