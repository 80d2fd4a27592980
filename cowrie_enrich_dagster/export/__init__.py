"""Enriched sessions as files that others read: Parquet, CSV, JSON lines (ECS), STIX 2.1."""

from __future__ import annotations

from cowrie_enrich_dagster.export.days import ExportFormat, ExportReport, export_days

__all__ = ["ExportFormat", "ExportReport", "export_days"]
