"""Every table of the project, for PostgreSQL and SQLite alike.

Moments are aware UTC datetimes everywhere (`timestamptz`; text on SQLite) except in `service_limits`, where
they are seconds since the epoch: the limiter does arithmetic on them on the database's own clock.
"""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    Date,
    DateTime,
    Float,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import JSON, TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on every engine (SQLite itself keeps no zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a moment without a time zone cannot be stored: {value!r}")
        value = value.astimezone(timezone.utc)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)


Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
BigId = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER keys count up by themselves on SQLite


class Base(DeclarativeBase):
    """Declarative base; `Base.metadata` is what the migrations are compared with in the tests."""


def table_of(model: type[Base]) -> Table:
    """The table behind a model, for statements on sets of rows."""
    return cast(Table, model.__table__)


def _partial(name: str, where: str, *columns: Any) -> Index:
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


class _SessionColumns:
    """What a session and a piece of one have in common. Lists of deeds are null in rows of before v17."""

    sensor: Mapped[str] = mapped_column(
        Text, primary_key=True, doc="Name of the sensor, from its events, else from the folder of its logs"
    )
    session_id: Mapped[str] = mapped_column(
        Text, primary_key=True, doc="Cowrie's id of the session; an id that is used again is another row"
    )
    started_at: Mapped[datetime] = mapped_column(
        UtcDateTime, primary_key=True, doc="When its first event was logged"
    )
    day: Mapped[date] = mapped_column(Date, index=True, doc="UTC day of `started_at`")
    src_ip: Mapped[str | None] = mapped_column(
        Text,
        doc="Source address, IPv6 compressed, IPv4-mapped as IPv4; text that is no address as it was logged",
    )
    src_port: Mapped[int | None] = mapped_column(Integer, doc="Port of the source")
    dst_port: Mapped[int | None] = mapped_column(Integer, doc="Port of the honeypot")
    protocol: Mapped[str | None] = mapped_column(Text, doc="What it spoke: `ssh`, `telnet`, ...")
    ended_at: Mapped[datetime] = mapped_column(UtcDateTime, doc="When its last event was logged")
    closed_at: Mapped[datetime | None] = mapped_column(
        UtcDateTime, doc="When it was first closed; more may have been logged after that"
    )
    duration_ms: Mapped[int] = mapped_column(
        BigInteger, doc="Milliseconds, as Cowrie logged them at the close, else from first to last event"
    )
    has_connect: Mapped[bool] = mapped_column(doc="Whether its connect was seen")
    has_closed: Mapped[bool] = mapped_column(doc="Whether its close was seen")
    event_count: Mapped[int] = mapped_column(
        Integer, doc="Distinct events; a line that is there twice counts once"
    )
    login_failures: Mapped[int] = mapped_column(Integer, doc="Logins that were refused")
    login_successes: Mapped[int] = mapped_column(Integer, doc="Logins that succeeded")
    commands: Mapped[int] = mapped_column(Integer, doc="Commands that were entered")
    commands_failed: Mapped[int] = mapped_column(Integer, doc="Commands that Cowrie does not know")
    downloads: Mapped[int] = mapped_column(Integer, doc="Files that the honeypot was made to fetch or write")
    uploads: Mapped[int] = mapped_column(Integer, doc="Files that were sent to it")
    tunnel_requests: Mapped[int] = mapped_column(
        Integer, doc="Requests to be let through to another host (direct-tcpip)"
    )
    tunnel_data: Mapped[int] = mapped_column(
        Integer, doc="Pieces of data that were sent through such tunnels"
    )
    username: Mapped[str | None] = mapped_column(
        Text, doc="User name of the first login that succeeded, else of the first attempt"
    )
    password: Mapped[str | None] = mapped_column(Text, doc="Password of that login")
    client_version: Mapped[str | None] = mapped_column(
        Text, doc="What the client says it is, the first that was logged, in one spelling (`SSH-2.0-Go`)"
    )
    hassh: Mapped[str | None] = mapped_column(
        Text, doc="Fingerprint of the SSH client's algorithms, the first that was logged"
    )
    arch: Mapped[str | None] = mapped_column(Text, doc="Architecture that the session was shown")
    terminal_width: Mapped[int | None] = mapped_column(Integer, doc="Columns of its terminal")
    terminal_height: Mapped[int | None] = mapped_column(Integer, doc="Lines of its terminal")
    ja4h: Mapped[str | None] = mapped_column(
        Text, doc="JA4H fingerprint of an HTTP request sent through a tunnel, the first that was logged"
    )
    ja4: Mapped[str | None] = mapped_column(
        Text, doc="JA4 fingerprint of a TLS greeting sent through a tunnel, the first that was logged"
    )
    logins: Mapped[list[dict[str, Any]] | None] = mapped_column(
        Json, doc="Each credential that was tried, `{username, password, key, success, attempts}`"
    )
    logins_left_out: Mapped[int] = mapped_column(
        Integer, server_default="0", doc="Attempts that `logins` does not tell"
    )
    command_lines: Mapped[list[str] | None] = mapped_column(
        Json, doc="The lines as they were typed, in order"
    )
    command_lines_left_out: Mapped[int] = mapped_column(
        Integer, server_default="0", doc="Lines that `command_lines` does not tell"
    )
    files: Mapped[list[dict[str, Any]] | None] = mapped_column(
        Json, doc="Files it brought or tried to bring, `{sha256, url, name, how}`"
    )
    files_left_out: Mapped[int] = mapped_column(
        Integer, server_default="0", doc="Files that `files` does not tell"
    )
    tunnels: Mapped[list[dict[str, Any]] | None] = mapped_column(
        Json, doc="Hosts it wanted to be let through to, `{host, port, requests}`"
    )
    tunnels_left_out: Mapped[int] = mapped_column(
        Integer, server_default="0", doc="Requests that `tunnels` does not tell"
    )
    file_hashes: Mapped[list[str] | None] = mapped_column(Json, doc="The distinct SHA-256 in `files`, sorted")
    urls: Mapped[list[str] | None] = mapped_column(Json, doc="The distinct URLs in `files`, sorted")
    passwords_sha1: Mapped[list[str] | None] = mapped_column(
        Json, doc="JSON list of SHA-1, upper case, of the passwords tried; at most 1,000"
    )


