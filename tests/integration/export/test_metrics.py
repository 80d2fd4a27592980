"""What Prometheus is told is what the database holds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.metrics import render, write_textfile
from cowrie_enrich_dagster.simulator import Limit, Simulator, TokenBucket
from cowrie_enrich_dagster.storage.tables import EnrichmentRun, table_of
from tests.integration.enrichment.conftest import SAMPLE_DAYS, environment, open_enricher, simulator

__all__ = ["environment", "open_enricher", "simulator"]
Open = Callable[..., Enricher]
DASHBOARD = Path(__file__).parents[3] / "deploy" / "grafana" / "dashboard.json"


def samples(enricher: Enricher) -> dict[tuple[str, ...], float]:
    """(name, label values in the order of their names) -> value, as Prometheus' own parser reads them."""
    found = {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(render(enricher).decode())
        for sample in family.samples
    }
    assert all(key[0].startswith("cowrie_enrich_") for key in found)
    return {(key[0].removeprefix("cowrie_enrich_"), *key[1:]): value for key, value in found.items()}


@pytest.mark.sampled
def test_a_complete_run_shows_in_the_metrics(open_enricher: Open) -> None:
    """Cache entries, requests, hits and coverage are those of the run's report; nothing is pending."""
    enricher = open_enricher()
    with enricher.database.read() as connection:
        report = connection.execute(select(table_of(EnrichmentRun).c.report)).scalar_one()
    told = samples(enricher)
    counts = report["lookups"]["dshield"]
    assert told["cache_entries", "dshield", "found"] == counts["found"]
    assert told["cache_entries", "dshield", "not_found"] == counts["not_found"]
    assert told["lookups", "dshield", "found"] == counts["found"]
    assert told["quota_used_requests", "dshield", "month"] == 174 <= told["requests_total", "dshield"]
    assert told["limited_requests_total", "dshield"] == 0
    assert told["backlog_lookups", "dshield", "due"] == told["backlog_eta_seconds", "dshield"] == 0
    assert told["last_run_coverage_ratio", "run", "dshield"] == 1
    assert told["last_run_api_calls", "run", "dshield"] == 174
    assert told["last_run_cache_hits", "run", "database"] == 0
    assert told["runs_total", "run", "complete"] == 1
    assert told["cooldown_seconds", "dshield"] == 0
    assert told["configured_requests_per_second", "dshield"] == 1000
    assert told["effective_requests_per_second", "dshield"] == 1000
    assert told["newest_day_timestamp_seconds", "enriched_sessions"] == 1762128000  # 2025-11-03
    assert told["quarantined_lines",] == 0


def test_a_limit_shows_as_cooldown_and_backlog(open_enricher: Open, simulator: Simulator) -> None:
    """A service that refuses: how long it is left alone and why, what waits, and until when."""
    simulator.set_limit("dshield", Limit(rules=(TokenBucket(per_minute=1, burst=3),), ban_s=3600))
    enricher = open_enricher(ENRICH_MAX_WAIT_SECONDS="0")
    pending = enricher.run(SAMPLE_DAYS).as_dict()["pending"]
    told = samples(enricher)
    assert pending > 100
    assert 3000 < told["cooldown_seconds", "dshield"] <= 3601  # a second on top is ours
    assert told["cooldown_reason_info", "rate_limited", "dshield"] == 1
    assert told["limited_requests_total", "dshield"] >= 1
    assert told["learned_requests_per_second", "dshield"] < 1000
    states = ("due", "claimed", "later")
    assert sum(told["backlog_lookups", "dshield", state] for state in states) == pending
    assert told["backlog_eta_seconds", "dshield"] > 0
    assert told["last_run_pending_lookups", "run"] == pending
    assert told["runs_total", "run", "partial"] == 1


def test_the_textfile_is_replaced_as_a_whole(open_enricher: Open, tmp_path: Path) -> None:
    """An empty installation has metrics too, and writing them leaves nothing but the file."""
    folder = tmp_path / "textfile"
    folder.mkdir()
    path = folder / "cowrie_enrich.prom"
    path.write_text("old")
    enricher = open_enricher()
    write_textfile(enricher, path)
    assert b"cowrie_enrich_cooldown_seconds{" in path.read_bytes()
    assert list(folder.iterdir()) == [path]


def test_the_dashboard_asks_for_metrics_that_exist(open_enricher: Open) -> None:
    """Every metric in the Grafana dashboard is one that is exported."""
    families = list(text_string_to_metric_families(render(open_enricher()).decode()))
    exported = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    expressions = [
        target["expr"]
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", [])
    ]
    asked = {name for expression in expressions for name in re.findall(r"cowrie_enrich_\w+", expression)}
    assert len(asked) > 10
    assert asked <= exported
