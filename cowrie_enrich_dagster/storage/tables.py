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

    sensor: Mapped[str] = mapped_column(Text, primary_key=True)
    session_id: Mapped[str] = mapped_column(Text, primary_key=True)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    day: Mapped[date] = mapped_column(Date, index=True)
    src_ip: Mapped[str | None] = mapped_column(Text)
    src_port: Mapped[int | None] = mapped_column(Integer)
    dst_port: Mapped[int | None] = mapped_column(Integer)
    protocol: Mapped[str | None] = mapped_column(Text)
    ended_at: Mapped[datetime] = mapped_column(UtcDateTime)
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    duration_ms: Mapped[int] = mapped_column(BigInteger)
    has_connect: Mapped[bool]
    has_closed: Mapped[bool]
    event_count: Mapped[int] = mapped_column(Integer)
    login_failures: Mapped[int] = mapped_column(Integer)
    login_successes: Mapped[int] = mapped_column(Integer)
    commands: Mapped[int] = mapped_column(Integer)
    commands_failed: Mapped[int] = mapped_column(Integer)
    downloads: Mapped[int] = mapped_column(Integer)
    uploads: Mapped[int] = mapped_column(Integer)
    tunnel_requests: Mapped[int] = mapped_column(Integer)
    tunnel_data: Mapped[int] = mapped_column(Integer)
    username: Mapped[str | None] = mapped_column(Text)
    password: Mapped[str | None] = mapped_column(Text)
    client_version: Mapped[str | None] = mapped_column(Text)
    hassh: Mapped[str | None] = mapped_column(Text)
    arch: Mapped[str | None] = mapped_column(Text)
    terminal_width: Mapped[int | None] = mapped_column(Integer)
    terminal_height: Mapped[int | None] = mapped_column(Integer)
    ja4h: Mapped[str | None] = mapped_column(Text)
    ja4: Mapped[str | None] = mapped_column(Text)
    logins: Mapped[list[dict[str, Any]] | None] = mapped_column(Json)
    logins_left_out: Mapped[int] = mapped_column(Integer, server_default="0")
    command_lines: Mapped[list[str] | None] = mapped_column(Json)
    command_lines_left_out: Mapped[int] = mapped_column(Integer, server_default="0")
    files: Mapped[list[dict[str, Any]] | None] = mapped_column(Json)
    files_left_out: Mapped[int] = mapped_column(Integer, server_default="0")
    tunnels: Mapped[list[dict[str, Any]] | None] = mapped_column(Json)
    tunnels_left_out: Mapped[int] = mapped_column(Integer, server_default="0")
    file_hashes: Mapped[list[str] | None] = mapped_column(Json)
    urls: Mapped[list[str] | None] = mapped_column(Json)
    passwords_sha1: Mapped[list[str] | None] = mapped_column(Json)


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
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    moved_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SessionIp(Base):
    """One source address on one day, whether it may be asked about (`scope`) and how much it is worth.

    A `known_scanner` is on the operator's list: it is never asked about, wherever it may be routed.
    """

    __tablename__ = "session_ips"
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    src_ip: Mapped[str] = mapped_column(Text, primary_key=True)
    sessions: Mapped[int] = mapped_column(Integer)
    sensors: Mapped[int] = mapped_column(Integer)
    first_seen: Mapped[datetime] = mapped_column(UtcDateTime)
    last_seen: Mapped[datetime] = mapped_column(UtcDateTime)
    login_failures: Mapped[int] = mapped_column(Integer)
    login_successes: Mapped[int] = mapped_column(Integer)
    commands: Mapped[int] = mapped_column(Integer)
    downloads: Mapped[int] = mapped_column(Integer)
    uploads: Mapped[int] = mapped_column(Integer)
    scope: Mapped[str] = mapped_column(String(16))
    priority: Mapped[int] = mapped_column(Integer)
    known_scanner: Mapped[bool] = mapped_column(server_default=false())

    __table_args__ = (Index("ix_session_ips_src_ip", "src_ip"),)


