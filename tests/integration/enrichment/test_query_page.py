"""Every query of the page runs as it stands, on both engines, and finds in the samples what is there."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from cowrie_enrich_dagster import frames
from cowrie_enrich_dagster.enrichment import Enricher
from tests.conftest import SAMPLE_LOGS
from tests.integration.enrichment.conftest import SAMPLE_DAYS

Open = Callable[..., Enricher]
PAGE = (Path(__file__).parents[3] / "docs" / "queries.md").read_text(encoding="utf-8")
THE_FILE = "96f01248dc7356a385daeba87461bedf348ca889836208b321446e430f014336"
QUERIES = re.findall(r"^## (.+?)\n\n```sql\n(.+?);\n```", PAGE, re.MULTILINE | re.DOTALL)


@cache
def events(kind: str) -> list[dict[str, Any]]:
    """Those of the samples, in the simplest way there is."""
    lines = (
        line for path in SAMPLE_LOGS.rglob("*.gz") for line in gzip.decompress(path.read_bytes()).split(b"\n")
    )
    return [event for event in map(json.loads, filter(None, lines)) if event["eventid"] == f"cowrie.{kind}"]


@pytest.mark.sampled
def test_the_queries_of_the_page(open_enricher: Open) -> None:
    """None is empty; what they count is what the logs hold."""
    assert len(QUERIES) == 14
    with open_enricher() as enricher:
        with enricher.database.read() as connection:
            found = {
                title: [tuple(row) for row in connection.execute(text(query))] for title, query in QUERIES
            }
        assert [title for title, rows in found.items() if not rows] == []
        tables = list(found.values())
        tried = Counter(
            (e["username"], e["password"]) for e in events("login.failed") + events("login.success")
        )
        assert {(user, password): n for user, password, n, *_ in tables[0]}.items() <= tried.items()
        assert tables[0][0][2] == max(tried.values())
        typed = Counter({line: len({e["session"] for e in events("command.input") if e["input"] == line})
                         for line in {e["input"] for e in events("command.input")}})  # fmt: skip
        assert [row[1] for row in tables[1]] == [n for _, n in typed.most_common(20)]
        hosts = Counter((e["dst_ip"], e["dst_port"]) for e in events("direct-tcpip.request"))
        assert {(host, port): n for host, port, n, _ in tables[4]}.items() <= hosts.items()
        let_in = {str(ip_address(event["src_ip"])) for event in events("login.success")}
        assert {row[0] for row in found["Who got in, all of them?"]} == let_in
        brought = [e for e in events("session.file_download") if e["shasum"] == THE_FILE]
        seen = found["Have I seen this file before, from whom, and under which name?"]
        assert {row[3] for row in seen} == {event["session"] for event in brought}
        of_frames = frames.logins(SAMPLE_DAYS, enricher.database)
        assert of_frames["attempts"].sum() == tried.total()


@pytest.mark.sampled
def test_frames_have_real_types(open_enricher: Open) -> None:
    """Moments in UTC, whole numbers, truth values, lists; a day without sessions gives the same columns."""
    with open_enricher() as enricher:
        database = enricher.database
        for frame_of in (
            frames.enriched_sessions,
            frames.sources,
            frames.logins,
            frames.commands,
            frames.files,
            frames.campaigns,
        ):
            full, empty = frame_of("2025-11-01..2025-11-03", database), frame_of("2024-01-01", database)
            assert len(full) > 10
            assert list(empty.columns) == list(full.columns)
            assert empty.empty
        sessions = frames.enriched_sessions(SAMPLE_DAYS, database)
        assert len(sessions) == 1400
        assert str(sessions["event_start"].dtype.tz) == "UTC"
        assert str(sessions["source_as_number"].dtype) == "Int64"
        assert str(sessions["source_is_tor"].dtype) == "boolean"
        assert isinstance(sessions["command_lines"].iloc[0], list)
        campaigns = frames.campaigns("2025-11-02", database)
        assert campaigns["sessions_then"].sum() < campaigns["sessions"].sum() <= 139
        assert str(campaigns["first_seen"].dtype.tz) == "UTC"
        assert campaigns["artefacts"].iloc[0][0]["kind"] == "host"
        commands = frames.commands(SAMPLE_DAYS, database)
        assert len(commands) == sum(len(lines) for lines in sessions["command_lines"])
        assert str(frames.logins(SAMPLE_DAYS, database)["success"].dtype) == "boolean"
