"""The exported fields, by their names in the Elastic Common Schema (ECS 8); ours are under `cowrie.`.

ECS: https://www.elastic.co/guide/en/ecs/8.11/ecs-field-reference.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, FromClause, Text, and_, case, cast, select, text

from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import from_json, to_json
from cowrie_enrich_dagster.storage.tables import (
    ArtefactSet,
    Campaign,
    EnrichedSession,
    Json,
    SessionArtefacts,
    UtcDateTime,
    table_of,
)
from cowrie_enrich_dagster.vocabulary import Days, Scope

BATCH_ROWS = 5_000
_TABLE = table_of(EnrichedSession)
_C = _TABLE.c
_ARTEFACTS, _SETS, _CAMPAIGNS = table_of(SessionArtefacts), table_of(ArtefactSet), table_of(Campaign)
WITH_CAMPAIGNS = (
    _TABLE.outerjoin(
        _ARTEFACTS,
        and_(
            _ARTEFACTS.c.sensor == _C.sensor,
            _ARTEFACTS.c.session_id == _C.session_id,
            _ARTEFACTS.c.started_at == _C.event_start,
        ),
    )
    .outerjoin(_SETS, _SETS.c.set_id == _ARTEFACTS.c.set_id)
    .outerjoin(_CAMPAIGNS, _CAMPAIGNS.c.campaign_id == _SETS.c.campaign_id)
)
"""Every session, with its campaign if it is in one: `session_campaigns`, as joins any planner follows."""
_NANOSECONDS_PER_MS = 1_000_000


@dataclass(frozen=True)
class Wanted:
    """What is exported only where it was asked for: passwords as typed, and the services' whole answers."""

    passwords: bool = False
    answers: bool = False


class Field(NamedTuple):
    """One field: its ECS name, and the column or expression it is read from.

    JSON comes as text; `items` are the members of a list's objects, `("",)` where its items are texts.
    """

    name: str
    source: ColumnElement[Any]
    is_json: bool = False
    items: tuple[str, ...] = ()


_TEXTS = ("",)
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
    Field("cowrie.source.lists", _C.source_lists, items=_TEXTS),
    Field("cowrie.file.malicious", _C.file_malicious),
    Field("cowrie.file.label", _C.file_label),
    Field("cowrie.passwords.breached", _C.passwords_breached),
    Field("cowrie.passwords.novel", _C.passwords_novel),
    Field("cowrie.knowledge", _C.knowledge),
    # JSON as it is stored: nobody here needs it taken apart.
    Field("cowrie.provenance", cast(_C.provenance, Text), is_json=True),
    Field("cowrie.intel", cast(_C.intel, Text), is_json=True),
    Field("process.command_line", _C.command_lines, items=_TEXTS),
    Field("file.hash.sha256", _C.file_hashes, items=_TEXTS),
    Field("url.full", _C.urls, items=_TEXTS),
    Field("cowrie.logins", _C.logins, items=("username", "key", "success", "attempts")),
    Field("cowrie.files", _C.files, items=("sha256", "url", "name", "how")),
    Field("cowrie.tunnels", _C.tunnels, items=("host", "port", "requests")),
    Field("cowrie.command_lines_left_out", _C.command_lines_left_out),
    Field("cowrie.logins_left_out", _C.logins_left_out),
    Field("cowrie.files_left_out", _C.files_left_out),
    Field("cowrie.tunnels_left_out", _C.tunnels_left_out),
    Field("cowrie.client.version", _C.client_version),
    Field("cowrie.client.hassh", _C.hassh),
    Field("cowrie.client.ja4h", _C.ja4h),
    Field("cowrie.client.ja4", _C.ja4),
    # Not `threat.group`: that is for groups which the community has a name for.
    Field("cowrie.campaign.id", _CAMPAIGNS.c.campaign_id),
    Field("cowrie.campaign.label", _CAMPAIGNS.c.label),
)
_PASSWORD = Field("cowrie.password", _C.password)
_ANSWERS = Field("cowrie.answers", cast(_C.intel, Text), is_json=True)


def fields_for(wanted: Wanted) -> tuple[Field, ...]:
    """The fields of an export, in order."""
    fields = list(FIELDS)
    if wanted.passwords:
        place = next(n for n, field in enumerate(fields) if field.name == "cowrie.logins")
        fields[place] = fields[place]._replace(items=("username", "password", "key", "success", "attempts"))
        fields.append(_PASSWORD)
    return (*fields, _ANSWERS) if wanted.answers else tuple(fields)


@contextmanager
def rows_of(database: Database, days: Days, fields: Sequence[Field]) -> Iterator[Iterator[list[list[Any]]]]:
    """The values of these fields, session by session, in batches; see `batches`."""
    lists = [(place, field.items) for place, field in enumerate(fields) if field.items not in ((), _TEXTS)]
    answers = _ANSWERS in fields

    def told(batch: Sequence[Any]) -> list[list[Any]]:
        rows = [list(row[1:]) for row in batch]
        for row in rows:
            for place, names in lists:
                if row[place]:
                    row[place] = [{name: item[name] for name in names} for item in row[place]]
        if answers:
            for row, text in zip(rows, _answers(database, batch), strict=True):
                row[-1] = text
        return rows

    with batches(
        database, days, [_C.source_ip, *(field.source for field in fields)], WITH_CAMPAIGNS
    ) as found:
        yield map(told, found)


def _answers(database: Database, batch: Sequence[Any]) -> Iterator[str]:
    """For each row, whose first value is its source and whose last is its `intel`: what the services told."""
    query = text(
        f"SELECT service, key, fetched_at, payload FROM answers WHERE {database.among('key')}"
    ).columns(fetched_at=UtcDateTime, payload=Json)
    with database.read() as connection:
        keys = to_json(sorted({row[0] for row in batch if row[0]}))
        told = {
            (row.service, row.key, f"{row.fetched_at:%Y-%m-%dT%H:%M:%S}"): row.payload
            for row in connection.execute(query, {"keys": keys})
        }
    for ip, *_, intel in batch:
        # Rows of before v17 have fractions, and UTC in another spelling: up to the second all are alike.
        services = {
            name: told.get((name, ip, of.get("fetched_at", "")[:19])) for name, of in from_json(intel).items()
        }
        yield to_json({name: payload for name, payload in services.items() if payload is not None})


@contextmanager
def batches(
    database: Database, days: Days, sources: Sequence[ColumnElement[Any]], table: FromClause = _TABLE
) -> Iterator[Iterator[Sequence[Any]]]:
    """Rows of `enriched_sessions`, or of it and others, in batches of `BATCH_ROWS`.

    From one statement, and so of one moment. Read through a server-side cursor, without an order: a sort
    would hold them all.
    """
    query = select(*sources).select_from(table).where(_C.day.between(days.first, days.last))
    with database.read() as connection:
        yield connection.execute(query.execution_options(yield_per=BATCH_ROWS)).partitions()