class EnrichmentCache(Base):
    """L2: the latest answer of one service about one key. Age counts from `fetched_at`, in every tier.

    Redis at `l1_place` was given it, to be kept until `l1_until`.
    """

    __tablename__ = "enrichment_cache"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    service: Mapped[str] = mapped_column(String(64))
    cache_key: Mapped[str] = mapped_column(Text)
    cache_value: Mapped[dict[str, Any] | None] = mapped_column(Json)
    status: Mapped[str] = mapped_column(String(32))
    fetched_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    accessed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    hit_count: Mapped[int] = mapped_column(BigInteger, default=0)
    l1_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    l1_place: Mapped[str | None] = mapped_column(Text)

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
    service: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    fetched_at: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    status: Mapped[str] = mapped_column(String(32))
    payload: Mapped[dict[str, Any] | None] = mapped_column(Json)
    feed: Mapped[str | None] = mapped_column(String(64))
    told_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    told_at: Mapped[list[str] | None] = mapped_column(Json)


class EnrichedSession(Base):
    """One row per session, enriched or not; ECS field names with underscores, its deeds as in `sessions`.

    `intel` maps each service asked about the source to `{status, fetched_at, stale}`, and `feed` where a list
    told it; its key `files` maps each file hash to the services asked about it. What they answered stands in
    `answers`, by service, key and `fetched_at`. An answer is the one that was known when the
    session ended, else the first that came later; `knowledge` says which: `before`, `during` or `N days
    after` the session, or `unknown`. `file_malicious` counts the session's files that a service calls
    malicious, `passwords_breached` and `_novel` its passwords that are in known breaches, or are not (None:
    not asked). `source_abuse_score` goes from 0 (nothing against it) to 100 (certainly abusive).

    `provenance` maps each of these columns that has a value to the service it is from. Where services
    disagree, the first in the order of `Service.rank` that says anything is believed; before all of them the
    operator's own list of scanners (`list`).
    """

    __tablename__ = "enriched_sessions"
    sensor: Mapped[str] = mapped_column(Text, primary_key=True)
    session_id: Mapped[str] = mapped_column(Text, primary_key=True)
    event_start: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    day: Mapped[date] = mapped_column(Date, index=True)
    event_end: Mapped[datetime] = mapped_column(UtcDateTime)
    event_duration_ms: Mapped[int] = mapped_column(BigInteger)
    network_protocol: Mapped[str | None] = mapped_column(Text)
    source_ip: Mapped[str | None] = mapped_column(Text, index=True)
    source_port: Mapped[int | None] = mapped_column(Integer)
    destination_port: Mapped[int | None] = mapped_column(Integer)
    user_name: Mapped[str | None] = mapped_column(Text)
    login_failures: Mapped[int] = mapped_column(Integer)
    login_successes: Mapped[int] = mapped_column(Integer)
    commands: Mapped[int] = mapped_column(Integer)
    downloads: Mapped[int] = mapped_column(Integer)
    uploads: Mapped[int] = mapped_column(Integer)
    password: Mapped[str | None] = mapped_column(Text)
    client_version: Mapped[str | None] = mapped_column(Text)
    hassh: Mapped[str | None] = mapped_column(Text)
    ja4h: Mapped[str | None] = mapped_column(Text)
    ja4: Mapped[str | None] = mapped_column(Text)
    logins: Mapped[list[dict[str, Any]] | None] = mapped_column(Json)
    logins_left_out: Mapped[int] = mapped_column(Integer, server_default="0")
    command_lines: Mapped[list[str] | None] = mapped_column(Json)
    command_lines_left_out: Mapped[int] = mapped_column(Integer, server_default="0")
    files: Mapped[list[dict[str, Any]] | None] = mapped_column(Json)
    files_left_out: Mapped[int] = mapped_column(Integer, server_default="0")
    file_hashes: Mapped[list[str] | None] = mapped_column(Json)
    urls: Mapped[list[str] | None] = mapped_column(Json)
    tunnels: Mapped[list[dict[str, Any]] | None] = mapped_column(Json)
    tunnels_left_out: Mapped[int] = mapped_column(Integer, server_default="0")
    source_scope: Mapped[str] = mapped_column(String(16))
    source_as_number: Mapped[int | None] = mapped_column(BigInteger)
    source_as_organization_name: Mapped[str | None] = mapped_column(Text)
    source_geo_country_iso_code: Mapped[str | None] = mapped_column(String(2))
    source_is_scanner: Mapped[bool | None]
    source_is_proxy: Mapped[bool | None]
    source_is_vpn: Mapped[bool | None]
    source_is_tor: Mapped[bool | None]
    source_abuse_score: Mapped[int | None] = mapped_column(Integer)
    source_classification: Mapped[str | None] = mapped_column(Text)
    source_reports: Mapped[int | None] = mapped_column(BigInteger)
    file_malicious: Mapped[int | None] = mapped_column(Integer)
    file_label: Mapped[str | None] = mapped_column(Text)
    passwords_breached: Mapped[int | None] = mapped_column(Integer)
    passwords_novel: Mapped[int | None] = mapped_column(Integer)
    provenance: Mapped[dict[str, Any] | None] = mapped_column(Json)
    intel: Mapped[dict[str, Any]] = mapped_column(Json)
    knowledge: Mapped[str] = mapped_column(String(32))