class SessionRecord(_SessionColumns, Base):
    """One Cowrie session on one sensor; `day` is the UTC day it started."""

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_src_ip", "src_ip"),)


class SessionPiece(_SessionColumns, Base):
    """What one day holds of a session that other pieces belong to, too: its row in `sessions` joins them all.

    Either every piece of an id on a sensor stands here, or none does: then each of its sessions is one piece.
    """

    __tablename__ = "session_pieces"


class MovedDay(Base):
    """A UTC day of which another one's logs changed a session: what follows from `sessions` does not yet."""

    __tablename__ = "moved_days"
    day: Mapped[date] = mapped_column(
        Date, primary_key=True, doc="A UTC day of which another one's logs changed a session"
    )
    moved_at: Mapped[datetime] = mapped_column(
        UtcDateTime, doc="When; the row is gone once `session_ips` and `enriched_sessions` follow"
    )


class SessionIp(Base):
    """One source address on one day, whether it may be asked about (`scope`) and how much it is worth.

    A `known_scanner` is on the operator's list: it is never asked about, wherever it may be routed.
    """

    __tablename__ = "session_ips"
    day: Mapped[date] = mapped_column(Date, primary_key=True, doc="UTC day on which the sessions began")
    src_ip: Mapped[str] = mapped_column(Text, primary_key=True, doc="Source address, as in `sessions`")
    sessions: Mapped[int] = mapped_column(Integer, doc="Sessions of the address that began on the day")
    sensors: Mapped[int] = mapped_column(Integer, doc="Sensors that saw it on the day")
    first_seen: Mapped[datetime] = mapped_column(UtcDateTime, doc="Earliest start of these sessions")
    last_seen: Mapped[datetime] = mapped_column(UtcDateTime, doc="Latest end of these sessions")
    login_failures: Mapped[int] = mapped_column(Integer, doc="Logins that were refused, in all of them")
    login_successes: Mapped[int] = mapped_column(Integer, doc="Logins that succeeded, in all of them")
    commands: Mapped[int] = mapped_column(Integer, doc="Commands that were entered, in all of them")
    downloads: Mapped[int] = mapped_column(Integer, doc="Files that were fetched or written, in all of them")
    uploads: Mapped[int] = mapped_column(Integer, doc="Files that were sent, in all of them")
    scope: Mapped[str] = mapped_column(
        String(16),
        doc="`global`, or why nobody is asked about it: `private`, `loopback`, `reserved`, `own`, `invalid`",
    )
    priority: Mapped[int] = mapped_column(
        Integer,
        doc="What an answer is worth: 10,000 a login succeeded, 5,000 a file was left, 1 for each "
        "session times the sensors that saw it (at most 4,999)",
    )
    known_scanner: Mapped[bool] = mapped_column(
        server_default=false(), doc="On the operator's list of scanners: never asked about"
    )
    scanner_list: Mapped[str | None] = mapped_column(
        String(64),
        doc="The list of scanners (`list:name`) that holds it now: not asked about meanwhile; null: none",
    )

    __table_args__ = (Index("ix_session_ips_src_ip", "src_ip"),)


