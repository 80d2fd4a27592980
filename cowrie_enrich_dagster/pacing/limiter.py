"""The rate limiter that every thread, process and container shares: one row per service in the database."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from types import SimpleNamespace

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from cowrie_enrich_dagster.pacing import feedback, gcra, rows
from cowrie_enrich_dagster.pacing.meaning import signs_of
from cowrie_enrich_dagster.pacing.model import Grant, Observation, Policy, Reason, State, Wait
from cowrie_enrich_dagster.pacing.quota_headers import header_quotas
from cowrie_enrich_dagster.pacing.retry_after import get_retry_after_seconds
from cowrie_enrich_dagster.pacing.status import QuotaStatus, quota_status
from cowrie_enrich_dagster.readable import instant
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage

LEAD_S = 0.02
"""How long before its moment a slot is taken, so that the commit does not make the request late."""

POLL_S = 1.0
"""A long wait looks at the row this often: somebody may have stopped the service, or lifted the stop."""

JUMP_S = 0.1
"""The database's clock and ours part by less than this between two looks, unless one of them was set."""

LEADS_S: tuple[float, ...] = (LEAD_S, 4 * LEAD_S, 16 * LEAD_S)
"""How far ahead a late slot is moved, try by try: the database may be slower than it was."""

MAX_LATENESS_S = 1.0
"""A request later than this asks for its slot anew before it is written, however slow the service."""

MIN_LATENESS_S = 0.01
"""And none that is less late, however fast the service: to ask anew takes as long."""


class SlotRefused(Exception):
    """No slot within the caller's patience: it is `wait_s` away, at `retry_at`, because of `reason`."""

    def __init__(self, service: str, wait: Wait) -> None:
        retry_at = datetime.fromtimestamp(wait.until, timezone.utc)
        super().__init__(f"{service}: no request before {instant(retry_at)} ({wait.reason})")
        self.service = service
        self.reason: Reason = wait.reason
        self.retry_at = retry_at
        self.wait_s = wait.seconds


@dataclass(frozen=True)
class Slot:
    """The right to write one request now. `waited_s` is how long it took to get it.

    The grant's moment is one on the database's clock, known on ours only as lying between `due` and
    `not_before`, for asking takes time: it is waited for until the later of the two, and lateness is counted
    from the earlier.
    """

    grant: Grant
    state: State
    due: float
    not_before: float
    waited_s: float = 0.0


