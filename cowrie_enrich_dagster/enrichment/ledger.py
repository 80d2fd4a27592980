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
        backlog = left.total if left else 0
        return cls(status, backlog, eta_seconds(status, calls_for(service, backlog)) if backlog else None)

    def as_dict(self) -> dict[str, Any]:
        """JSON form; moments as ISO 8601 text."""
        return {**asdict(self.status), "backlog": self.backlog, "eta_s": self.eta_s}
