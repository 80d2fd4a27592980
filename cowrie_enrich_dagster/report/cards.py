"""The card of an address, and those of sessions: what was done, when, where, and what is known of it.

Complete, whatever there is: who prints a card shortens it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

from sqlalchemy import select

from cowrie_enrich_dagster.report.deeds import Verdict, verdicts_on
from cowrie_enrich_dagster.report.query import Query, plain
from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import from_json
from cowrie_enrich_dagster.storage.tables import EnrichedSession, table_of
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus, Subject

ABOUT_ADDRESSES = tuple(name for name, service in ALL.items() if service.subject is Subject.IP)
_ENRICHED = table_of(EnrichedSession)
_FACTS = tuple(
    name for name in _ENRICHED.columns.keys()  # noqa: SIM118 (a collection of columns)
    if name.startswith("source_") and name not in ("source_ip", "source_port", "source_scope")
)  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What a service says of an address: its newest answer as of `fetched_at`, reduced to `facts`.

    Without an answer `status` says why there is none. `feed`: the list it was read off.
    """

    status: str
    fetched_at: datetime | None = None
    feed: str | None = None
    facts: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class AddressCard:
    """An address and all its sessions. Lists are in order of how often, `command_lines` each line once.

    `facts` are the columns of its newest session, without `source_`.
    """

    address: str
    scope: str
    first_seen: datetime
    last_seen: datetime
    days: Sequence[date]
    sessions: int
    sensors: Sequence[str]
    logins: Sequence[Mapping[str, Any]]
    command_lines: Sequence[str]
    files: Sequence[Mapping[str, Any]]
    tunnels: Sequence[Mapping[str, Any]]
    campaigns: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any]
    services: Mapping[str, Told]

    def as_dict(self) -> dict[str, Any]:
        """The JSON form (`cowrie-enrich who --json`)."""
        card: dict[str, Any] = plain(self)
        return card


_DAYS = (
    "SELECT day, scope, sessions, first_seen, last_seen FROM session_ips WHERE src_ip = :address ORDER BY day"
)
# Many sessions do the same: each set of deeds is read once.
_DEEDS = """
    SELECT sensor, CAST(logins AS text) AS logins, CAST(command_lines AS text) AS command_lines,
        CAST(files AS text) AS files, CAST(tunnels AS text) AS tunnels, count(*) AS sessions
    FROM sessions WHERE src_ip = :address GROUP BY 1, 2, 3, 4, 5
"""
_CAMPAIGNS = """
    SELECT s.campaign_id, c.label, count(*) AS sessions, c.sources, c.first_seen, c.last_seen
    FROM session_campaigns AS s JOIN campaigns AS c ON c.campaign_id = s.campaign_id
    WHERE {which} GROUP BY s.campaign_id, c.label, c.sources, c.first_seen, c.last_seen
    ORDER BY count(*) DESC, s.campaign_id
"""
_ANSWERS = """
    SELECT service, status, payload, fetched_at, feed FROM answers
    WHERE key = :address AND service IN ({services}) ORDER BY fetched_at
"""
_LOOKUPS = "SELECT service, status FROM lookups WHERE key = :address AND service IN ({services})"
# The key begins with the sensor: of those there are few, and each is found by one step in its index.
_SENSORS = """
    WITH RECURSIVE sensors(sensor) AS (
        SELECT min(sensor) FROM enriched_sessions
        UNION ALL
        SELECT (SELECT min(e.sensor) FROM enriched_sessions AS e WHERE e.sensor > s.sensor)
        FROM sensors AS s WHERE s.sensor IS NOT NULL
    )
    SELECT sensor FROM sensors WHERE sensor IS NOT NULL
"""


def address_card(database: Database, address: str) -> AddressCard | None:
    """All that is known of an address in its one spelling; None if no session ever came from it."""
    with database.read() as connection:
        asking = Query(database, connection, Days(date.min, date.max))
        days = asking.rows(_DAYS, "first_seen", "last_seen", days=("day",), address=address)
        if not days:
            return None
        deeds = _Deeds(asking, address)
        newest = select(*(_ENRICHED.c[name] for name in _FACTS)).where(
            _ENRICHED.c.source_ip == address, _ENRICHED.c.day == days[-1].day
        )
        facts = connection.execute(newest.order_by(_ENRICHED.c.event_start.desc()).limit(1)).one_or_none()
        return AddressCard(
            address=address,
            scope=days[-1].scope,
            first_seen=min(row.first_seen for row in days),
            last_seen=max(row.last_seen for row in days),
            days=[row.day for row in days],
            sessions=sum(row.sessions for row in days),
            sensors=sorted(deeds.sensors),
            logins=deeds.most("logins", "attempts"),
            command_lines=[item["command_line"] for item in deeds.most("command_lines", "sessions")],
            files=_with_verdicts(asking, deeds.most("files", "sessions")),
            tunnels=deeds.most("tunnels", "requests"),
            campaigns=_campaigns(asking, "s.src_ip = :address", address=address),
            facts={
                name.removeprefix("source_"): value for name, value in zip(_FACTS, facts or (), strict=False)
            },
            services=_told(asking, address),
        )