class _Offset:
    """By how much the database's clock is ahead of ours, as far as asking for its time can tell."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known = (-math.inf, math.inf)

    def has_jumped(self, asked_at: float, now: float, told_at: float) -> bool:
        """Whether it is another than at the last look: it was `now` there between two moments of ours."""
        least, most = now - told_at, now - asked_at
        with self._lock:
            before, self._known = self._known, (least, most)
        return least > before[1] + JUMP_S or most < before[0] - JUMP_S


class AdaptiveRateLimiter:
    """Gives slots for one service, and learns from the responses what the service really allows.

    Durable and shared: whoever uses the same database and service name has the same budget. A slot is taken
    by `acquire`, looked at by `confirm`, and ends with `mark_sent` or `give_back`: the next one waits for
    that, a quarter of a second beyond its own moment at most. Safe to share between threads, of which one at
    a time waits for the next slot, and the others for their turn. `credential_fingerprint` names the
    credential in use (see `fingerprint`): a refused one blocks only itself. `sleep` and `monotonic` replace
    the process's clock in tests; moments are taken from the database's.
    """

    def __init__(
        self,
        database: Database,
        policy: Policy,
        *,
        credential_fingerprint: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = replace(policy, credential=credential_fingerprint)
        self._database = database
        self._sleep = sleep
        self._monotonic = monotonic
        self._offset = _Offset()
        self._line = threading.Lock()

    def acquire(self, max_wait: float) -> Slot:
        """Block until one request may be written, for at most `max_wait` seconds.

        Raises `SlotRefused` as soon as the wait that is needed exceeds what is left of `max_wait`, and the
        database's error when the database stays away for longer than a restart takes.
        """
        started = self._monotonic()
        # Whoever has no patience left for the line asks once all the same: a slot may be free.
        is_our_turn = self._line.acquire(timeout=min(max(0.0, max_wait), threading.TIMEOUT_MAX))
        try:
            outcome = self._take()
            while isinstance(outcome, Wait):
                if outcome.seconds > started + max_wait - self._monotonic():
                    raise SlotRefused(self.policy.service, outcome)
                outcome = self._after(outcome)
            self._await(outcome)
        finally:
            if is_our_turn:
                self._line.release()
        return replace(outcome, waited_s=self._monotonic() - started)

    def confirm(self, slot: Slot, max_wait: float) -> Slot:
        """Call right before the request is written: a slot that has grown old is taken anew.

        The next slot waits for a late request, but not for ever, and a stop of the service may have come
        meanwhile. Raises what `acquire` raises.
        """
        deadline = self._monotonic() + max_wait
        allowed = min(MAX_LATENESS_S, max(MIN_LATENESS_S, gcra.spacing(slot.state, self.policy) / 2))
        for lead in LEADS_S if gcra.waits_for_the_one_before(slot.state, self.policy) else (0.0,):
            if self._monotonic() - slot.due <= allowed:
                break
            if moved := self._retake(slot, lead):
                slot = moved
                self._await(slot)
            else:
                self.give_back(slot)
                slot = self.acquire(max(0.0, deadline - self._monotonic()))
        return slot

    def _await(self, slot: Slot) -> None:
        """Let the moment of a slot come that was given ahead of it."""
        if (early := slot.not_before - self._monotonic()) > 0:
            try:
                self._sleep(early)
            except BaseException:  # whoever interrupts the sleep takes the caller away
                self.give_back(slot)
                raise

    def give_back(self, slot: Slot) -> None:
        """Call for a slot that will not be used: the quotas get it back, the pace does not.

        Tried once: where the database is away the slot is lost, which errs on the safe side.
        """
        with suppress(DBAPIError), self._database.write() as connection:
            state, now = self._lock(connection)
            if (whole := gcra.given_back(state, slot.grant)) != state:
                rows.store(connection, whole, now)

    def mark_sent(self, slot: Slot) -> Slot:
        """Call right after the request was written: one that was late is counted from this moment."""
        sent_at = slot.grant.at + self._monotonic() - slot.due
        if gcra.sent(slot.state, self.policy, slot.grant, sent_at) is slot.state:
            return slot
        return self._count_sent(slot, sent_at)

    def observe(self, slot: Slot, status_code: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Learn from a response, of whose `body` the beginning is enough. Writes only what is new."""
        now = slot.grant.at + self._monotonic() - slot.due
        clock = partial(datetime.fromtimestamp, now, timezone.utc)
        signs = signs_of(self.policy, status_code, headers, body)
        seen = Observation(
            sent_at=slot.grant.at,
            number=slot.grant.number,
            status=status_code,
            retry_after=get_retry_after_seconds(SimpleNamespace(headers=headers), now=clock),
            quotas=header_quotas(headers, now=clock),
            is_challenge=signs.is_challenge,
            says_used_up=signs.says_used_up,
        )
        if feedback.observe(slot.state, self.policy, now, seen) != slot.state:
            self._learn(seen)

    @survives_outage
    def pause(self, seconds: float) -> None:
        """Leave the service alone for so long: it answers, but nothing that can be used."""
        with self._database.write() as connection:
            state, now = self._lock(connection)
            rows.store(connection, feedback.paused(state, now, seconds), now)

    @survives_outage
    def refuse_credential(self) -> None:
        """Call when an answer turned out to refuse our credential: it is not asked with for an hour."""
        with self._database.write() as connection:
            state, now = self._lock(connection)
            _, why = gcra.held_until(state, self.policy, now)
            if self.policy.blocks_refused and why is not Reason.AUTH_FAILED:
                rows.store(connection, feedback.refused(state, self.policy, now), now)

    @survives_outage
    def snapshot(self) -> QuotaStatus:
        """Where the limit stands now, as this policy and credential see it."""
        with self._database.read() as connection:
            now = self._now(connection)
            state = gcra.after_set_back(rows.load(connection, self.policy.service), now)
        return quota_status(state, self.policy, now)

    def _after(self, wait: Wait) -> Slot | Wait:
        if wait.seconds <= POLL_S:
            self._sleep(max(0.0, wait.seconds - LEAD_S / 2))
            return self._take()
        self._sleep(POLL_S)
        return self._look() or self._take()

    @survives_outage
    def _look(self) -> Wait | None:
        with self._database.read() as connection:
            now = self._now(connection)
            state = rows.load(connection, self.policy.service)
        if gcra.after_set_back(state, now) is not state:
            return None
        _, decision = gcra.decide(state, self.policy, now, lead=LEAD_S)
        return decision if isinstance(decision, Wait) else None

    @survives_outage
    def _take(self) -> Slot | Wait:
        with self._database.write() as connection:
            before = rows.lock(connection, self.policy.service)
            asked_at, now, told_at = self._monotonic(), self._now(connection), self._monotonic()
            state = gcra.after_set_back(before, now)
            if self._offset.has_jumped(asked_at, now, told_at):
                state = gcra.after_jump(state, self.policy, now + LEAD_S)
            if state is not before:
                rows.store(connection, state, now)
            taken, decision = gcra.decide(state, self.policy, now, lead=LEAD_S)
            if isinstance(decision, Wait):
                return decision
            rows.store(connection, taken, now)
        ahead = decision.at - now
        return Slot(decision, taken, due=asked_at + ahead, not_before=told_at + ahead)

    @survives_outage
    def _retake(self, slot: Slot, lead: float) -> Slot | None:
        with self._database.write() as connection:
            state = rows.lock(connection, self.policy.service)
            asked_at, now, told_at = self._monotonic(), self._now(connection), self._monotonic()
            state = gcra.after_set_back(state, now)
            if self._offset.has_jumped(asked_at, now, told_at):
                rows.store(connection, gcra.after_jump(state, self.policy, now), now)
                return None
            taken, grant = gcra.retake(state, self.policy, slot.grant, now + lead)
            if grant is None:
                return None
            rows.store(connection, taken, now)
        return replace(slot, grant=grant, state=taken, due=asked_at + lead, not_before=told_at + lead)

    @survives_outage
    def _count_sent(self, slot: Slot, sent_at: float) -> Slot:
        with self._database.write() as connection:
            state, now = self._lock(connection)
            counted = gcra.sent(state, self.policy, slot.grant, sent_at)
            rows.store(connection, counted, now)
        return replace(slot, grant=replace(slot.grant, at=sent_at), due=slot.due + sent_at - slot.grant.at)

    @survives_outage
    def _learn(self, seen: Observation) -> None:
        with self._database.write() as connection:
            state, now = self._lock(connection)
            learned = feedback.observe(state, self.policy, now, seen)
            if learned != state:
                rows.store(connection, learned, now)

    def _lock(self, connection: Connection) -> tuple[State, float]:
        """The state, nobody else's to change until the transaction ends, and the moment it is looked at."""
        state = rows.lock(connection, self.policy.service)
        now = self._now(connection)
        return gcra.after_set_back(state, now), now

    def _now(self, connection: Connection) -> float:
        return self._database.now(connection).timestamp()