class EnrichmentCache(Base):
    """L2: the latest answer of one service about one key. Age counts from `fetched_at`, in every tier.

    Redis at `l1_place` was given it, to be kept until `l1_until`.
    """

    __tablename__ = "enrichment_cache"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True, doc="Number")
    service: Mapped[str] = mapped_column(
        String(64), doc="The service that answered, or the feed whose list it is"
    )
    cache_key: Mapped[str] = mapped_column(
        Text,
        doc="What it was asked about: an address, a SHA-256, 5 hexadecimal digits of a SHA-1, or a "
        "feed's day",
    )
    cache_value: Mapped[dict[str, Any] | None] = mapped_column(
        Json, doc="The service's own JSON; null for `not_found`"
    )
    status: Mapped[str] = mapped_column(String(32), doc="`found` or `not_found`")
    fetched_at: Mapped[datetime] = mapped_column(
        UtcDateTime, doc="When the service said it: age counts from here, in every tier"
    )
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, doc="When the row was first written")
    accessed_at: Mapped[datetime] = mapped_column(UtcDateTime, doc="When it last served")
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, doc="`fetched_at` and the service's TTL")
    hit_count: Mapped[int] = mapped_column(
        BigInteger, default=0, doc="How often it served, written at the end of runs"
    )
    l1_until: Mapped[datetime | None] = mapped_column(
        UtcDateTime, doc="Until when Redis was given it to keep; null: it was not"
    )
    l1_place: Mapped[str | None] = mapped_column(Text, doc="Which Redis that is: `host:port/db`")

    __table_args__ = (
        UniqueConstraint("service", "cache_key", name="uq_enrichment_cache_service_key"),
        Index("ix_enrichment_cache_expires_at", "expires_at"),
    )


class Observation(Base):
    """An answer that a newer one replaced, or that expired: what was known stays known.

    `told_at` are the moments after `fetched_at` at which the same was told again (as SQLite writes them, in
    UTC), `told_until` is the last of them.
    `feed` names the list it was read off, where it is no answer to a lookup; it was known from then on.
    """

    __tablename__ = "observations"
    service: Mapped[str] = mapped_column(String(64), primary_key=True, doc="The service whose answer it is")
    key: Mapped[str] = mapped_column(
        Text, primary_key=True, doc="What it is about, as `cache_key` in `enrichment_cache`"
    )
    fetched_at: Mapped[datetime] = mapped_column(
        UtcDateTime, primary_key=True, doc="When the service said it; of a list, its day"
    )
    status: Mapped[str] = mapped_column(String(32), doc="`found` or `not_found`")
    payload: Mapped[dict[str, Any] | None] = mapped_column(
        Json, doc="The service's own JSON; null for `not_found`"
    )
    feed: Mapped[str | None] = mapped_column(
        String(64), doc="The list it was read off, where it is no answer to a lookup"
    )
    told_until: Mapped[datetime | None] = mapped_column(
        UtcDateTime, doc="The last of the moments in `told_at`"
    )
    told_at: Mapped[list[str] | None] = mapped_column(
        Json, doc="JSON list of the later moments (UTC) at which the same was told again"
    )


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
        Json,
        doc="JSON: column -> the service that it is from, `list` (the operator's own) or a `list:name`",
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