class _Deeds:
    """The deeds of an address, added up."""

    def __init__(self, asking: Query, address: str) -> None:
        self.sensors: set[str] = set()
        self._counts: dict[str, Counter[tuple[tuple[str, Any], ...]]] = {}
        for row in asking.rows(_DEEDS, address=address):
            self.sensors.add(row.sensor)
            for line in set(from_json(row.command_lines or "[]")):
                self._add("command_lines", {"command_line": line}, row.sessions)
            for item in from_json(row.logins or "[]"):
                self._add("logins", item, row.sessions * item.pop("attempts"))
            for item in from_json(row.files or "[]"):
                self._add("files", item, row.sessions)
            for item in from_json(row.tunnels or "[]"):
                self._add("tunnels", item, row.sessions * item.pop("requests"))

    def _add(self, kind: str, item: Mapping[str, Any], number: int) -> None:
        self._counts.setdefault(kind, Counter())[tuple(item.items())] += number

    def most(self, kind: str, of: str) -> list[dict[str, Any]]:
        """The items of a kind with their number as `of`, those of the largest first."""
        counts = self._counts.get(kind, Counter())
        ordered = sorted(counts.items(), key=lambda entry: (-entry[1], str(entry[0])))
        return [{**dict(item), of: number} for item, number in ordered]


def _with_verdicts(asking: Query, files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    verdicts = verdicts_on(asking, {file["sha256"] for file in files if file["sha256"]})
    return [{**file, "verdicts": verdicts.get(file["sha256"], ())} for file in files]


def _campaigns(asking: Query, which: str, **values: Any) -> list[dict[str, Any]]:
    rows = asking.rows(_CAMPAIGNS.format(which=which), "first_seen", "last_seen", **values)
    return [dict(row._mapping) for row in rows]


def _told(asking: Query, address: str) -> dict[str, Told]:
    services = ", ".join(f"'{name}'" for name in ABOUT_ADDRESSES)
    told = {
        row.service: Told(row.status)
        for row in asking.rows(_LOOKUPS.format(services=services), address=address)
        if not LookupStatus(row.status).is_answer
    }
    answers = asking.rows(
        _ANSWERS.format(services=services), "fetched_at", lists=("payload",), address=address
    )
    for row in answers:
        facts = ALL[row.service].facts(row.payload) if row.payload else None
        known = {field.name: getattr(facts, field.name) for field in fields(facts)} if facts else {}
        told[row.service] = Told(
            row.status,
            row.fetched_at,
            row.feed,
            {name: value for name, value in known.items() if value is not None},
        )
    return {name: told[name] for name in ABOUT_ADDRESSES if name in told}


@dataclass(frozen=True)
class SessionCard:
    """A row of `enriched_sessions` by its columns, its campaigns and the verdicts on its files."""

    columns: Mapping[str, Any]
    campaigns: Sequence[Mapping[str, Any]]
    verdicts: Mapping[str, Sequence[Verdict]]

    def as_dict(self) -> dict[str, Any]:
        """The JSON form (`cowrie-enrich session --json`)."""
        card: dict[str, Any] = plain({**self.columns, "campaigns": self.campaigns, "verdicts": self.verdicts})
        return card


def session_cards(database: Database, session_id: str) -> list[SessionCard]:
    """Every session with this id, on any sensor, in order of time."""
    with database.read() as connection:
        asking = Query(database, connection, Days(date.min, date.max))
        sensors = [row.sensor for row in asking.rows(_SENSORS)]
        found = select(_ENRICHED).where(_ENRICHED.c.sensor.in_(sensors), _ENRICHED.c.session_id == session_id)
        rows = connection.execute(found.order_by(_ENRICHED.c.event_start, _ENRICHED.c.sensor)).all()
        which = "s.sensor = :sensor AND s.session_id = :session_id AND s.started_at = :started_at"
        return [
            SessionCard(
                dict(row._mapping),
                _campaigns(
                    asking, which, sensor=row.sensor, session_id=session_id, started_at=row.event_start
                ),
                verdicts_on(asking, row.file_hashes or ()),
            )
            for row in rows
        ]
