"""The quota ledger: what is left of every limit, until when, and how long a backlog will take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cowrie_enrich_dagster.pacing import gcra, rows
from cowrie_enrich_dagster.pacing.learning import rate_in_effect
from cowrie_enrich_dagster.pacing.model import WINDOW_SECONDS, Policy, Reason, State, Wait
from cowrie_enrich_dagster.storage.engine import Database

HORIZON = timedelta(days=36_500)


@dataclass(frozen=True)
class WindowStatus:
    """Requests `used` in the present calendar window; `limit` and `left` are None where none is known."""

    name: str
    used: int
    limit: int | None
    left: int | None
    resets_at: datetime


@dataclass(frozen=True)
class QuotaStatus:
    """One service's limit at the moment `as_of`. Rates are in requests a second.

    `effective_rate` is the lower of `configured_rate` and `learned_rate` (None: nothing was learned).
    `cooldown_until` and `cooldown_reason` are None while the service may be asked at its pace.
    """

    service: str
    as_of: datetime
    configured_rate: float
    configured_burst: int
    learned_rate: float | None
    effective_rate: float
    spacing_s: float
    cooldown_until: datetime | None
    cooldown_reason: Reason | None
    consecutive_failures: int
    windows: tuple[WindowStatus, ...]
    next_slot_at: datetime
    requests_total: int
    limited_total: int

    @property
    def wait_s(self) -> float:
        """Seconds from `as_of` until the next request may be sent."""
        return (self.next_slot_at - self.as_of).total_seconds()


def quota_status(state: State, policy: Policy, now: float) -> QuotaStatus:
    """The state of a limit in the words of the ledger."""
    hold, reason = gcra.held_until(state, policy, now)
    _, decision = gcra.decide(state, policy, now)
    windows = gcra.roll_windows(state, policy, now)
    return QuotaStatus(
        service=state.service,
        as_of=_moment(now),
        configured_rate=policy.rate,
        configured_burst=policy.burst,
        learned_rate=state.learned_rate,
        effective_rate=rate_in_effect(state, policy),
        spacing_s=gcra.spacing(state, policy),
        cooldown_until=None if reason is None else _moment(hold),
        cooldown_reason=reason,
        consecutive_failures=state.consecutive_failures,
        windows=tuple(
            WindowStatus(
                name,
                window.used,
                window.limit,
                None if window.limit is None else max(0, window.limit - window.used),
                _moment(window.resets_at),
            )
            for name, window in windows.items()
        ),
        next_slot_at=_moment(decision.until if isinstance(decision, Wait) else decision.at),
        requests_total=state.requests_total,
        limited_total=state.limited_total,
    )


def quota(database: Database) -> list[QuotaStatus]:
    """Every service that was ever asked, by name, with the rate, burst and limits it was last asked with.

    A refused credential is shown as a cooldown, for the ledger does not know which one is in use now.
    """
    with database.read() as connection:
        now = database.now(connection).timestamp()
        states = [gcra.after_set_back(state, now) for state in rows.load_all(connection)]
    return [quota_status(state, _policy_of(state), now) for state in states if state.configured_rate]


def eta_seconds(status: QuotaStatus, backlog: int) -> float:
    """How long `backlog` more requests take from `status.as_of`: spacing, cooldown and windows counted.

    A window that is used up makes the rest wait for its reset; each later one allows its limit anew. No
    forecast goes beyond `HORIZON`.
    """
    if backlog <= 0:
        return 0.0
    limits = {window.name: window.limit for window in status.windows if window.limit is not None}
    pace = max(status.spacing_s, 60.0 / limits["minute"] if limits.get("minute") else 0.0)
    left = {w.name: w.left for w in status.windows if w.name != "minute" and w.left is not None}
    resets = {w.name: w.resets_at for w in status.windows}
    at = status.next_slot_at
    while at - status.as_of < HORIZON:
        for name in left:
            while resets[name] <= at:
                left[name], resets[name] = limits[name] or 1, resets[name] + _length(name, resets[name])
        until = min((resets[name] for name in left), default=None)
        fits = backlog if until is None else int((until - at).total_seconds() / pace) + 1
        sent = min([backlog, fits, *left.values()])
        backlog -= sent
        left = {name: count - sent for name, count in left.items()}
        if backlog == 0:
            return (at - status.as_of).total_seconds() + (sent - 1) * pace
        exhausted = [resets[name] for name, count in left.items() if count <= 0]
        at = max([at + timedelta(seconds=sent * pace), *exhausted])
    return HORIZON.total_seconds()


def capacity_per_day(status: QuotaStatus) -> float:
    """How many requests a day the service allows in the long run: at its pace, within its windows."""
    limits = {window.name: window.limit for window in status.windows if window.limit is not None}
    a_day = {"minute": 1440.0, "day": 1.0, "month": 1 / 31}
    return min([86_400.0 / status.spacing_s, *(limit * a_day[name] for name, limit in limits.items())])


def calls_left(status: QuotaStatus) -> float:
    """How many requests the service allows within a day from now, before any window is reset."""
    left = [window.left for window in status.windows if window.name != "minute" and window.left is not None]
    minutes = [window.limit for window in status.windows if window.name == "minute" and window.limit]
    pace = max([status.spacing_s, *(60.0 / limit for limit in minutes)])
    return min([max(0.0, 86_400.0 - status.wait_s) / pace, *left])


def _policy_of(state: State) -> Policy:
    windows = {name: w.limit for name, w in state.windows.items() if w.limit and not w.told}
    return Policy(
        state.service,
        rate=state.configured_rate or 1.0,
        burst=state.configured_burst or 1,
        windows=windows,
        credential=state.credential,
    )


def _length(name: str, start: datetime) -> timedelta:
    if name == "month":
        return (start + timedelta(days=32)).replace(day=1) - start
    return timedelta(seconds=WINDOW_SECONDS[name])


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
