"""What Dagster loads."""

from __future__ import annotations

import subprocess
import sys
import warnings

from dagster import AssetKey, AssetSelection, Definitions

from cowrie_enrich_dagster.definitions import defs


def test_the_definitions_are_valid() -> None:
    """Every job, schedule and sensor resolves."""
    Definitions.validate_loadable(defs)


def test_the_lineage_runs_from_logs_to_enriched_sessions() -> None:
    """logs -> sessions -> addresses -> cache -> enriched, which also needs the sessions."""
    graph = defs.resolve_asset_graph()
    parents = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert parents == {
        "cowrie_logs": set(),
        "cowrie_sessions": {"cowrie_logs"},
        "session_ips": {"cowrie_sessions"},
        "enrichment_cache": {"session_ips"},
        "enriched_sessions": {"cowrie_sessions", "enrichment_cache"},
    }
