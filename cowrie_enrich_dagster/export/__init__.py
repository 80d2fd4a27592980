"""Enriched sessions as files that others read: Parquet, CSV, JSON lines (ECS), STIX 2.1, blocklist."""

from __future__ import annotations

from cowrie_enrich_dagster.export.days import ExportFormat, ExportReport, export_days
from cowrie_enrich_dagster.export.fields import Wanted

__all__ = ["ExportFormat", "ExportReport", "Wanted", "export_days"]
