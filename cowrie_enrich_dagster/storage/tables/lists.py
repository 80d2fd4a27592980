"""The tables of public lists: what each said when, and what came of fetching it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from cowrie_enrich_dagster.storage.tables.base import Base, UtcDateTime


class AddressList(Base):
    """One look at a list: `taken`, `unchanged`, `refused` (it is no such list) or `failed` (out of reach).

    After the latter two the last good one goes on holding.
    """

    __tablename__ = "address_lists"
    list: Mapped[str] = mapped_column(String(40), primary_key=True, doc="Name of the list")
    fetched_at: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True, doc="When it was looked at")
    says: Mapped[str] = mapped_column(
        String(16), doc="What its entries are: `tor`, `scanner`, `malicious`, `spam` or `own`"
    )
    status: Mapped[str] = mapped_column(
        String(16),
        doc="`taken`, `unchanged` (the version of the last time), `refused` (it is no such list) or `failed`",
    )
    reason: Mapped[str | None] = mapped_column(Text, doc="Why it was refused or could not be had")
    entries: Mapped[int | None] = mapped_column(Integer, doc="Its distinct networks; null: not read")
    came: Mapped[int] = mapped_column(Integer, server_default="0", doc="Entries that were not on it before")
    went: Mapped[int] = mapped_column(Integer, server_default="0", doc="Entries that are on it no more")
    bad_lines: Mapped[int] = mapped_column(
        Integer, server_default="0", doc="Lines that are neither an entry nor a comment"
    )
    unroutable: Mapped[int] = mapped_column(
        Integer, server_default="0", doc="Entries left out, for nobody routes them on the internet"
    )
    size: Mapped[int | None] = mapped_column(BigInteger, doc="Bytes of its text; null: not sent")
    etag: Mapped[str | None] = mapped_column(Text, doc="What the publisher calls this version (ETag)")
    last_modified: Mapped[str | None] = mapped_column(Text, doc="Since when, as the publisher says it")
    read_as: Mapped[str | None] = mapped_column(
        Text, doc="The settings that it was looked at with; null: it was not, or before v23"
    )


class ListEntry(Base):
    """A network on a list, from when it was first seen there until a look that did not find it."""

    __tablename__ = "list_entries"
    list: Mapped[str] = mapped_column(String(40), primary_key=True, doc="Name of the list")
    network: Mapped[str] = mapped_column(
        Text, primary_key=True, doc="In CIDR notation, single addresses too (`192.0.2.1/32`)"
    )
    seen_from: Mapped[datetime] = mapped_column(
        UtcDateTime, primary_key=True, doc="The look that found it for the first time"
    )
    seen_until: Mapped[datetime | None] = mapped_column(
        UtcDateTime, doc="The look that found it no more; null: it is on the list"
    )

    __table_args__ = (
        Index(
            "ix_list_entries_open",
            "list",
            "network",
            unique=True,
            sqlite_where=text("seen_until IS NULL"),
            postgresql_where=text("seen_until IS NULL"),
        ),
    )