class Artefact(Base):
    """What a session can have in common with others: a file, a public key, a download host or a script.

    `artefact_id` is made of its kind and its value alone; `value` is cut to what one reads. `sessions` have
    it. What is `shared_by_all` joins nobody, and is in no campaign. See `campaigns.artefacts`.
    """

    __tablename__ = "artefacts"
    artefact_id: Mapped[str] = mapped_column(
        String(16), primary_key=True, doc="16 digits of the SHA-256 of kind and whole value"
    )
    kind: Mapped[str] = mapped_column(
        String(16), doc="`key` (fingerprint), `file` (SHA-256), `host`, or `script`"
    )
    value: Mapped[str] = mapped_column(
        Text,
        doc="As one line, of a script the first 300 characters. Scripts are masked: `<url>`, "
        "`<ip>`, `<data>`, `<x>` stand for what changes from one victim to the "
        "next; lines that only look around are left out",
    )
    sessions: Mapped[int] = mapped_column(
        Integer, server_default="0", index=True, doc="How many sessions have it"
    )
    shared_by_all: Mapped[bool] = mapped_column(
        server_default=false(), doc="More than half of all sources have it: it joins nobody"
    )
    campaign_id: Mapped[str | None] = mapped_column(String(16), doc="The campaign it joins; null: none")

    __table_args__ = (Index("ix_artefacts_campaign", "campaign_id", "sessions"),)


class ArtefactSet(Base):
    """All artefacts that a session has, together; most sessions have theirs in common with many others.

    Its figures are of all its sessions. `first_forgotten` is when the earliest of those began whose day was
    forgotten: it still tells which artefact came first.
    """

    __tablename__ = "artefact_sets"
    set_id: Mapped[str] = mapped_column(
        String(16), primary_key=True, doc="16 digits of a SHA-256 of its `artefact_id`s"
    )
    campaign_id: Mapped[str | None] = mapped_column(
        String(16),
        index=True,
        doc="Its campaign; null: its only session shares nothing, or all it has is everybody's",
    )
    sessions: Mapped[int] = mapped_column(Integer, doc="How many sessions have exactly these artefacts")
    first_seen: Mapped[datetime] = mapped_column(UtcDateTime, doc="Start of the first of them")
    last_seen: Mapped[datetime] = mapped_column(UtcDateTime, doc="Start of the last of them")
    first_forgotten: Mapped[datetime | None] = mapped_column(
        UtcDateTime, doc="Start of the first of them whose day was forgotten"
    )


class ArtefactInSet(Base):
    """Which artefacts a set has."""

    __tablename__ = "artefacts_in_sets"
    set_id: Mapped[str] = mapped_column(String(16), primary_key=True, doc="A set")
    artefact_id: Mapped[str] = mapped_column(
        String(16), primary_key=True, index=True, doc="An artefact that it has"
    )


class SessionArtefacts(Base):
    """A session that has artefacts, and which. The view `session_campaigns` tells its campaign."""

    __tablename__ = "session_artefacts"
    sensor: Mapped[str] = mapped_column(Text, primary_key=True, doc="Of the session, as in `sessions`")
    session_id: Mapped[str] = mapped_column(Text, primary_key=True, doc="Of the session, as in `sessions`")
    started_at: Mapped[datetime] = mapped_column(
        UtcDateTime, primary_key=True, doc="Of the session, as in `sessions`"
    )
    day: Mapped[date] = mapped_column(Date, index=True, doc="Of the session, as in `sessions`")
    src_ip: Mapped[str | None] = mapped_column(Text, index=True, doc="Of the session, as in `sessions`")
    set_id: Mapped[str] = mapped_column(String(16), doc="The set of its artefacts")

    __table_args__ = (Index("ix_session_artefacts_set", "set_id", "sensor", "src_ip"),)


