"""The demo keeps to itself: its own data whatever the environment says, on days that end yesterday."""

from __future__ import annotations

import gzip
import json
import os
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pytest

from cowrie_enrich_dagster import demo
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.vocabulary import utc_now

OPERATORS = {
    "DATABASE_URL": "postgresql://operator@db/enrich",
    "COWRIE_LOG_DIR": "/srv/cowrie",
    "ENRICH_SERVICES": "virustotal",
    "VIRUSTOTAL_API_KEY": "the-operators-own",
    "REDIS_HOST": "redis.operator.example",
    "ENABLE_REDIS_CACHE": "true",
    "ENRICH_OWN_NETWORKS": "11.0.0.0/8",
}


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the demo writes."""
    monkeypatch.setattr(demo, "HOME", tmp_path / "demo")
    return tmp_path / "demo"


def test_no_setting_of_the_operator_is_used(home: Path) -> None:
    """No simulated answer can reach other data, no key a simulator."""
    with mock.patch.dict(os.environ, OPERATORS), demo._demo_environment():
        settings = load_settings()
        assert not OPERATORS.items() & os.environ.items()
    assert settings.database_url.get_secret_value() == f"sqlite:///{home}/enrich.db"
    assert not settings.redis.enabled
    assert settings.log_dir == home / "logs"
    assert settings.warnings == ()
    for name in ("dshield", "virustotal", "hibp"):
        assert "127.0.0.1" in str(settings.services[name].api_url)


def test_the_days_end_yesterday_and_the_logs_with_them(home: Path) -> None:
    """So that the UI opens on full partitions; what an operator drops beside them stays, older days go."""
    yesterday = utc_now().date() - timedelta(days=1)
    with mock.patch.dict(os.environ), demo._demo_environment() as days:
        pass
    assert days.ends == (yesterday - timedelta(days=2), yesterday)
    (log,) = (home / "logs" / "hp-sensor-a").glob(f"*{yesterday}.gz")
    stamps = {json.loads(line)["timestamp"][:10] for line in gzip.decompress(log.read_bytes()).splitlines()}
    assert stamps == {str(yesterday)}
    (home / "days").write_text("2025-01-01..2025-01-03")
    (home / "enrich.db").write_text("of other days")
    (home / "logs" / "mine.json").write_text("{}")
    with mock.patch.dict(os.environ), demo._demo_environment():
        pass
    assert not (home / "enrich.db").exists()
    assert (home / "logs" / "mine.json").exists()
