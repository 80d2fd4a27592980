"""The sample logs, recorded from a real Cowrie."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from hashlib import sha1
from ipaddress import ip_address
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cowrie_enrich_dagster.cowrie import address_scope
from cowrie_enrich_dagster.vocabulary import Days, Scope

from .logs import SAMPLE_DAYS, SAMPLES, joined, read

DAY_AFTER = date(2025, 11, 4)
C = "cowrie."


def plain_events() -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The events of every session, gathered in the simplest way there is."""
    gathered = defaultdict(list)
    for path in sorted(SAMPLES.rglob("*.gz")):
        for raw in gzip.decompress(path.read_bytes()).splitlines():
            record = json.loads(raw)
            gathered[record["sensor"], record["session"]].append(record)
    return gathered


def test_sample_counts() -> None:
    """All 1,400 sessions, 8,249 events, 178 addresses are found, 174 of them may be asked about.

    One of the events is a close on the day after.
    """
    assert read(SAMPLES, *SAMPLE_DAYS).report.events == 8248
    reading = read(SAMPLES, SAMPLE_DAYS[0], DAY_AFTER)
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
    for session in read(SAMPLES, SAMPLE_DAYS[0], DAY_AFTER).sessions:
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
        assert list(session.command_lines) == [
            e["input"] for e in events if e["eventid"] == f"{C}command.input"
        ]
        assert session.command_lines_left_out == session.files_left_out == session.logins_left_out == 0
        attempts = Counter(
            (e["username"][:256], e["password"][:256], e["eventid"] == f"{C}login.success")
            for e in events
            if "login." in e["eventid"]
        )
        assert {
            (login["username"] or "", login["password"], login["success"]): login["attempts"]
            for login in session.logins
        } == attempts
        files = {
            (e["shasum"], e.get("url"), e.get("filename") or e.get("destfile"))
            for e in events
            if "shasum" in e
        }
        assert {(file["sha256"], file["url"], file["name"]) for file in session.files} == files
        tunnels = Counter(
            (e["dst_ip"], e["dst_port"]) for e in events if e["eventid"] == f"{C}direct-tcpip.request"
        )
        assert {(t["host"], t["port"]): t["requests"] for t in session.tunnels} == tunnels
        assert session.passwords_sha1 == tuple(sorted(passwords))
    assert not expected


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(6)), cuts=st.sets(st.integers(1, 5)))
def test_days_in_any_order_alone_or_together(order: list[int], cuts: set[int]) -> None:
    """Whatever days are read together, and in whatever order, the sessions are the same."""
    first = date(2025, 10, 30)
    ends = sorted({0, 6, *cuts})
    spans = {start: end - 1 for start, end in pairwise(ends)}
    pieces = []
    for start in order:
        if start in spans:
            days = first + timedelta(days=start), first + timedelta(days=spans[start])
            pieces += read(SAMPLES, *days).pieces
    assert joined(pieces) == read(SAMPLES, first, date(2025, 11, 4)).sessions


def test_counts_of_a_day_agree_with_its_pieces() -> None:
    """The report's counts by day are those of what is given out, days without any included."""
    reading = read(SAMPLES, date(2025, 11, 2), date(2025, 11, 5))
    pieces = Counter(piece.day for piece in reading.pieces)
    events: Counter[date] = Counter()
    for piece in reading.pieces:
        events[piece.day] += piece.event_count
    assert {day: (counts.pieces, counts.events) for day, counts in reading.report.days.items()} == {
        day: (pieces[day], events[day]) for day in Days(date(2025, 11, 2), date(2025, 11, 5))
    }
    assert (pieces[date(2025, 11, 4)], pieces[date(2025, 11, 5)]) == (1, 0)
