"""Every table of the project, for PostgreSQL and SQLite alike; a file for each room that fills them."""

from __future__ import annotations

from cowrie_enrich_dagster.storage.tables.answers import EnrichmentCache, Observation
from cowrie_enrich_dagster.storage.tables.base import Base, BigId, Json, UtcDateTime, moment_of, table_of
from cowrie_enrich_dagster.storage.tables.campaigns import (
    Artefact,
    ArtefactInSet,
    ArtefactSet,
    Campaign,
    DayWithoutCampaigns,
    SessionArtefacts,
)
from cowrie_enrich_dagster.storage.tables.enriched import ChangedDay, EnrichedSession, WrittenDay
from cowrie_enrich_dagster.storage.tables.lists import AddressList, ListEntry
from cowrie_enrich_dagster.storage.tables.lookups import Lookup, LookupCount, ServiceLimit
from cowrie_enrich_dagster.storage.tables.runs import EnrichmentRun, Notice
from cowrie_enrich_dagster.storage.tables.sessions import (
    ChangedSession,
    DayReading,
    LogFile,
    MovedDay,
    QuarantinedLine,
    SessionIp,
    SessionPiece,
    SessionRecord,
)

__all__ = [
    "AddressList",
    "Artefact",
    "ArtefactInSet",
    "ArtefactSet",
    "Base",
    "BigId",
    "Campaign",
    "ChangedDay",
    "ChangedSession",
    "DayReading",
    "DayWithoutCampaigns",
    "EnrichedSession",
    "EnrichmentCache",
    "EnrichmentRun",
    "Json",
    "ListEntry",
    "LogFile",
    "Lookup",
    "LookupCount",
    "MovedDay",
    "Notice",
    "Observation",
    "QuarantinedLine",
    "ServiceLimit",
    "SessionArtefacts",
    "SessionIp",
    "SessionPiece",
    "SessionRecord",
    "UtcDateTime",
    "WrittenDay",
    "moment_of",
    "table_of",
]
