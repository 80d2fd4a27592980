"""The quota ledger with the queue beside it: what is left, what waits, and until when."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cowrie_enrich_dagster.enrichment.plan import calls_for
from cowrie_enrich_dagster.enrichment.queue import OpenLookups
from cowrie_enrich_dagster.pacing import QuotaStatus, eta_seconds
from cowrie_enrich_dagster.services import Service


@dataclass(frozen=True)
class LedgerEntry:
    """One service: its limit's status, its backlog, and how long the backlog takes at the pace in effect."""

    status: QuotaStatus
    backlog: int
    eta_s: float | None

    @classmethod
    def of(cls, service: Service, status: QuotaStatus, left: OpenLookups | None) -> LedgerEntry:
        if left is None or not left.total:
            return cls(status, 0, None)
        eta_s = eta_seconds(status, calls_for(service, left.total))
        if left.next_attempt_at and not left.due and not left.claimed:
            eta_s = max(eta_s, (left.next_attempt_at - status.as_of).total_seconds())
        return cls(status, left.total, eta_s)

    def as_dict(self) -> dict[str, Any]:
        """JSON form; moments as ISO 8601 text."""
        return {**asdict(self.status), "backlog": self.backlog, "eta_s": self.eta_s}
