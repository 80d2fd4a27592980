"""What stands now that an operator wants to know: a ban, a refused key, silence. Told by way of `notices`."""

from __future__ import annotations

from datetime import datetime, timedelta

from cowrie_enrich_dagster.enrichment.ingest import newest_session
from cowrie_enrich_dagster.enrichment.notices import MAX_SILENCE, Kind, Notices
from cowrie_enrich_dagster.enrichment.run_report import RunReport
from cowrie_enrich_dagster.enrichment.wiring import Wiring
from cowrie_enrich_dagster.pacing import QuotaStatus, Reason
from cowrie_enrich_dagster.readable import moment
from cowrie_enrich_dagster.settings import Settings

BAN = timedelta(hours=1)


def tell(parts: Wiring, report: RunReport | None = None) -> None:
    """Notice what stands now, with or without a run that ends here, and send what is to be sent."""
    notices = parts.notices
    if not notices.are_wanted:
        return
    for name, service in parts.services.items():
        if parts.has_key(name):
            limiter = parts.source(name).limiter
            asked = bool(report and report.api_calls[name])
            key = f"{name}, {limiter.policy.credential}"
            setting = f"{name.upper()}_API_KEY" if service.needs_key else "DSHIELD_EMAIL"
            _of_limit(notices, limiter.snapshot(), parts.settings, key, setting, was_asked=asked)
    newest, now = newest_session(parts.database)
    if newest is not None:
        _of_silence(notices, newest, now)
    notices.deliver()


def _of_limit(
    notices: Notices, status: QuotaStatus, settings: Settings, key: str, setting: str, *, was_asked: bool
) -> None:
    service, until, why = status.service, status.cooldown_until, status.cooldown_reason
    if why is Reason.AUTH_FAILED:
        text = f"{service} refuses {setting}. It is not asked before {moment(until)} UTC."
        notices.put(Kind.KEY_REFUSED, key, text)
    elif was_asked:
        notices.over(Kind.KEY_REFUSED, key)
    # A ban is seen when the run ends that met it: its hour is no longer whole then.
    hour = BAN - timedelta(seconds=settings.run_s)
    if why is Reason.RATE_LIMITED and until is not None and until - status.as_of >= hour:
        text = f"{service} says that it was asked too often. It is not asked before {moment(until)} UTC."
        notices.put(Kind.BANNED, service, text)
    elif not status.consecutive_failures:
        notices.over(Kind.BANNED, service)


def _of_silence(notices: Notices, newest: datetime, now: datetime) -> None:
    if now - newest > MAX_SILENCE:
        text = f"The newest one began at {moment(newest)} UTC. Do sensors run, do their logs arrive?"
        notices.put(Kind.SILENCE, "sessions", text)
    else:
        notices.over(Kind.SILENCE, "sessions")
