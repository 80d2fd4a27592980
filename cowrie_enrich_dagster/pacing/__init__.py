"""Pacing: no request leaves before its service allows it, whichever thread, process or container asks.

`PacedSession` is the way out. It takes a slot from an `AdaptiveRateLimiter` for every request, and the
limiter, whose state is one database row per service, learns from every response.
"""

from cowrie_enrich_dagster.pacing.http import PacedSession
from cowrie_enrich_dagster.pacing.ledger import (
    QuotaStatus,
    WindowStatus,
    capacity_per_day,
    eta_seconds,
    quota,
)
from cowrie_enrich_dagster.pacing.limiter import AdaptiveRateLimiter, Slot, SlotRefused
from cowrie_enrich_dagster.pacing.model import Policy, Reason, fingerprint
from cowrie_enrich_dagster.pacing.retries import with_retries
from cowrie_enrich_dagster.pacing.retry_after import get_retry_after_seconds

__all__ = [
    "AdaptiveRateLimiter",
    "PacedSession",
    "Policy",
    "QuotaStatus",
    "Reason",
    "Slot",
    "SlotRefused",
    "WindowStatus",
    "capacity_per_day",
    "eta_seconds",
    "fingerprint",
    "get_retry_after_seconds",
    "quota",
    "with_retries",
]
