"""What services answered: the database tier of the cache, and what newer answers replaced."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from cowrie_enrich_dagster.storage.tables.base import Base, BigId, Json, UtcDateTime


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
    created_at: Mapped[datetime] = mapped_column(
        UtcDateTime, doc="When the answer came to be here, which may be long after `fetched_at`"
    )
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
