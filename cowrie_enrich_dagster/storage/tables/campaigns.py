"""What sessions have in common, and the campaigns that it makes of them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import Date, Index, Integer, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from cowrie_enrich_dagster.storage.tables.base import Base, Json, UtcDateTime


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