class Campaign(Base):
    """Sessions that are joined by what they have in common: `session_campaigns` has a row for each of them.

    `artefacts` is a list of `{kind, value, sessions}`, those of most sessions first. `campaign_id` is the
    `artefact_id` of the artefact that was seen first. When two grow together the older id stays; the other's
    row keeps its last figures and says in `merged_into` where its sessions are now.
    """

    __tablename__ = "campaigns"
    campaign_id: Mapped[str] = mapped_column(
        String(16),
        primary_key=True,
        doc="The `artefact_id` of its artefact that was seen first. The same sessions give the "
        "same id, in whatever order their days are read; what comes later never changes it. "
        "Where two grow together the older id stays",
    )
    first_seen: Mapped[datetime] = mapped_column(
        UtcDateTime, doc="Start of its first session, forgotten ones included"
    )
    last_seen: Mapped[datetime] = mapped_column(UtcDateTime, index=True, doc="Start of its last session")
    sessions: Mapped[int] = mapped_column(Integer, doc="How many sessions are in it")
    sources: Mapped[int] = mapped_column(Integer, doc="How many addresses they came from")
    sensors: Mapped[int] = mapped_column(Integer, doc="How many sensors saw them")
    artefacts: Mapped[list[dict[str, Any]]] = mapped_column(
        Json,
        doc="JSON: what joins it, `{kind, value, sessions}`, at most 20, those of most sessions "
        "first; hostile text",
    )
    label: Mapped[str] = mapped_column(
        Text, doc="A short name made of them; hostile text, on one line and without control characters"
    )
    merged_into: Mapped[str | None] = mapped_column(
        String(16),
        index=True,
        doc="Null; else this id was given out once, its sessions are in that campaign now, and "
        "the figures are the last it had. Only ids that this database gave out are remembered",
    )


class DayWithoutCampaigns(Base):
    """A UTC day whose sessions changed since its campaigns were found."""

    __tablename__ = "days_without_campaigns"
    day: Mapped[date] = mapped_column(Date, primary_key=True, doc="A UTC day whose sessions were written")
    changed_at: Mapped[datetime] = mapped_column(
        UtcDateTime,
        doc="When they were; the row goes once `campaigns` follow (the next `run`, `drain` or asset)",
    )


class Lookup(Base):
    """The lookup queue and its single-flight: one row per (service, key), ever.

    A row is open while `next_attempt_at` is set, and then in one of three states: `ready` to be claimed;
    claimed (`claimed_by`, until `claim_expires_at`); or asleep until `next_attempt_at`, when what failed is
    tried again. That a service is held stands in `service_limits` alone.

    `priority` is what the key is worth, `value_class` the coarse part of it, `last_day` the newest UTC day on
    which it was seen; `is_refresh`: it was answered before. `opened_at` is when it was last opened.
    `has_news`: how it ended is not yet in the rows of its sessions. An answered row keeps `valid_until`, so
    that a second planner cannot reopen what was just answered.
    """

    __tablename__ = "lookups"
    service: Mapped[str] = mapped_column(
        String(64), primary_key=True, doc="The service, or the feed, that is asked"
    )
    key: Mapped[str] = mapped_column(
        Text, primary_key=True, doc="What it is asked about, as `cache_key` in `enrichment_cache`"
    )
    priority: Mapped[int] = mapped_column(
        Integer, default=0, doc="What an answer is worth: 5,000 x `value_class` + sessions"
    )
    value_class: Mapped[int] = mapped_column(
        Integer, server_default="0", doc="3 got in and left files, 2 got in, 1 left files, 0 neither"
    )
    last_day: Mapped[date] = mapped_column(
        Date, server_default="1970-01-01", doc="The newest UTC day on which the key was seen"
    )
    is_refresh: Mapped[bool] = mapped_column(
        server_default=false(), doc="It was answered before: asked after all first answers of its class"
    )
    ready: Mapped[bool] = mapped_column(
        server_default=false(),
        doc="Open, awake and unclaimed: what a claim takes, by class, first answers, `last_day`, "
        "`priority`, key",
    )
    status: Mapped[str] = mapped_column(String(32), doc="How the latest attempt ended")
    attempts: Mapped[int] = mapped_column(
        Integer, default=0, doc="Failed ones since it was opened, and the one that answered"
    )
    next_attempt_at: Mapped[datetime | None] = mapped_column(
        UtcDateTime,
        doc="Set while it is open; for what failed, when it is tried again. That a service is held "
        "stands in `service_limits` alone",
    )
    valid_until: Mapped[datetime | None] = mapped_column(UtcDateTime, doc="Until when its answer holds")
    asked_for: Mapped[str | None] = mapped_column(
        Text, doc="The wanted columns that it was opened for (ENRICH_WANT); null: all"
    )
    claimed_by: Mapped[str | None] = mapped_column(Text, doc="The worker that is asking")
    claim_expires_at: Mapped[datetime | None] = mapped_column(
        UtcDateTime, doc="When its claim ends: 20 s after its last sign of life"
    )
    last_error: Mapped[str | None] = mapped_column(
        Text, doc="In our words; no URL, no key; also why a lookup left the queue unasked"
    )
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, doc="When it was first opened")
    opened_at: Mapped[datetime | None] = mapped_column(UtcDateTime, doc="When it was last opened")
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, doc="When it was last changed")
    has_news: Mapped[bool] = mapped_column(
        server_default=false(),
        doc="How it ended is not in the rows of its sessions yet: the next drain or run writes it",
    )

    __table_args__ = (
        _partial(  # in the order of `lookups.order`
            "ix_lookups_ready",
            "ready",
            service,
            value_class.desc(),
            is_refresh,
            last_day.desc(),
            priority.desc(),
            key,
        ),
        _partial(
            "ix_lookups_asleep",
            "next_attempt_at IS NOT NULL AND NOT ready AND claimed_by IS NULL",
            "service",
            "next_attempt_at",
        ),
        _partial("ix_lookups_claimed", "claimed_by IS NOT NULL", "service", "claim_expires_at"),
        _partial("ix_lookups_claimed_by", "claimed_by IS NOT NULL", "claimed_by"),
        _partial("ix_lookups_news", "has_news", "service", "key"),
    )


