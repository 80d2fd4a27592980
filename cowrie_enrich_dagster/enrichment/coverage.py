"""What enriched rows come to: how much of what could be asked is answered, and where sessions come from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from sqlalchemy import func, select

from cowrie_enrich_dagster.enrichment.hit_rates import SessionsWithoutCall
from cowrie_enrich_dagster.enrichment.knowledge import Knowledge
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import EnrichedSession, table_of
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus

_ENRICHED = table_of(EnrichedSession)


@dataclass
class JoinReport:
    """Rows written, and for each service how many keys, and sessions they occur in, have which status."""

    sessions: int = 0
    lookups: dict[str, Counter[str]] = field(default_factory=dict)
    sessions_by_status: dict[str, Counter[str]] = field(default_factory=dict)
    stale: int = 0
    hits: Counter[str] = field(default_factory=Counter)

    def coverage(self, service: str) -> float | None:
        """The share of sessions with a key that may be sent which have an answer (None: no such session)."""
        counts = self.sessions_by_status.get(service, Counter())
        sent = sum(counts.values()) - counts[LookupStatus.SKIPPED_POLICY.value]
        answered = sum(counts[status.value] for status in LookupStatus if status.is_answer)
        return answered / sent if sent else None

    def allowed_coverage(self, service: str) -> float | None:
        """The same share, of those sessions alone whose key's turn to be asked about has come."""
        counts = self.sessions_by_status.get(service, Counter())
        never = (LookupStatus.SKIPPED_POLICY, LookupStatus.DEFERRED)
        tried = sum(counts.values()) - sum(counts[status.value] for status in never)
        answered = sum(counts[status.value] for status in LookupStatus if status.is_answer)
        return answered / tried if tried else None

    def deferred(self, service: str) -> float:
        """The share of sessions whose key waits for its turn: pace or quota did not allow it yet."""
        counts = self.sessions_by_status.get(service, Counter())
        sent = sum(counts.values()) - counts[LookupStatus.SKIPPED_POLICY.value]
        return counts[LookupStatus.DEFERRED.value] / sent if sent else 0.0

    def without_call(self, service: str, calls: int) -> SessionsWithoutCall:
        """How many of the sessions with an answer cost no call, when the run made so many."""
        keys, sessions = self.lookups.get(service, Counter()), self.sessions_by_status.get(service, Counter())
        answers = [status.value for status in LookupStatus if status.is_answer]
        return SessionsWithoutCall(
            sum(sessions[status] for status in answers), sum(keys[status] for status in answers), calls
        )

    def is_asked(self, service: str) -> bool:
        """Whether the service takes part at all (and is not skipped for want of a key)."""
        return not self.lookups[service][LookupStatus.SKIPPED_NO_KEY.value]

    def recount(self, known: Knowledge) -> None:
        """Put what one service has told by now in the place of what it had told before."""
        stale, hits = self.stale, self.hits.copy()
        self.count(known)
        self.stale, self.hits = stale, hits

    def count(self, known: Knowledge) -> None:
        """Add up what one service has told."""
        keys: Counter[str] = Counter()
        sessions: Counter[str] = Counter()
        for status, of_status in known.by_status().items():
            keys[status.value] += len(of_status)
            sessions[status.value] += sum([key.sessions for key in of_status])
        self.lookups[known.name], self.sessions_by_status[known.name] = keys, sessions
        self.stale += known.stale
        self.hits.update(known.tiers)


@survives_outage
def top_sources(database: Database, days: Days) -> tuple[list[tuple[int, str, int]], list[tuple[str, int]]]:
    """The ten networks (AS number, organization, sessions) and ten countries with the most sessions."""
    span = _ENRICHED.c.day.between(days.first, days.last)
    number, name = _ENRICHED.c.source_as_number, _ENRICHED.c.source_as_organization_name
    country, sessions = _ENRICHED.c.source_geo_country_iso_code, func.count().label("sessions")
    networks = select(number, name, sessions).where(span, number.is_not(None)).group_by(number, name)
    countries = select(country, sessions).where(span, country.is_not(None)).group_by(country)
    with database.read() as connection:
        return (
            [tuple(row) for row in connection.execute(networks.order_by(sessions.desc(), number).limit(10))],
            [
                tuple(row)
                for row in connection.execute(countries.order_by(sessions.desc(), country).limit(10))
            ],
        )
