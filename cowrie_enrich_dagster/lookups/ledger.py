"""The quota ledger with the queue beside it: what is left, what waits, and until when."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from cowrie_enrich_dagster.lookups.model import OpenLookups
from cowrie_enrich_dagster.pacing import QuotaStatus, capacity_per_day, eta_seconds
from cowrie_enrich_dagster.services import Service

NEVER_S = 5 * 365 * 86_400.0
"""A backlog that takes longer than this is said never to end."""


@dataclass(frozen=True)
class LedgerEntry:
    """One service: its limit's status, its backlog, and how long the backlog takes at the pace in effect.

    `arriving_per_day` lookups come in on a usual day and are asked first: `eta_s` counts them. It is None
    where nothing waits, and where that never ends (`is_never`). `next_attempt_at` is set where all that waits
    has failed before: when the first of it is tried again.
    """

    status: QuotaStatus
    backlog: int
    eta_s: float | None
    arriving_per_day: float = 0.0
    next_attempt_at: datetime | None = None

    @property
    def is_never(self) -> bool:
        """Whether, at this pace, the backlog never ends."""
        return bool(self.backlog) and self.eta_s is None

    @classmethod
    def of(
        cls, service: Service, status: QuotaStatus, left: OpenLookups | None, arriving_per_day: float = 0.0
    ) -> LedgerEntry:
        if left is None or not left.total:
            return cls(status, 0, None, arriving_per_day)
        eta_s = _eta(service, status, left.total, arriving_per_day)
        asleep_until = None if left.due or left.claimed else left.next_attempt_at
        if eta_s is not None and asleep_until:
            eta_s = max(eta_s, (asleep_until - status.as_of).total_seconds())
        return cls(status, left.total, eta_s, arriving_per_day, asleep_until)

    def as_dict(self) -> dict[str, Any]:
        """JSON form; moments as ISO 8601 text."""
        return {
            **asdict(self.status),
            "backlog": self.backlog,
            "eta_s": self.eta_s,
            "never_at_this_pace": self.is_never,
            "arriving_per_day": round(self.arriving_per_day, 1),
        }


def calls_for(service: Service, keys: int) -> int:
    """How many requests so many keys take."""
    return math.ceil(keys / service.batch_size)


def _eta(service: Service, status: QuotaStatus, backlog: int, arriving_per_day: float) -> float | None:
    capacity = capacity_per_day(status) * service.batch_size
    if arriving_per_day >= capacity:
        return None
    # Until the backlog is gone, what arrives meanwhile is asked as well: b + a t = c t.
    asked = math.ceil(backlog * capacity / (capacity - arriving_per_day))
    eta_s = eta_seconds(status, calls_for(service, asked))
    return eta_s if eta_s < NEVER_S else None