class LookupCount(Base):
    """How many lookups of a service were opened and closed on a UTC day; triggers on `lookups` keep it.

    `arrived`: opened for a key that was seen on that day or the day before, for the first time. Several rows
    may speak of one day: they add up.
    """

    __tablename__ = "lookup_counts"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True, doc="Number")
    service: Mapped[str] = mapped_column(String(64), doc="The service whose lookups are counted")
    day: Mapped[date] = mapped_column(Date, doc="UTC day on which they were opened or closed")
    opened: Mapped[int] = mapped_column(
        BigInteger, doc="Lookups that were opened; open now are all opened less all closed"
    )
    arrived: Mapped[int] = mapped_column(
        BigInteger,
        doc="Of those, how many are about keys seen on that day or the day before, never answered before",
    )
    closed: Mapped[int] = mapped_column(BigInteger, doc="Lookups that were closed")

    __table_args__ = (Index("ix_lookup_counts_service_day", "service", "day"),)


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


class ServiceLimit(Base):
    """What is known of one service's limit, shared by every worker: the one authority for pacing.

    Moments are seconds since the epoch on the database's clock. `tat` is GCRA's theoretical arrival time.
    `penalty_until`: refusals of requests sent before it belong to a failure that is counted already.
    `windows` maps minute/day/month to `{used, limit, resets_at, told}`; `recent` holds send times where a
    burst must fit a minute window; `unsent` the slots whose requests are not known to have left; `learning`
    is the state of the rate search after a 429. `credential` is the fingerprint of the one refused until
    `credential_blocked_until`.
    """

    __tablename__ = "service_limits"
    service: Mapped[str] = mapped_column(
        String(64), primary_key=True, doc="The service, or the feed with a limit of its own"
    )
    tat: Mapped[float] = mapped_column(Float(53), default=0.0, doc="GCRA's theoretical arrival time")
    cooldown_until: Mapped[float] = mapped_column(Float(53), default=0.0, doc="Nobody asks before")
    cooldown_reason: Mapped[str | None] = mapped_column(Text, doc="Why nobody asks")
    penalty_until: Mapped[float] = mapped_column(
        Float(53), default=0.0, doc="Refusals of requests sent before it are counted already"
    )
    consecutive_failures: Mapped[int] = mapped_column(Integer, default=0, doc="The step of the ladder")
    configured_rate: Mapped[float | None] = mapped_column(
        Float(53), doc="Requests a second that were configured at the last request"
    )
    configured_burst: Mapped[int | None] = mapped_column(
        Integer, doc="Burst that was configured at the last request"
    )
    learned_rate: Mapped[float | None] = mapped_column(Float(53), doc="The rate found after refusals")
    learning: Mapped[dict[str, Any] | None] = mapped_column(
        Json, doc="State of the search for that rate (JSON)"
    )
    windows: Mapped[dict[str, Any] | None] = mapped_column(
        Json,
        doc="JSON: `minute`, `day`, `month` -> `{used, limit, resets_at, told}`; `told`: a response "
        "has said so",
    )
    recent: Mapped[list[float] | None] = mapped_column(
        Json, doc="JSON list of send times, where a burst must fit into a minute"
    )
    unsent: Mapped[list[Any] | None] = mapped_column(
        Json,
        doc="JSON list of `[number, at, tat before]`: slots whose requests are not known to have left; the "
        "next waits for them",
    )
    credential: Mapped[str | None] = mapped_column(
        String(16), doc="Fingerprint (16 digits of a SHA-256) of the key that is refused"
    )
    credential_blocked_until: Mapped[float] = mapped_column(
        Float(53), default=0.0, doc="Until when that key is not shown again"
    )
    requests_total: Mapped[int] = mapped_column(BigInteger, default=0, doc="Slots taken, lost ones included")
    limited_total: Mapped[int] = mapped_column(BigInteger, default=0, doc="Answers that were limits")
    updated_at: Mapped[float] = mapped_column(Float(53), default=0.0, doc="When the row was last written")


