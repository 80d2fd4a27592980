"""`enriched_sessions`: each session with what is known of its source, its files and its passwords."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, Date, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from cowrie_enrich_dagster.storage.tables.base import Base, Json, UtcDateTime, table_of
from cowrie_enrich_dagster.storage.tables.sessions import SessionRecord


def _told(column: str) -> str | None:
    """What `sessions` says of its column, for the one that is copied from it."""
    return table_of(SessionRecord).columns[column].doc


class EnrichedSession(Base):
    """One row per session, enriched or not; ECS field names with underscores, its deeds as in `sessions`.

    `intel` maps each service asked about the source to `{status, fetched_at}` (UTC, to the second), with
    `stale: true` where the answer has expired or been replaced, and `feed` where a list told it; its key
    `files` maps each file hash to the services asked about it. What they answered stands in `answers`, by
    service, key and `fetched_at`. An answer is the one that was known when the session ended, else the
    first that came later; `knowledge` says which: `before`, `during` or `N days after` the session, or
    `unknown`. `file_malicious` counts the session's files that a service calls malicious,
    `passwords_breached` and `_novel` its passwords that are in known breaches, or are not (None: not
    asked). `source_abuse_score` goes from 0 (nothing against it) to 100 (certainly abusive).

    `provenance` maps each of these columns that has a value to the service it is from. Where services
    disagree, the first in the order of `Service.rank` that says anything is believed; before all of them the
    operator's own list of scanners (`list`).
    """

    __tablename__ = "enriched_sessions"
    sensor: Mapped[str] = mapped_column(Text, primary_key=True, doc=_told("sensor"))
    session_id: Mapped[str] = mapped_column(Text, primary_key=True, doc=_told("session_id"))
    event_start: Mapped[datetime] = mapped_column(
        UtcDateTime, primary_key=True, doc="`started_at` of the session: when its first event was logged"
    )
    day: Mapped[date] = mapped_column(Date, index=True, doc="UTC day of `event_start`")
    event_end: Mapped[datetime] = mapped_column(
        UtcDateTime, doc="`ended_at` of the session: when its last event was logged"
    )
    event_duration_ms: Mapped[int] = mapped_column(BigInteger, doc=_told("duration_ms"))
    network_protocol: Mapped[str | None] = mapped_column(Text, doc=_told("protocol"))
    source_ip: Mapped[str | None] = mapped_column(Text, index=True, doc=_told("src_ip"))
    source_port: Mapped[int | None] = mapped_column(Integer, doc=_told("src_port"))
    destination_port: Mapped[int | None] = mapped_column(Integer, doc=_told("dst_port"))
    user_name: Mapped[str | None] = mapped_column(Text, doc=_told("username"))
    login_failures: Mapped[int] = mapped_column(Integer, doc=_told("login_failures"))
    login_successes: Mapped[int] = mapped_column(Integer, doc=_told("login_successes"))
    commands: Mapped[int] = mapped_column(Integer, doc=_told("commands"))
    downloads: Mapped[int] = mapped_column(Integer, doc=_told("downloads"))
    uploads: Mapped[int] = mapped_column(Integer, doc=_told("uploads"))
    password: Mapped[str | None] = mapped_column(Text, doc=_told("password"))
    client_version: Mapped[str | None] = mapped_column(Text, doc=_told("client_version"))
    hassh: Mapped[str | None] = mapped_column(Text, doc=_told("hassh"))
    ja4h: Mapped[str | None] = mapped_column(Text, doc=_told("ja4h"))
    ja4: Mapped[str | None] = mapped_column(Text, doc=_told("ja4"))
    logins: Mapped[list[dict[str, Any]] | None] = mapped_column(Json, doc=_told("logins"))
    logins_left_out: Mapped[int] = mapped_column(Integer, server_default="0", doc=_told("logins_left_out"))
    command_lines: Mapped[list[str] | None] = mapped_column(Json, doc=_told("command_lines"))
    command_lines_left_out: Mapped[int] = mapped_column(
        Integer, server_default="0", doc=_told("command_lines_left_out")
    )
    files: Mapped[list[dict[str, Any]] | None] = mapped_column(Json, doc=_told("files"))
    files_left_out: Mapped[int] = mapped_column(Integer, server_default="0", doc=_told("files_left_out"))
    file_hashes: Mapped[list[str] | None] = mapped_column(Json, doc=_told("file_hashes"))
    urls: Mapped[list[str] | None] = mapped_column(Json, doc=_told("urls"))
    tunnels: Mapped[list[dict[str, Any]] | None] = mapped_column(Json, doc=_told("tunnels"))
    tunnels_left_out: Mapped[int] = mapped_column(Integer, server_default="0", doc=_told("tunnels_left_out"))
    source_scope: Mapped[str] = mapped_column(
        String(16), doc="`scope` in `session_ips`: only `global` addresses are asked about"
    )
    source_as_number: Mapped[int | None] = mapped_column(
        BigInteger,
        doc="Number of the source's autonomous system, of the service with the lowest rank that says it",
    )
    source_as_organization_name: Mapped[str | None] = mapped_column(
        Text, doc="Who runs that autonomous system, likewise"
    )
    source_geo_country_iso_code: Mapped[str | None] = mapped_column(
        String(2), doc="Country of the source (ISO 3166, two letters), likewise"
    )
    source_is_scanner: Mapped[bool | None] = mapped_column(
        doc="A benign mass scanner (true), certainly not one (false), not known (null)"
    )
    source_is_proxy: Mapped[bool | None] = mapped_column(
        doc="Whether the address is a proxy; null: not known"
    )
    source_is_vpn: Mapped[bool | None] = mapped_column(
        doc="Whether the address is a VPN's way out; null: not known"
    )
    source_is_tor: Mapped[bool | None] = mapped_column(
        doc="Whether the address is a Tor exit; null: not known"
    )
    source_abuse_score: Mapped[int | None] = mapped_column(
        Integer, doc="0 (nothing against it) to 100 (certainly abusive)"
    )
    source_classification: Mapped[str | None] = mapped_column(
        Text, doc="What it is called, in the service's own word"
    )
    source_reports: Mapped[int | None] = mapped_column(
        BigInteger, doc="How often the service's contributors reported it"
    )
    source_lists: Mapped[list[str] | None] = mapped_column(
        Json,
        doc="JSON list of the lists that held the source when the session ended, each `list:name`, or "
        "`list:name (late)` where the list was fetched for the first time after that; null: none",
    )
    file_malicious: Mapped[int | None] = mapped_column(
        Integer, doc="How many of the session's files a service calls malicious; null: not asked"
    )
    file_label: Mapped[str | None] = mapped_column(Text, doc="What they call one of them")
    passwords_breached: Mapped[int | None] = mapped_column(
        Integer, doc="How many of its passwords are in known breaches; null: not asked"
    )
    passwords_novel: Mapped[int | None] = mapped_column(
        Integer, doc="How many of its passwords are not in known breaches; null: not asked"
    )
    provenance: Mapped[dict[str, Any] | None] = mapped_column(
        Json, doc="JSON: column -> the service that it is from, `list` (the operator's own) or a `list:name`"
    )
    intel: Mapped[dict[str, Any]] = mapped_column(
        Json,
        doc="JSON: service -> `{status, fetched_at, stale, feed}`; without an answer only `status` (and "
        "`detail`). `fetched_at`: UTC, to the second, as in `2025-11-01T00:00:00Z`. `stale` is `true` where "
        "the answer has expired or been replaced; absent means false. `feed` only where a list told it. "
        "`files`: hash -> service -> the same. The answers stand in `answers`; the one meant has its "
        "`fetched_at` within that second. (Rows of before v17 that were not written anew have fractions of "
        'seconds, `+00:00` and `"stale": false`.)',
    )
    knowledge: Mapped[str] = mapped_column(
        String(32),
        doc="Whether the answer was known `before` or `during` the session or `N days after` it; "
        "`unknown`: there is none",
    )


class WrittenDay(Base):
    """A UTC day that is not over, whose rows in `enriched_sessions` say all that was known at a moment."""

    __tablename__ = "written_days"
    day: Mapped[date] = mapped_column(Date, primary_key=True, doc="A UTC day of `enriched_sessions`")
    known_until: Mapped[datetime] = mapped_column(
        UtcDateTime, doc="What was learned since may not be in its rows yet"
    )
    basis: Mapped[str] = mapped_column(
        Text,
        doc="A hash of the software, settings, services, lists and feeds that the rows rest on; empty: "
        "what is more has changed since `known_until`, all of them are to be written anew",
    )


class ChangedDay(Base):
    """A UTC day whose enriched rows were written, and when Dagster was last told that they were."""

    __tablename__ = "changed_days"
    day: Mapped[date] = mapped_column(
        Date, primary_key=True, doc="A UTC day whose enriched rows a drain wrote"
    )
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime, doc="When it last wrote them")
    said_at: Mapped[datetime | None] = mapped_column(
        UtcDateTime, doc="When Dagster was last told by a materialisation"
    )
