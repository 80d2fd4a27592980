"""Prometheus metrics of one installation, read from its database: for node_exporter's textfile collector,
or over HTTP (`metrics_server`).

Names follow https://prometheus.io/docs/practices/naming/. All metrics begin with `cowrie_enrich_`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timezone
from math import inf
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, func, select

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.lookups.ledger import LedgerEntry
from cowrie_enrich_dagster.storage import tables

_RUNS = tables.table_of(tables.EnrichmentRun).c
_LOOKUPS = tables.table_of(tables.Lookup).c
_SESSIONS = tables.table_of(tables.SessionRecord).c
_ENRICHED = tables.table_of(tables.EnrichedSession).c
_QUARANTINE = tables.table_of(tables.QuarantinedLine).c
_PREFIX = "cowrie_enrich_"

Sample = tuple[list[str], float | int | None]
"""Values of the labels, and the value; a sample without one is left out."""


def render(enricher: Enricher) -> bytes:
    """All metrics as they are now, in Prometheus' text format."""
    return generate_latest(_registry(enricher))


def write_textfile(enricher: Enricher, path: Path) -> None:
    """Write `render` to a file, which is replaced as a whole; node_exporter collects names in `.prom`."""
    write_to_textfile(str(path), _registry(enricher))


def _registry(enricher: Enricher) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Installation(enricher))
    return registry


class Installation(Collector):
    """Reads the metrics off the database whenever they are collected."""

    def __init__(self, enricher: Enricher) -> None:
        self._enricher = enricher

    def collect(self) -> Iterator[Metric]:
        yield from _of_limits(self._enricher.ledger())
        yield from self._of_queue()
        yield from _of_cache(self._enricher.cache.database.stats())
        with self._enricher.database.read() as connection:
            yield from _of_rows(connection)
            yield from _of_last_runs(connection)

    def _of_queue(self) -> Iterator[Metric]:
        backlog = self._enricher.backlog()
        states = ("due", "claimed", "later")
        names = sorted({*self._enricher.services, *backlog})
        open_rows = [
            ([name, state], getattr(backlog[name], state) if name in backlog else 0)
            for name in names
            for state in states
        ]
        yield _gauge(
            "backlog_lookups", "Open lookups: due, being asked, or waiting.", "service state", open_rows
        )


def _gauge(name: str, text: str, labels: str, samples: Iterable[Sample]) -> Metric:
    return _filled(GaugeMetricFamily(_PREFIX + name, text, labels=labels.split()), samples)


def _counter(name: str, text: str, labels: str, samples: Iterable[Sample]) -> Metric:
    return _filled(CounterMetricFamily(_PREFIX + name, text, labels=labels.split()), samples)


def _filled(family: Any, samples: Iterable[Sample]) -> Metric:
    for labels, value in samples:
        if value is not None:
            family.add_metric(labels, value)
    metric: Metric = family
    return metric


def _of_limits(entries: Iterable[LedgerEntry]) -> Iterator[Metric]:
    limits = [entry.status for entry in entries]
    windows = [([limit.service, window.name], window) for limit in limits for window in limit.windows]
    yield _gauge(
        "quota_used_requests", "Slots taken in the present calendar window.", "service window",
        [(labels, window.used) for labels, window in windows],
    )  # fmt: skip
    yield _gauge(
        "quota_limit_requests", "Requests allowed in the window, where a limit is known.", "service window",
        [(labels, window.limit) for labels, window in windows],
    )  # fmt: skip
    yield _gauge(
        "quota_left_requests", "Requests left in the window, where a limit is known.", "service window",
        [(labels, window.left) for labels, window in windows],
    )  # fmt: skip
    yield _gauge(
        "quota_reset_timestamp_seconds", "When the window begins anew.", "service window",
        [(labels, window.resets_at.timestamp()) for labels, window in windows],
    )  # fmt: skip
    yield _gauge(
        "cooldown_seconds", "How long no request may be sent (0: requests go out at their pace).", "service",
        [
            ([s.service], (s.cooldown_until - s.as_of).total_seconds() if s.cooldown_until else 0.0)
            for s in limits
        ],
    )  # fmt: skip
    yield _gauge(
        "cooldown_reason_info", "Why no request may be sent; absent while they may.", "service reason",
        [([s.service, str(s.cooldown_reason)], 1) for s in limits if s.cooldown_reason],
    )  # fmt: skip
    for name, text, of in (
        ("configured_requests_per_second", "The rate that is configured.", "configured_rate"),
        ("learned_requests_per_second", "The rate learned from refusals, if any.", "learned_rate"),
        ("effective_requests_per_second", "The rate requests are sent at.", "effective_rate"),
        ("consecutive_limit_failures", "Limit answers since the last other one.", "consecutive_failures"),
    ):
        yield _gauge(name, text, "service", [([s.service], getattr(s, of)) for s in limits])
    for name, text, of in (
        ("requests", "Slots taken for requests, those that were lost included.", "requests_total"),
        ("limited_requests", "Requests answered by a limit.", "limited_total"),
    ):
        yield _counter(name, text, "service", [([s.service], getattr(s, of)) for s in limits])
    yield _gauge(
        "backlog_eta_seconds", "How long the backlog takes at this pace, inflow counted (+Inf: for ever).",
        "service",
        [([entry.status.service], inf if entry.is_never else entry.eta_s or 0.0) for entry in entries],
    )  # fmt: skip