class QuarantinedLine(Base):
    """A log line that could not be used, and why. `line` 0 stands for the file itself."""

    __tablename__ = "quarantined_lines"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True, doc="Number")
    path: Mapped[str] = mapped_column(Text, doc="The file, relative to the log root")
    line: Mapped[int] = mapped_column(BigInteger, doc="Number of the line; 0 is the file itself")
    byte_offset: Mapped[int] = mapped_column(BigInteger, doc="Where the line begins, in decompressed bytes")
    reason: Mapped[str] = mapped_column(Text, doc="Why it could not be used")
    excerpt: Mapped[str] = mapped_column(Text, doc="At most 200 printable characters of it")

    __table_args__ = (Index("ix_quarantined_lines_path_line", "path", "line"),)


class EnrichmentRun(Base):
    """One run of the pipeline or of a part of it, with its report."""

    __tablename__ = "enrichment_runs"
    run_id: Mapped[str] = mapped_column(String(64), primary_key=True, doc="Key")
    kind: Mapped[str] = mapped_column(
        String(32),
        doc="`run` (command line), `enrichment_cache` (Dagster's asset), `drain` (either; `refresh` too)",
    )
    first_day: Mapped[date | None] = mapped_column(Date, doc="First of its days")
    last_day: Mapped[date | None] = mapped_column(Date, doc="Last of its days")
    status: Mapped[str] = mapped_column(
        String(16), doc="`running`, `complete`, `partial`, `no_logs`; `running` for ever: it was killed"
    )
    started_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True, doc="When it began")
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime, doc="When it ended")
    report: Mapped[dict[str, Any] | None] = mapped_column(Json, doc="JSON, see The report of a run")


class Notice(Base):
    """What an operator is told by webhook, once: it is written here before it is sent.

    What no longer holds is deleted, so that it is told again when it comes again.
    """

    __tablename__ = "notices"
    kind: Mapped[str] = mapped_column(
        String(16), primary_key=True, doc="`banned`, `key_refused`, `silence`, `check_failed`, `report`"
    )
    subject: Mapped[str] = mapped_column(
        Text, primary_key=True, doc="Of what: a service (with the key's fingerprint), a check and days, a day"
    )
    text: Mapped[str] = mapped_column(Text, doc="What is said")
    noticed_at: Mapped[datetime] = mapped_column(UtcDateTime, doc="When it was first noticed")
    claimed_until: Mapped[datetime | None] = mapped_column(
        UtcDateTime, doc="Until when a process is sending it; nobody else tries before"
    )
    sent_at: Mapped[datetime | None] = mapped_column(
        UtcDateTime, doc="When the webhook took it; none: it is tried again for a day"
    )


class LogFile(Base):
    """Where each day begins and ends in one log file, so that an unchanged file is scanned once."""

    __tablename__ = "log_files"
    path: Mapped[str] = mapped_column(Text, primary_key=True, doc="The file, relative to the log root")
    file_index: Mapped[dict[str, Any]] = mapped_column(
        Json,
        doc="JSON: in which form it holds events, and where each day begins and ends in it, so that "
        "an unchanged file is scanned once; of a file that is no log the reason, and nothing of "
        "its content",
    )


# At the end: they are made of what stands above.
from cowrie_enrich_dagster.storage import list_tables as _list_tables  # noqa: E402, F401
