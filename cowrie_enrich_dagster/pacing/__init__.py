"""Pacing: no request leaves before its service allows it, whichever thread, process or container asks.

`PacedSession` is the way out. It takes a slot from an `AdaptiveRateLimiter` for every request, and the
limiter, whose state is one database row per service, learns from every response.
"""

from cowrie_enrich_dagster.pacing.flight import DeadlineExceeded, Stopped
from cowrie_enrich_dagster.pacing.http import MAX_BODY_BYTES, PacedSession
from cowrie_enrich_dagster.pacing.limiter import AdaptiveRateLimiter, Slot, SlotRefused
from cowrie_enrich_dagster.pacing.meaning import Meaning, in_words, meaning_of, signs_of
from cowrie_enrich_dagster.pacing.model import Policy, Reason, fingerprint
from cowrie_enrich_dagster.pacing.retries import with_retries
from cowrie_enrich_dagster.pacing.retry_after import get_retry_after_seconds
from cowrie_enrich_dagster.pacing.slower import Pace, SlowerRateLimiter
from cowrie_enrich_dagster.pacing.status import (
    QuotaStatus,
    WindowStatus,
    calls_left,
    capacity_per_day,
    eta_seconds,
    quota,
)

__all__ = [
    "MAX_BODY_BYTES",
    "AdaptiveRateLimiter",
    "DeadlineExceeded",
    "Meaning",
    "Pace",
    "PacedSession",
    "Policy",
    "QuotaStatus",
    "Reason",
    "Slot",
    "SlotRefused",
    "SlowerRateLimiter",
    "Stopped",
    "WindowStatus",
    "calls_left",
    "capacity_per_day",
    "eta_seconds",
    "fingerprint",
    "get_retry_after_seconds",
    "in_words",
    "meaning_of",
    "quota",
    "signs_of",
    "with_retries",
]
