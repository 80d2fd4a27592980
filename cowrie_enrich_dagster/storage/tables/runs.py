"""What was run, and what its operator is told."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import Date, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from cowrie_enrich_dagster.storage.tables.base import Base, Json, UtcDateTime


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
