"""Everything known -> `enriched_sessions`: whole days, what changes of growing ones, what came since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

from sqlalchemy import Connection

from cowrie_enrich_dagster.cowrie import few_collections
from cowrie_enrich_dagster.enrichment.changed_sessions import ENRICHED, changes, follow
from cowrie_enrich_dagster.enrichment.coverage import JoinReport
from cowrie_enrich_dagster.enrichment.growing import VERSION
from cowrie_enrich_dagster.enrichment.ingest import sessions_by_day
from cowrie_enrich_dagster.enrichment.join import enrich_sessions, enrich_touched
from cowrie_enrich_dagster.enrichment.keys import (
    Chosen,
    Key,
    all_touched,
    keys_of,
    number_touched,
    password_hashes,
    touch_again,
    touched_of,
)
from cowrie_enrich_dagster.enrichment.knowledge import AskedService, Knowledge, gather, standing
from cowrie_enrich_dagster.enrichment.learned import Learned, write_news
from cowrie_enrich_dagster.enrichment.list_book import Spans
from cowrie_enrich_dagster.enrichment.list_keeping import ListKeeping
from cowrie_enrich_dagster.enrichment.list_store import version
from cowrie_enrich_dagster.enrichment.stale_rows import basis_of, changed_keys, forget_gone, touch_stale
from cowrie_enrich_dagster.enrichment.written_days import Written, note_written, written
from cowrie_enrich_dagster.pacing import Reason
from cowrie_enrich_dagster.storage.outages import repeats_after_outage, survives_outage
from cowrie_enrich_dagster.vocabulary import Days, Subject

Asked = Mapping[str, AskedService]


class RowWriting(ListKeeping):
    """Writes the rows, and tells what they come to."""

    @repeats_after_outage
    def enrich(self, days: Days, by_day: dict[date, JoinReport] | None = None) -> JoinReport:
        """Everything known -> `enriched_sessions`. `by_day` is given the same report for each day alone.

        Of a day that is not over only the rows that change are written; `hits` then tells of those alone.
        """
        asked = self._asked()
        now = self._now(asked)
        if (before := self._before(days, now)) is None:
            return self._write_whole(days, now, asked, by_day)
        rows, hits = self._write_stale(days.first, before, now, asked)
        of_day = replace(self.reports_by_day(days, asked)[days.first], hits=hits)
        if by_day is not None:
            by_day[days.first] = of_day
        return replace(of_day, sessions=rows)

    @repeats_after_outage
    def write_rows(self, days: Days) -> int:
        """As `enrich`, without a report: how many rows the days have."""
        asked = self._asked()
        now = self._now(asked)
        if (before := self._before(days, now)) is None:
            return self._write_whole(days, now, asked).sessions
        return self._write_stale(days.first, before, now, asked)[0]

    def _now(self, asked: Asked) -> Written:
        return Written(self.database.moment(), self._basis(asked))

    def _before(self, days: Days, now: Written) -> Written | None:
        """What the rows of a day that grows rest on; None if all of its rows are to be written."""
        if days.first != days.last or days.last < now.known_until.date():
            return None
        if self.settings.want is not None:  # what one address tells of its network is in rows of others
            return None
        before = written(self.database, days.first)
        if before is None or before.known_until > now.known_until:  # a clock that was set back
            return None
        return before if before.basis == now.basis else None

    @few_collections()
    def _write_whole(
        self, days: Days, now: Written, asked: Asked, by_day: dict[date, JoinReport] | None = None
    ) -> JoinReport:
        with self.database.read() as connection:
            sessions = changes(connection, ENRICHED, days)
        keys = self._keys_of_days(days)
        with self.database.read() as connection:
            chosen = Chosen.of_days(days)
            passwords = password_hashes(self.database, connection, chosen) if self._asks_passwords else []
        knowledge = self.knowledge_of(keys, asked)
        spans = self.spans_of(keys[Subject.IP])

        def then(connection: Connection) -> None:
            follow(self.database, connection, sessions)
            note_written(connection, days, now)

        report = enrich_sessions(self.database, days, keys[Subject.IP], knowledge, passwords, spans, then)
        if by_day is not None:
            by_day.update(self._reports_by_day(days, keys, knowledge))
        return report

    def _write_stale(
        self, day: date, before: Written, now: Written, asked: Asked
    ) -> tuple[int, Counter[str]]:
        """Write the rows that change; how many rows the day has, and which tier had what they tell."""
        database = self.database
        self.cache.settle()
        changed = changed_keys(database, self.services, self.cache.database.versions, day, before.known_until)
        with database.read() as connection:
            sessions = touch_stale(database, connection, day, changed)
            stale = all_touched(connection)
            chosen = touched_of(day)
            keys = {s: list(keys_of(database, connection, chosen, s)) for s in self._subjects}
            passwords = password_hashes(database, connection, chosen) if self._asks_passwords else []
        rows = 0

        def then(connection: Connection) -> None:
            nonlocal rows
            rows = forget_gone(connection, day)
            if number_touched(connection) == len(stale):  # else an address is not summarised yet
                follow(database, connection, sessions)
            note_written(connection, [day], now)

        report = enrich_touched(
            database,
            lambda connection: touch_again(connection, stale),
            keys[Subject.IP],
            self.knowledge_of(keys, asked),
            passwords,
            then,
            self.spans_of(keys[Subject.IP]),
        )
        return rows, report.hits

    def _basis(self, asked: Asked) -> str:
        """What rows rest on beside sessions and answers."""
        own, scanners = self.own_and_scanners()
        services = [(name, one.has_key, one.is_refused) for name, one in asked.items()]
        networks = [sorted(map(str, some)) for some in (own, scanners)]
        wanted = sorted(self.settings.want) if self.settings.want is not None else None
        lists = [(one.name, one.says) for one in self.settings.lists]
        return basis_of(self.database, VERSION, services, networks, wanted, lists, version(self.database))

    @few_collections()
    def reports_by_day(self, days: Days, asked: Asked | None = None) -> dict[date, JoinReport]:
        """What the rows of each day say: sessions, and how many of them each service has answered."""
        keys = self._keys_of_days(days)
        return self._reports_by_day(days, keys, self._standing(keys, asked))

    def _reports_by_day(
        self, days: Days, all_keys: Mapping[Subject, Sequence[Key]], knowledge: Sequence[Knowledge]
    ) -> dict[date, JoinReport]:
        sessions = sessions_by_day(self.database, days)
        reports = {day: JoinReport(sessions=sessions.get(day, 0)) for day in days}
        for day, report in reports.items():
            keys = all_keys if days.first == days.last else self._keys_of_days(Days(day, day))
            for known in knowledge:
                report.count(replace(known, keys=keys[known.asked.service.subject], tiers=Counter()))
        return reports

    def write_news(self) -> Learned:
        """Write what was learned since into the rows it concerns, whatever their day."""
        return write_news(self.database, self.queue, self.services, self.knowledge_of, self.spans_of)

    def spans_of(self, addresses: Sequence[Key]) -> Spans:
        """When which lists held these addresses."""
        return self.list_book.spans([key.value for key in addresses])

    def knowledge_of(
        self, keys: Mapping[Subject, Sequence[Key]], asked: Asked | None = None
    ) -> list[Knowledge]:
        """All that every service has told about these keys by now, in order of trust."""
        spending, database = self.spending(), self.database
        return [
            gather(database, self.cache, self.queue, one, keys[one.service.subject], spending)
            for one in (asked or self._asked()).values()
        ]

    def _standing(self, keys: Mapping[Subject, Sequence[Key]], asked: Asked | None = None) -> list[Knowledge]:
        """As `knowledge_of`, but for what the answers say."""
        spending, database, cache = self.spending(), self.database, self.cache.database
        return [
            standing(database, cache, self.queue, one, keys[one.service.subject], spending)
            for one in (asked or self._asked()).values()
        ]

    def _asked(self) -> Asked:
        """How each service stands, in order of trust. A limiter is looked at for each that has its key."""
        return {name: self._asked_service(name) for name in self.services}

    def _asked_service(self, name: str) -> AskedService:
        has_key = self.has_key(name)
        held_by = self.source(name).limiter.snapshot().cooldown_reason if has_key else None
        return AskedService(self.services[name], has_key, is_refused=held_by is Reason.AUTH_FAILED)

    def _recount(self, report: JoinReport, days: Days) -> None:
        """Bring the statuses in the report up to date: what was asked meanwhile, and how it ended."""
        for known in self._standing(self._keys_of_days(days)):
            report.recount(known)

    @survives_outage
    def _keys_of_days(self, days: Days) -> dict[Subject, list[Key]]:
        chosen = Chosen.of_days(days)
        with self.database.read() as connection:
            return {s: list(keys_of(self.database, connection, chosen, s)) for s in self._subjects}

    @property
    def _subjects(self) -> set[Subject]:
        return {Subject.IP, *(service.subject for service in self.services.values())}

    @property
    def _asks_passwords(self) -> bool:
        return Subject.PASSWORD_SHA1_PREFIX in self._subjects
