"""What Dagster loads."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
from dagster import Definitions

import cowrie_enrich_dagster
from cowrie_enrich_dagster.definitions import defs
from tests import dictionary


def test_the_definitions_are_valid() -> None:
    """Every job, schedule and sensor resolves."""
    Definitions.validate_loadable(defs)


def test_the_lineage_runs_from_logs_to_the_report() -> None:
    """logs -> sessions -> addresses -> feeds -> cache -> enriched (of sessions, too) -> both others."""
    graph = defs.resolve_asset_graph()
    parents = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert parents == {
        "cowrie_logs": set(),
        "cowrie_sessions": {"cowrie_logs"},
        "session_ips": {"cowrie_sessions"},
        "address_lists": {"session_ips"},
        "dshield_feed": {"session_ips"},
        "abuseipdb_feed": {"session_ips"},
        "enrichment_cache": {"session_ips", "address_lists", "dshield_feed", "abuseipdb_feed"},
        "enriched_sessions": {"cowrie_sessions", "enrichment_cache"},
        "campaigns": {"enriched_sessions"},
        "attack_report": {"enriched_sessions", "campaigns"},
    }


def test_every_asset_of_a_day_is_backfilled_in_one_run() -> None:
    """Thirty days are one run, so that an address seen on many of them is asked once."""
    graph = defs.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        policy = graph.get(key).backfill_policy
        assert policy is not None, key
        assert policy.max_partitions_per_run is None, key


def test_a_backfill_is_cut_into_runs_of_so_many_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """ENRICH_DAYS_PER_RUN=5 takes effect on every asset of a day; the launcher spreads the runs."""
    monkeypatch.setenv("ENRICH_DAYS_PER_RUN", "5")
    for name in [name for name in sys.modules if name.startswith("cowrie_enrich_dagster.def")]:
        monkeypatch.delitem(sys.modules, name)  # so that Dagster's part is loaded anew
    for name in ("defs", "definitions"):
        monkeypatch.delattr(cowrie_enrich_dagster, name)
    graph = import_module("cowrie_enrich_dagster.definitions").defs.resolve_asset_graph()
    policies = [graph.get(key).backfill_policy for key in graph.materializable_asset_keys]
    assert {policy.max_partitions_per_run for policy in policies} == {5}


def test_the_groups_follow_the_flow() -> None:
    """No asset is upstream of one whose group comes before its own."""
    stages = ["logs", "sessions", "feeds", "answers", "enriched", "campaigns", "reports"]
    graph = defs.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        for parent in node.parent_keys:
            assert stages.index(graph.get(parent).group_name) <= stages.index(node.group_name)


def test_every_table_says_what_is_in_it() -> None:
    """Name, columns and the place in the code; where each enriched column comes from is a column there is."""
    graph = defs.resolve_asset_graph()
    metadata = {key.to_user_string(): graph.get(key).metadata for key in graph.materializable_asset_keys}
    assert "dagster/code_references" in metadata.pop("attack_report")  # pages, no table
    shown = {key.to_user_string(): graph.get(key).metadata for key in graph.get_all_asset_keys()}
    columns = {
        name: {column.name for column in told["dagster/column_schema"].value.columns}
        for name, told in shown.items()
        if "dagster/column_schema" in told
    }
    assert {name: told["dagster/table_name"] for name, told in metadata.items()} == {
        "cowrie_sessions": "sessions",
        "session_ips": "session_ips",
        "enrichment_cache": "enrichment_cache",
        "enriched_sessions": "enriched_sessions",
        "campaigns": "campaigns",
    }
    assert all("dagster/code_references" in told for told in metadata.values())
    lineage = metadata["enriched_sessions"]["dagster/column_lineage"].deps_by_column
    assert lineage.keys() == columns["enriched_sessions"]
    for column, deps in lineage.items():
        assert deps, column
        for dep in deps:
            assert dep.column_name in columns[dep.asset_key.to_user_string()], (column, dep)


def test_every_column_is_described() -> None:
    """In the words of the data dictionary, feeds that are off included."""
    graph = defs.resolve_asset_graph()
    shown = {key.to_user_string(): graph.get(key).metadata for key in graph.get_all_asset_keys()}
    tables = {name: told for name, told in shown.items() if "dagster/column_schema" in told}
    assert tables.keys() == shown.keys() - {"cowrie_logs", "attack_report"}
    sections = dictionary.DICTIONARY.read_text(encoding="utf-8").split("\n## ")
    for told in tables.values():
        (section,) = (part for part in sections if part.startswith(f"{told['dagster/table_name']}\n"))
        for column in told["dagster/column_schema"].value.columns:
            assert column.description
            assert f"| `{column.name}` | {column.description} |" in section


def test_everything_automatic_is_described() -> None:
    """Sensors and schedules say in the UI what they do."""
    for definition in [*defs.sensors, *defs.schedules]:
        assert definition.description, definition.name


def test_loading_warns_of_nothing() -> None:
    """Neither deprecations nor beta parameters: what operators see in their logs is about their data."""
    command = [sys.executable, "-W", "error::DeprecationWarning", "-W", "default::UserWarning"]
    code = "import cowrie_enrich_dagster.definitions as d; d.Definitions.validate_loadable(d.defs)"
    done = subprocess.run([*command, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
