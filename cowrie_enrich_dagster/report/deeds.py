"""What was done: credentials tried, scripts typed, files brought, tunnels asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from cowrie_enrich_dagster.campaigns.masking import mask
from cowrie_enrich_dagster.report.query import Query, Top
from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.storage.json_text import from_json, to_json
from cowrie_enrich_dagster.vocabulary import LookupStatus, Subject

CREDENTIALS_SHOWN, SCRIPTS_SHOWN, RARE_SHOWN, FILES_SHOWN, TUNNELS_SHOWN = 12, 10, 5, 15, 12
ABOUT_FILES = tuple(name for name, service in ALL.items() if service.subject is Subject.FILE_SHA256)


@dataclass(frozen=True)
class Credential:
    """A user name and a password that were tried together; `accepted`: at least once they let somebody in."""

    username: str | None
    password: str | None
    attempts: int
    sources: int
    accepted: bool


@dataclass(frozen=True)
class Word:
    """A user name, with how many passwords it was tried; or a password, with how many user names."""

    text: str | None
    attempts: int
    others: int
    accepted: bool


@dataclass(frozen=True)
class Script:
    """The lines of one session, and how many typed the same: once what differs by chance is masked."""

    lines: tuple[str, ...]
    sessions: int
    sources: int
    first_seen: datetime


@dataclass(frozen=True)
class Verdict:
    """What a service says of a file, as of `as_of`; `status` says why where it says nothing."""

    service: str
    status: str
    malicious: int | None = None
    suspicious: int | None = None
    label: str | None = None
    as_of: datetime | None = None


@dataclass(frozen=True)
class BroughtFile:
    """A file by its SHA-256; `how` it came: `download`, `upload`, `written`.

    `first_seen` is of all days on record.
    """

    sha256: str
    name: str | None
    url: str | None
    how: tuple[str, ...]
    sessions: int
    sources: int
    first_seen: datetime
    is_new: bool
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Target:
    """Where tunnels were to lead."""

    host: str | None
    port: int | None
    requests: int
    sources: int


_CREDENTIALS = """
    WITH pairs AS MATERIALIZED (
        SELECT username, password, sum(attempts) AS attempts, count(DISTINCT src_ip) AS sources,
            max(CASE WHEN success THEN 1 ELSE 0 END) AS accepted
        FROM session_logins WHERE "key" IS NULL AND day BETWEEN :first AND :last GROUP BY username, password
    ), best AS (
        SELECT username, password, attempts, sources, accepted, count(*) OVER () AS of_all
        FROM pairs ORDER BY attempts DESC, username, password LIMIT :number
    ), users AS (
        SELECT username, sum(attempts) AS attempts, count(*) AS others, max(accepted) AS accepted,
            count(*) OVER () AS of_all
        FROM pairs GROUP BY username ORDER BY sum(attempts) DESC, username LIMIT :number
    ), passwords AS (
        SELECT password, sum(attempts) AS attempts, count(*) AS others, max(accepted) AS accepted,
            count(*) OVER () AS of_all
        FROM pairs GROUP BY password ORDER BY sum(attempts) DESC, password LIMIT :number
    )
    SELECT 'pair' AS kind, username, password, attempts, sources AS others, accepted, of_all FROM best
    UNION ALL SELECT 'user', username, NULL, attempts, others, accepted, of_all FROM users
    UNION ALL SELECT 'password', NULL, password, attempts, others, accepted, of_all FROM passwords
"""
_SCRIPTS = """
    SELECT CAST(command_lines AS text) AS lines, src_ip, count(*) AS sessions, min(started_at) AS first_seen
    FROM sessions WHERE commands > 0 AND day {which} GROUP BY 1, 2
"""
_FILES = """
    SELECT sha256, min(name) AS name, min(url) AS url, {hows} AS hows,
        count(DISTINCT {session}) AS sessions, count(DISTINCT src_ip) AS sources,
        count(*) OVER () AS of_all
    FROM session_files WHERE sha256 IS NOT NULL AND day BETWEEN :first AND :last
    GROUP BY sha256 ORDER BY count(DISTINCT src_ip) DESC, sha256 LIMIT :number
"""
_FIRST_SEEN = "SELECT sha256, min(started_at) AS first_seen FROM session_files WHERE {among} GROUP BY sha256"
_VERDICTS = """
    SELECT service, key, status, payload, fetched_at FROM answers
    WHERE {among} AND service IN ({services}) ORDER BY fetched_at
"""
_WITHOUT_VERDICT = "SELECT service, key, status FROM lookups WHERE {among} AND service IN ({services})"
_TUNNELS = """
    SELECT host, port, sum(requests) AS requests, count(DISTINCT src_ip) AS sources,
        count(*) OVER () AS of_all
    FROM session_tunnels WHERE day BETWEEN :first AND :last
    GROUP BY host, port ORDER BY sum(requests) DESC, host, port LIMIT :number