class Artefact(Base):
    """What a session can have in common with others: a file, a public key, a download host or a script.

    `artefact_id` is made of its kind and its value alone; `value` is cut to what one reads. `sessions` have
    it. What is `shared_by_all` joins nobody, and is in no campaign. See `campaigns.artefacts`.
    """

    __tablename__ = "artefacts"
    artefact_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    value: Mapped[str] = mapped_column(Text)
    sessions: Mapped[int] = mapped_column(Integer, server_default="0", index=True)
    shared_by_all: Mapped[bool] = mapped_column(server_default=false())
    campaign_id: Mapped[str | None] = mapped_column(String(16))

    __table_args__ = (Index("ix_artefacts_campaign", "campaign_id", "sessions"),)


class ArtefactSet(Base):
    """All artefacts that a session has, together; most sessions have theirs in common with many others.

    Its figures are of all its sessions. `first_forgotten` is when the earliest of those began whose day was
    forgotten: it still tells which artefact came first.
    """

    __tablename__ = "artefact_sets"
    set_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    campaign_id: Mapped[str | None] = mapped_column(String(16), index=True)
    sessions: Mapped[int] = mapped_column(Integer)
    first_seen: Mapped[datetime] = mapped_column(UtcDateTime)
    last_seen: Mapped[datetime] = mapped_column(UtcDateTime)
    first_forgotten: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ArtefactInSet(Base):
    """Which artefacts a set has."""

    __tablename__ = "artefacts_in_sets"
    set_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    artefact_id: Mapped[str] = mapped_column(String(16), primary_key=True, index=True)


class SessionArtefacts(Base):
    """A session that has artefacts, and which. The view `session_campaigns` tells its campaign."""

    __tablename__ = "session_artefacts"
    sensor: Mapped[str] = mapped_column(Text, primary_key=True)
    session_id: Mapped[str] = mapped_column(Text, primary_key=True)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    day: Mapped[date] = mapped_column(Date, index=True)
    src_ip: Mapped[str | None] = mapped_column(Text, index=True)
    set_id: Mapped[str] = mapped_column(String(16))

    __table_args__ = (Index("ix_session_artefacts_set", "set_id", "sensor", "src_ip"),)


class Campaign(Base):
    """Sessions that are joined by what they have in common: `session_campaigns` has a row for each of them.

    `artefacts` is a list of `{kind, value, sessions}`, those of most sessions first. `campaign_id` is the
    `artefact_id` of the artefact that was seen first. When two grow together the older id stays; the other's
    row keeps its last figures and says in `merged_into` where its sessions are now.
    """

    __tablename__ = "campaigns"
    campaign_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    first_seen: Mapped[datetime] = mapped_column(UtcDateTime)
    last_seen: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    sessions: Mapped[int] = mapped_column(Integer)
    sources: Mapped[int] = mapped_column(Integer)
    sensors: Mapped[int] = mapped_column(Integer)
    artefacts: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    label: Mapped[str] = mapped_column(Text)
    merged_into: Mapped[str | None] = mapped_column(String(16), index=True)


