"""How much there was, and when."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta, timezone

from cowrie_enrich_dagster.report.query import Query
from cowrie_enrich_dagster.vocabulary import Days

HOURLY_UP_TO_DAYS = 7


@dataclass(frozen=True)
class Totals:
    """Sums over some days.

    `logins` are attempts, `logins_accepted` those that let somebody in; `sessions_in` and `sources_in` are
    the sessions with one, and the addresses they came from. `transfers` counts downloads and uploads, `files`
    different files by their SHA-256, written ones among them; `sessions_malicious` are those whose file a
    service calls malicious.
    """

    sessions: int = 0
    sources: int = 0
    sensors: int = 0
    logins: int = 0
    logins_accepted: int = 0
    sessions_in: int = 0
    sources_in: int = 0
    commands: int = 0
    sessions_with_commands: int = 0
    transfers: int = 0
    files: int = 0
    sessions_with_files: int = 0
    sessions_malicious: int = 0
    tunnels: int = 0


@dataclass(frozen=True)
class Slot:
    """An hour or a day (UTC): the sessions that began in it, and those of them that got in."""

    start: datetime
    sessions: int
    sessions_in: int


@dataclass(frozen=True)
class NotTold:
    """What sessions did beyond the bounds of their lists: it is in the totals, and in no list."""

    logins: int
    command_lines: int
    files: int
    tunnels: int


@dataclass(frozen=True)
class Records:
    """The days of which there is any session at all (None: of none)."""

    first: date | None
    last: date | None

    def reach_before(self, days: Days) -> bool:
        """Whether there is any of a day before these, so that something can be new."""
        return self.first is not None and self.first < days.first


_OF_SESSIONS = """
    SELECT count(*) AS sessions, count(DISTINCT sensor) AS sensors,
        coalesce(sum(login_failures + login_successes), 0) AS logins,
        coalesce(sum(login_successes), 0) AS logins_accepted,
        count(CASE WHEN login_successes > 0 THEN 1 END) AS sessions_in,
        coalesce(sum(commands), 0) AS commands,
        count(CASE WHEN commands > 0 THEN 1 END) AS sessions_with_commands,
        coalesce(sum(downloads + uploads), 0) AS transfers,
        count(CASE WHEN file_malicious > 0 THEN 1 END) AS sessions_malicious,
        coalesce(sum(logins_left_out), 0) AS logins_more,
        coalesce(sum(command_lines_left_out), 0) AS lines_more,
        coalesce(sum(files_left_out), 0) AS files_more,
        coalesce(sum(tunnels_left_out), 0) AS tunnels_more
    FROM enriched_sessions WHERE day BETWEEN :first AND :last
"""
_OF_SOURCES = """
    SELECT count(DISTINCT src_ip) AS sources,
        count(DISTINCT CASE WHEN login_successes > 0 THEN src_ip END) AS sources_in
    FROM session_ips WHERE day BETWEEN :first AND :last
"""
_OF_FILES = """
    SELECT count(DISTINCT sha256) AS files,
        count(DISTINCT {session}) AS sessions_with_files
    FROM session_files WHERE sha256 IS NOT NULL AND day BETWEEN :first AND :last
"""
_OF_TUNNELS = """
    SELECT coalesce(sum(tunnel_requests), 0) AS tunnels FROM sessions WHERE day BETWEEN :first AND :last
"""
_TIMELINE = """
    SELECT {slot} AS slot, count(*) AS sessions,
        count(CASE WHEN login_successes > 0 THEN 1 END) AS sessions_in
    FROM enriched_sessions WHERE day BETWEEN :first AND :last GROUP BY 1
"""


def totals_of(asking: Query) -> tuple[Totals, NotTold]:
    """The totals of the days, and what they hold that no list tells."""
    (of_sessions,) = asking.rows(_OF_SESSIONS)
    (of_sources,) = asking.rows(_OF_SOURCES)
    (of_files,) = asking.rows(_OF_FILES.format(session=asking.session_key))
    (of_tunnels,) = asking.rows(_OF_TUNNELS)
    found: dict[str, int] = {}
    for row in (of_sessions, of_sources, of_files, of_tunnels):
        found.update((name, int(value)) for name, value in row._mapping.items())
    not_told = NotTold(*(found[f"{kind}_more"] for kind in ("logins", "lines", "files", "tunnels")))
    return Totals(**{field.name: found[field.name] for field in fields(Totals)}), not_told


def timeline_of(asking: Query) -> tuple[Slot, ...]:
    """Every hour of a week or less, else every day, empty ones too."""
    hourly = is_hourly(asking.days)
    slot = asking.dialect(
        sqlite="substr(event_start, 1, 13)" if hourly else "substr(event_start, 1, 10)",
        postgresql=f"to_char(event_start, '{'YYYY-MM-DD HH24' if hourly else 'YYYY-MM-DD'}')",
    )
    found = {row.slot: row for row in asking.rows(_TIMELINE.format(slot=slot))}
    form, step = ("%Y-%m-%d %H", timedelta(hours=1)) if hourly else ("%Y-%m-%d", timedelta(days=1))
    begin = datetime(*asking.days.first.timetuple()[:3], tzinfo=timezone.utc)
    number = len(list(asking.days)) * (24 if hourly else 1)
    slots = []
    for start in (begin + step * place for place in range(number)):
        row = found.get(start.strftime(form))
        slots.append(Slot(start, row.sessions if row else 0, row.sessions_in if row else 0))
    return tuple(slots)


def is_hourly(days: Days) -> bool:
    """Whether the timeline of the days goes by the hour."""
    return (days.last - days.first).days < HOURLY_UP_TO_DAYS


def records_of(asking: Query) -> Records:
    """From when to when there are sessions, whichever days are asked about."""
    (row,) = asking.rows(
        "SELECT min(day) AS first, max(day) AS last FROM session_ips", days=("first", "last")
    )
    return Records(row.first, row.last)


def days_before(days: Days) -> Days:
    """As many days as these, right before them."""
    length = days.last - days.first + timedelta(days=1)
    return Days(days.first - length, days.last - length)
