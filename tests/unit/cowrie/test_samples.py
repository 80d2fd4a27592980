"""The sample logs, recorded from a real Cowrie."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from datetime import date, datetime
from hashlib import sha1
from ipaddress import ip_address
from typing import Any

import pytest

from cowrie_enrich_dagster.cowrie import address_scope
from cowrie_enrich_dagster.vocabulary import Scope

from .logs import SAMPLE_DAYS, SAMPLES, read


def plain_events() -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The events of every session, gathered in the simplest way there is."""
    gathered = defaultdict(list)
    for path in sorted(SAMPLES.rglob("*.gz")):
        for raw in gzip.decompress(path.read_bytes()).splitlines():
            record = json.loads(raw)
            gathered[record["sensor"], record["session"]].append(record)
    return gathered


def test_sample_counts() -> None:
    """All 1,400 sessions, 8,249 events, 178 addresses are found, 174 of them may be asked about."""
    reading = read(SAMPLES, *SAMPLE_DAYS)
    addresses = {session.src_ip for session in reading.sessions}
    assert len(reading.sessions) == 1400
    assert sum(session.event_count for session in reading.sessions) == reading.report.events == 8249
    assert reading.counts() == (8249, 8249, 0)
    assert len(addresses) == 178
    assert sum(address_scope(ip or "") is Scope.GLOBAL for ip in addresses) == 174
    assert reading.report.files == reading.report.files_found == 7


def test_every_field_of_every_sample_session() -> None:
    """Each session says what a plain grouping of its events says."""
    expected = plain_events()
    for session in read(SAMPLES, *SAMPLE_DAYS).sessions:
        events = sorted(expected.pop((session.sensor, session.session_id)), key=lambda e: e["timestamp"])
        kinds = Counter(e["eventid"].removeprefix("cowrie.") for e in events)
        first = {kind: next((e for e in events if e["eventid"] == f"cowrie.{kind}"), {}) for kind in kinds}
        login = first.get("login.success") or first.get("login.failed") or {}
        hashes = {e["shasum"] for e in events if "shasum" in e}
        passwords = {sha1(e["password"].encode()).hexdigest().upper() for e in events if "password" in e}
        stamps = [datetime.fromisoformat(e["timestamp"].replace("Z", "+00:00")) for e in events]
        begin = first["session.connect"]
        assert (session.started_at, session.ended_at) == (stamps[0], stamps[-1])
        assert session.day == stamps[0].date()
        assert session.event_count == len(events)
        assert (session.has_connect, session.has_closed) == (True, True)
        assert [session.src_ip, session.src_port, session.dst_port, session.protocol] == [
            str(ip_address(begin["src_ip"])),
            *(begin[name] for name in ("src_port", "dst_port", "protocol")),
        ]
        assert session.duration_ms == first["session.closed"]["duration_ms"]
        assert (session.login_failures, session.login_successes) == (
            kinds["login.failed"],
            kinds["login.success"],
        )
        assert (session.commands, session.commands_failed) == (
            kinds["command.input"],
            kinds["command.failed"],
        )
        assert session.downloads == kinds["session.file_download"]
        assert session.uploads == kinds["session.file_upload"]
        assert session.tunnel_requests == kinds["direct-tcpip.request"]
        assert session.tunnel_data == kinds["direct-tcpip.data"]
        assert session.username == (login.get("username", "")[:256] or None)
        assert session.password == (login.get("password", "")[:256] or None)
        assert session.client_version == first.get("client.version", {}).get("version")
        assert session.hassh == first.get("client.kex", {}).get("hassh")
        assert session.arch == first.get("session.params", {}).get("arch")
        assert session.terminal_width == first.get("client.size", {}).get("width")
        assert session.terminal_height == first.get("client.size", {}).get("height")
        assert session.ja4h == first.get("direct-tcpip.ja4h", {}).get("ja4h")
        assert session.file_hashes == tuple(sorted(hashes))
        assert session.passwords_sha1 == tuple(sorted(passwords))
    assert not expected


@pytest.mark.parametrize("day", [date(2025, 11, 1), date(2025, 11, 2), date(2025, 11, 3), date(2025, 11, 4)])
def test_a_day_alone_is_the_day_of_a_range(day: date) -> None:
    """A day read alone gives the very sessions that it has in a range of days."""
    of_range = read(SAMPLES, date(2025, 10, 30), date(2025, 11, 5)).sessions
    assert read(SAMPLES, day).sessions == [session for session in of_range if session.day == day]


def test_counts_of_a_day_agree_with_its_sessions() -> None:
    """The report's counts by day are those of the sessions given out, days without any included."""
    reading = read(SAMPLES, date(2025, 11, 2), date(2025, 11, 4))
    by_day = Counter(session.day for session in reading.sessions)
    assert {day: counts.sessions for day, counts in reading.report.days.items()} == {
        date(2025, 11, 2): by_day[date(2025, 11, 2)],
        date(2025, 11, 3): by_day[date(2025, 11, 3)],
        date(2025, 11, 4): 0,
    }