def _of_cache(stats: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    statuses = ("found", "not_found")
    yield _gauge(
        "cache_entries", "Answers in the database tier, expired ones included.", "service status",
        [([name, status], row[status]) for name, row in stats.items() for status in statuses],
    )  # fmt: skip
    yield _gauge(
        "cache_expired_entries", "Answers in the database tier that have expired.", "service",
        [([name], row["expired"]) for name, row in stats.items()],
    )  # fmt: skip
    yield _gauge(
        "cache_size_bytes", "Bytes of the answers in the database tier.", "service",
        [([name], row["bytes"]) for name, row in stats.items()],
    )  # fmt: skip


def _of_rows(connection: Connection) -> Iterator[Metric]:
    lookups = select(_LOOKUPS.service, _LOOKUPS.status, func.count()).group_by(
        _LOOKUPS.service, _LOOKUPS.status
    )
    yield _gauge(
        "lookups", "Keys by how their latest lookup ended.", "service status",
        [([service, status], count) for service, status, count in connection.execute(lookups)],
    )  # fmt: skip
    quarantined = connection.execute(select(func.count(_QUARANTINE.id))).scalar_one()
    yield _gauge("quarantined_lines", "Log lines that could not be used.", "", [([], quarantined)])
    newest = {
        "sessions": connection.execute(select(func.max(_SESSIONS.day))).scalar_one(),
        "enriched_sessions": connection.execute(select(func.max(_ENRICHED.day))).scalar_one(),
    }
    yield _gauge(
        "newest_day_timestamp_seconds", "Start of the newest day in the table.", "table",
        [([table], _midnight(day)) for table, day in newest.items()],
    )  # fmt: skip


def _of_last_runs(connection: Connection) -> Iterator[Metric]:
    """The latest finished run of each kind: `run` (the command line's), `enrichment_cache` (Dagster's)."""
    latest = (
        select(_RUNS.kind, func.max(_RUNS.started_at).label("started_at"))
        .where(_RUNS.finished_at.is_not(None))
        .group_by(_RUNS.kind)
        .subquery()
    )
    query = select(_RUNS.kind, _RUNS.finished_at, _RUNS.report).join(
        latest, (latest.c.kind == _RUNS.kind) & (latest.c.started_at == _RUNS.started_at)
    )
    runs = {row.kind: row for row in connection.execute(query)}
    finished = (
        select(_RUNS.kind, _RUNS.status, func.count())
        .where(_RUNS.finished_at.is_not(None))
        .group_by(_RUNS.kind, _RUNS.status)
    )
    yield _counter(
        "runs", "Finished runs.", "kind status",
        [([kind, status], n) for kind, status, n in connection.execute(finished)],
    )  # fmt: skip
    yield _gauge(
        "last_run_timestamp_seconds", "When the latest run finished.", "kind",
        [([kind], row.finished_at.timestamp()) for kind, row in runs.items()],
    )  # fmt: skip
    yield _gauge(
        "last_run_pending_lookups", "Lookups the latest run left to later ones.", "kind",
        [([kind], row.report["pending"]) for kind, row in runs.items()],
    )  # fmt: skip
    rates = {kind: row.report.get("hit_rates", {}) for kind, row in runs.items()}
    tiers = [(kind, tier, of[tier]) for kind, of in rates.items() for tier in ("cache", "l1") if tier in of]
    yield _gauge(
        "last_run_hit_ratio", "Share answered of the keys that the cache, or Redis (l1), should have had.",
        "kind tier", [([kind, tier], rate["hit_rate"]) for kind, tier, rate in tiers],
    )  # fmt: skip
    yield _gauge(
        "last_run_hits_expected", "Keys that the cache, or Redis (l1), should have had.",
        "kind tier", [([kind, tier], rate["expected"]) for kind, tier, rate in tiers],
    )  # fmt: skip
    yield _gauge(
        "last_run_sessions_without_call_ratio", "1 - calls / answered sessions.", "kind service",
        [
            ([kind, service], one["hit_rate"])
            for kind, of in rates.items()
            for service, one in of.get("sessions_without_call", {}).items()
        ],
    )  # fmt: skip
    for name, text, labels, part in (
        ("last_run_cache_hits", "Keys of the latest run answered by each tier.", "kind tier", "hits"),
        ("last_run_api_calls", "Requests of the latest run.", "kind service", "api_calls"),
        ("last_run_coverage_ratio", "Share of its sessions with an answer.", "kind service", "coverage"),
    ):
        yield _gauge(
            name, text, labels,
            [([kind, of], value) for kind, row in runs.items() for of, value in row.report[part].items()],
        )  # fmt: skip


def _midnight(day: date | None) -> float | None:
    return None if day is None else datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp()
