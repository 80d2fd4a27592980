"""Asking: the queue of lookups, how many came and went, and what is known of each limit."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, Date, Float, Index, Integer, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from cowrie_enrich_dagster.storage.tables.base import Base, BigId, Json, UtcDateTime, partial_index


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
        partial_index(  # in the order of `lookups.order`
            "ix_lookups_ready",
            "ready",
            service,
            value_class.desc(),
            is_refresh,
            last_day.desc(),
            priority.desc(),
            key,
        ),
        partial_index(
            "ix_lookups_asleep",
            "next_attempt_at IS NOT NULL AND NOT ready AND claimed_by IS NULL",
            "service",
            "next_attempt_at",
        ),
        partial_index("ix_lookups_claimed", "claimed_by IS NOT NULL", "service", "claim_expires_at"),
        partial_index("ix_lookups_claimed_by", "claimed_by IS NOT NULL", "claimed_by"),
        partial_index("ix_lookups_news", "has_news", "service", "key"),
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
