"""The exported fields, by their names in the Elastic Common Schema (ECS 8); ours are under `cowrie.`.

ECS: https://www.elastic.co/guide/en/ecs/8.11/ecs-field-reference.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Text, case, cast, select

from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import EnrichedSession, table_of
from cowrie_enrich_dagster.vocabulary import Days, Scope

BATCH_ROWS = 5_000
_TABLE = table_of(EnrichedSession)
_C = _TABLE.c
_NANOSECONDS_PER_MS = 1_000_000


class Field(NamedTuple):
    """One field: its ECS name, and the column or expression it is read from; JSON comes as text."""

    name: str
    source: ColumnElement[Any]
    is_json: bool = False


FIELDS: tuple[Field, ...] = (
    Field("observer.name", _C.sensor),
    Field("cowrie.session_id", _C.session_id),
    Field("cowrie.day", _C.day),
    Field("event.start", _C.event_start),
    Field("event.end", _C.event_end),
    Field("event.duration", _C.event_duration_ms * _NANOSECONDS_PER_MS),
    Field("network.protocol", _C.network_protocol),
    Field("source.address", _C.source_ip),  # as logged; `source.ip` must be an address for indexes to take it
    Field("source.ip", case((_C.source_scope != Scope.INVALID.value, _C.source_ip))),
    Field("source.port", _C.source_port),
    Field("source.as.number", _C.source_as_number),
    Field("source.as.organization.name", _C.source_as_organization_name),
    Field("source.geo.country_iso_code", _C.source_geo_country_iso_code),
    Field("destination.port", _C.destination_port),
    Field("user.name", _C.user_name),
    Field("cowrie.login.failures", _C.login_failures),
    Field("cowrie.login.successes", _C.login_successes),
    Field("cowrie.commands", _C.commands),
    Field("cowrie.downloads", _C.downloads),
    Field("cowrie.uploads", _C.uploads),
    Field("cowrie.source.scope", _C.source_scope),
    Field("cowrie.source.is_scanner", _C.source_is_scanner),
    Field("cowrie.source.is_proxy", _C.source_is_proxy),
    Field("cowrie.source.is_vpn", _C.source_is_vpn),
    Field("cowrie.source.is_tor", _C.source_is_tor),
    Field("cowrie.source.abuse_score", _C.source_abuse_score),
    Field("cowrie.source.classification", _C.source_classification),
    Field("cowrie.source.reports", _C.source_reports),
    Field("cowrie.file.malicious", _C.file_malicious),
    Field("cowrie.file.label", _C.file_label),
    Field("cowrie.passwords.breached", _C.passwords_breached),
    Field("cowrie.passwords.novel", _C.passwords_novel),
    Field("cowrie.knowledge", _C.knowledge),
    # JSON as it is stored: nobody here needs it taken apart.
    Field("cowrie.provenance", cast(_C.provenance, Text), is_json=True),
    Field("cowrie.intel", cast(_C.intel, Text), is_json=True),
)


@contextmanager
def batches(
    database: Database, days: Days, sources: Sequence[ColumnElement[Any]]
) -> Iterator[Iterator[Sequence[Any]]]:
    """Rows of `enriched_sessions` in batches of `BATCH_ROWS`, from one statement and so of one moment.

    Read through a server-side cursor, without an order: a sort would hold them all.
    """
    query = select(*sources).where(_C.day.between(days.first, days.last))
    with database.read() as connection:
        yield connection.execute(query.execution_options(yield_per=BATCH_ROWS)).partitions()