class DayWithoutCampaigns(Base):
    """A UTC day whose sessions changed since its campaigns were found."""

    __tablename__ = "days_without_campaigns"
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)


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
    service: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    priority: Mapped[int] = mapped_column(Integer, default=0)
    value_class: Mapped[int] = mapped_column(Integer, server_default="0")
    last_day: Mapped[date] = mapped_column(Date, server_default="1970-01-01")
    is_refresh: Mapped[bool] = mapped_column(server_default=false())
    ready: Mapped[bool] = mapped_column(server_default=false())
    status: Mapped[str] = mapped_column(String(32))
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_attempt_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    valid_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    claimed_by: Mapped[str | None] = mapped_column(Text)
    claim_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    opened_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    has_news: Mapped[bool] = mapped_column(server_default=false())

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
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    service: Mapped[str] = mapped_column(String(64))
    day: Mapped[date] = mapped_column(Date)
    opened: Mapped[int] = mapped_column(BigInteger)
    arrived: Mapped[int] = mapped_column(BigInteger)
    closed: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (Index("ix_lookup_counts_service_day", "service", "day"),)


class ChangedDay(Base):
    """A UTC day whose enriched rows were written, and when Dagster was last told that they were."""

    __tablename__ = "changed_days"
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    said_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ServiceLimit(Base):
    """What is known of one service's limit, shared by every worker: the one authority for pacing.

    Moments are seconds since the epoch on the database's clock. `tat` is GCRA's theoretical arrival time.
    `penalty_until`: refusals of requests sent before it belong to a failure that is counted already.
    `windows` maps minute/day/month to `{used, limit, resets_at, told}`; `recent` holds send times where a
    burst must fit a minute window; `learning` is the state of the rate search after a 429. `credential` is
    the fingerprint of the one refused until `credential_blocked_until`.
    """

    __tablename__ = "service_limits"
    service: Mapped[str] = mapped_column(String(64), primary_key=True)
    tat: Mapped[float] = mapped_column(Float(53), default=0.0)
    cooldown_until: Mapped[float] = mapped_column(Float(53), default=0.0)
    cooldown_reason: Mapped[str | None] = mapped_column(Text)
    penalty_until: Mapped[float] = mapped_column(Float(53), default=0.0)
    consecutive_failures: Mapped[int] = mapped_column(Integer, default=0)
    configured_rate: Mapped[float | None] = mapped_column(Float(53))
    configured_burst: Mapped[int | None] = mapped_column(Integer)
    learned_rate: Mapped[float | None] = mapped_column(Float(53))
    learning: Mapped[dict[str, Any] | None] = mapped_column(Json)
    windows: Mapped[dict[str, Any] | None] = mapped_column(Json)
    recent: Mapped[list[float] | None] = mapped_column(Json)
    credential: Mapped[str | None] = mapped_column(String(16))
    credential_blocked_until: Mapped[float] = mapped_column(Float(53), default=0.0)
    requests_total: Mapped[int] = mapped_column(BigInteger, default=0)
    limited_total: Mapped[int] = mapped_column(BigInteger, default=0)
    updated_at: Mapped[float] = mapped_column(Float(53), default=0.0)


class QuarantinedLine(Base):
    """A log line that could not be used, and why. `line` 0 stands for the file itself."""

    __tablename__ = "quarantined_lines"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    path: Mapped[str] = mapped_column(Text)
    line: Mapped[int] = mapped_column(BigInteger)
    byte_offset: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(Text)
    excerpt: Mapped[str] = mapped_column(Text)

    __table_args__ = (Index("ix_quarantined_lines_path_line", "path", "line"),)


class EnrichmentRun(Base):
    """One run of the pipeline or of a part of it, with its report."""

    __tablename__ = "enrichment_runs"
    run_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    first_day: Mapped[date | None] = mapped_column(Date)
    last_day: Mapped[date | None] = mapped_column(Date)
    status: Mapped[str] = mapped_column(String(16))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    report: Mapped[dict[str, Any] | None] = mapped_column(Json)


class LogFile(Base):
    """Where each day begins and ends in one log file, so that an unchanged file is scanned once."""

    __tablename__ = "log_files"
    path: Mapped[str] = mapped_column(Text, primary_key=True)
    file_index: Mapped[dict[str, Any]] = mapped_column(Json)