"""


def credentials_of(asking: Query) -> tuple[Top[Credential], Top[Word], Top[Word]]:
    """What was tried most: pairs, user names, passwords. Logins with keys are not among them."""
    rows = asking.rows(_CREDENTIALS, number=CREDENTIALS_SHOWN)

    def of(kind: str, made: Callable[[Row[Any]], Any]) -> Top[Any]:
        return Top.of([row for row in rows if row.kind == kind], made)

    return (
        of(
            "pair",
            lambda row: Credential(
                row.username, row.password, int(row.attempts), row.others, bool(row.accepted)
            ),
        ),
        of("user", lambda row: Word(row.username, int(row.attempts), row.others, bool(row.accepted))),
        of("password", lambda row: Word(row.password, int(row.attempts), row.others, bool(row.accepted))),
    )


@dataclass
class _Typed:
    lines: tuple[str, ...]
    first_seen: datetime
    sessions: int = 0
    sources: set[str | None] = field(default_factory=set)


class Scripts:
    """The scripts of the days, those that differ only in what is masked being one."""

    def __init__(self, asking: Query) -> None:
        self._asking = asking
        self._typed: dict[str, _Typed] = {}
        query = _SCRIPTS.format(which="BETWEEN :first AND :last")
        for row in asking.stream(query, "first_seen"):
            lines = tuple(from_json(row.lines))
            typed = self._typed.setdefault(_form(lines), _Typed(lines, row.first_seen))
            if row.first_seen < typed.first_seen:
                typed.first_seen, typed.lines = row.first_seen, lines
            typed.sessions += row.sessions
            typed.sources.add(row.src_ip)

    def commonest(self) -> Top[Script]:
        """Those that most sources typed."""
        return Top.among(
            sorted(
                map(_script, self._typed.values()), key=lambda one: (-one.sources, -one.sessions, one.lines)
            ),
            SCRIPTS_SHOWN,
        )

    def rare(self) -> Top[Script]:
        """Those of one source alone that nobody typed before these days, those that do most first."""
        rare = {form: typed for form, typed in self._typed.items() if len(typed.sources) == 1}
        if rare:
            for row in self._asking.stream(_SCRIPTS.format(which="< :first")):
                rare.pop(_form(from_json(row.lines)), None)
        most_first = sorted(rare.items(), key=lambda item: (-len(set(item[0].split())), item[0]))
        return Top.among([_script(typed) for _, typed in most_first], RARE_SHOWN)


def _form(lines: Iterable[str]) -> str:
    return "\n".join(mask(line).text for line in lines)


def _script(typed: _Typed) -> Script:
    return Script(typed.lines, typed.sessions, len(typed.sources), typed.first_seen)


def files_of(asking: Query, *, has_past: bool) -> Top[BroughtFile]:
    """The files that most sources brought, with what is known; `has_past`: there are days before these."""
    query = _FILES.format(
        session=asking.session_key,
        hows=asking.dialect(sqlite="group_concat(DISTINCT how)", postgresql="string_agg(DISTINCT how, ',')"),
    )
    rows = asking.rows(query, number=FILES_SHOWN)
    hashes = [row.sha256 for row in rows]
    verdicts = verdicts_on(asking, hashes)
    among = _FIRST_SEEN.format(among=asking.database.among("sha256"))
    first_seen = {
        row.sha256: row.first_seen for row in asking.rows(among, "first_seen", keys=to_json(hashes))
    }

    def made(row: Row[Any]) -> BroughtFile:
        return BroughtFile(
            row.sha256,
            row.name,
            row.url,
            tuple(sorted(row.hows.split(","))),
            row.sessions,
            row.sources,
            first_seen[row.sha256],
            has_past and first_seen[row.sha256].date() >= asking.days.first,
            verdicts[row.sha256],
        )

    return Top.of(rows, made)


def verdicts_on(asking: Query, hashes: Iterable[str]) -> dict[str, tuple[Verdict, ...]]:
    """The newest that each service told of each file; or, where it has not, how its lookup stands."""
    wanted = list(hashes)
    found: dict[str, dict[str, Verdict]] = {sha256: {} for sha256 in wanted}
    if not wanted:
        return {}
    words = {
        "among": asking.database.among("key"),
        "services": ", ".join(f"'{name}'" for name in ABOUT_FILES),
    }
    keys = to_json(wanted)
    for row in asking.rows(_WITHOUT_VERDICT.format(**words), keys=keys):
        if not LookupStatus(row.status).is_answer:
            found[row.key][row.service] = Verdict(row.service, row.status)
    for row in asking.rows(_VERDICTS.format(**words), "fetched_at", lists=("payload",), keys=keys):
        found[row.key][row.service] = _verdict(row.service, row.status, row.payload, row.fetched_at)
    return {sha256: tuple(of_file.values()) for sha256, of_file in found.items()}


def _verdict(service: str, status: str, payload: Mapping[str, Any] | None, as_of: datetime) -> Verdict:
    if not payload:
        return Verdict(service, status, as_of=as_of)
    facts = ALL[service].facts(payload)
    return Verdict(service, status, facts.malicious, facts.suspicious, facts.file_label, as_of)


def tunnels_of(asking: Query) -> Top[Target]:
    """The targets that were asked for most."""
    rows = asking.rows(_TUNNELS, number=TUNNELS_SHOWN)
    return Top.of(rows, lambda row: Target(row.host, row.port, int(row.requests), row.sources))
