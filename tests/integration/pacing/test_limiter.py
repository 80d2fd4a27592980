"""The shared limiter on both databases: exact waits, refusals, durability, and no needless writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import event, update

from cowrie_enrich_dagster.pacing import (
    AdaptiveRateLimiter,
    Policy,
    Reason,
    SlotRefused,
    fingerprint,
    quota,
)
from cowrie_enrich_dagster.pacing.gcra import HOLD_S, TOLD_POLL_S, spacing
from cowrie_enrich_dagster.pacing.limiter import LEAD_S
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import ServiceLimit
from tests.integration.pacing.clock import START, FakeClock

MICROSECOND = 1e-5


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def timed_database(database_url: str, clock: FakeClock) -> Iterator[Database]:
    opened = Database(database_url, clock=clock.now)
    yield opened
    opened.close()


Build = Callable[..., AdaptiveRateLimiter]


@pytest.fixture
def limiter(timed_database: Database, clock: FakeClock) -> Build:
    """Builds another worker's limiter on the same database and clock."""

    def build(credential: str | None = None, **policy: Any) -> AdaptiveRateLimiter:
        return AdaptiveRateLimiter(
            timed_database,
            Policy(**{"service": "service", "rate": 1.0} | policy),
            credential_fingerprint=fingerprint(credential),
            sleep=clock.sleep,
            monotonic=clock.monotonic,
        )

    return build


def answer(worker: AdaptiveRateLimiter, status: int, max_wait: float = 10_000, **headers: str) -> float:
    """Send one request that is answered at once; returns how long its slot was waited for."""
    slot = worker.mark_sent(worker.acquire(max_wait))
    worker.observe(slot, status, {name.replace("_", "-"): value for name, value in headers.items()})
    return slot.waited_s


def test_two_workers_share_one_pace(limiter: Build, clock: FakeClock) -> None:
    """Alternating workers are given slots one spacing apart, to the microsecond."""
    first, second = limiter(), limiter()
    moments = []
    for _ in range(5):
        for worker in (first, second):
            worker.mark_sent(worker.acquire(60))
            moments.append(clock.passed)
    assert moments == [pytest.approx(1.015 * turn, abs=MICROSECOND) for turn in range(10)]


def test_a_slow_answer_of_the_databases_clock_makes_nobody_early(
    timed_database: Database, limiter: Build, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where asking the database for the time takes 15 ms, no slot is used before its moment has come."""
    quick = timed_database.now

    def slow(connection: Any) -> Any:
        clock.passed += 0.015
        return quick(connection)

    monkeypatch.setattr(timed_database, "now", slow)
    worker = limiter()
    for _ in range(3):
        slot = worker.acquire(60)
        assert clock.now().timestamp() >= slot.grant.at - MICROSECOND
        worker.mark_sent(slot)


def test_an_interrupted_wait_costs_no_quota(limiter: Build, clock: FakeClock) -> None:
    """Who is called away while the slot's moment comes gives it back; the next one has it."""
    worker = limiter(windows={"day": 2})
    answer(worker, 200)
    clock.passed += 1.0  # 15 ms before the next slot, which is given ahead of its moment

    def interrupt(passed: float) -> None:
        raise KeyboardInterrupt

    clock.on_nap = interrupt
    with pytest.raises(KeyboardInterrupt):
        worker.acquire(60)
    clock.on_nap = lambda passed: None
    assert answer(worker, 200) > 0
    with pytest.raises(SlotRefused) as caught:
        worker.acquire(60)
    assert caught.value.reason is Reason.DAY_WINDOW


def test_services_do_not_wait_for_each_other(limiter: Build, clock: FakeClock) -> None:
    """Each service has its own row: a stop of one leaves the other at its pace."""
    answer(limiter(), 429)
    other = limiter(service="other")
    assert answer(other, 200) == 0
    assert clock.passed == 0


def test_a_wait_beyond_the_patience_is_refused_at_once(limiter: Build, clock: FakeClock) -> None:
    """Nobody sleeps for two hours: the refusal comes immediately and says why and when to come back."""
    worker = limiter()
    answer(worker, 429, Retry_After="7200")
    with pytest.raises(SlotRefused) as caught:
        worker.acquire(max_wait=120)
    assert clock.naps == []
    refusal = caught.value
    assert (refusal.service, refusal.reason) == ("service", Reason.RATE_LIMITED)
    assert refusal.wait_s == pytest.approx(7201)
    assert refusal.retry_at == START + timedelta(seconds=7201)
    assert str(refusal) == "service: no request before 2026-05-03 14:00:01 UTC (rate_limited)"


def test_patience_that_runs_out_while_waiting_is_a_refusal(limiter: Build, clock: FakeClock) -> None:
    """Another worker takes the slot that was waited for: what is left of the patience decides."""
    slow = limiter(rate=0.1)
    slow.mark_sent(slow.acquire(0))
    thieves: list[float] = []

    def steal(passed: float) -> None:
        if passed > 9 and not thieves:
            thieves.append(passed)
            clock.passed = 10.2
            limiter(rate=0.1).acquire(0)

    clock.on_nap = steal
    with pytest.raises(SlotRefused) as caught:
        slow.acquire(max_wait=15)
    assert thieves
    assert caught.value.reason is Reason.SPACING
    assert clock.passed < 15


@pytest.mark.parametrize("status", [401, 429])
def test_the_ladder_is_exact_and_shared(limiter: Build, clock: FakeClock, status: int) -> None:
    """60, 120, 240 ... 3600 s between refusals, whichever worker meets them; a success starts it anew."""
    workers = [limiter(limit_statuses=frozenset({401, 429})) for _ in range(3)]

    def wait_of(worker: AdaptiveRateLimiter) -> float:
        with pytest.raises(SlotRefused) as caught:
            worker.acquire(max_wait=0)
        clock.passed += caught.value.wait_s
        return caught.value.wait_s

    waits = []
    for turn in range(9):
        assert answer(workers[turn % 3], status, max_wait=0) == 0
        waits.append(wait_of(workers[(turn + 1) % 3]))
    ladder = (60, 120, 240, 480, 960, 1920, 3600, 3600, 3600)
    assert waits == [pytest.approx(step, abs=MICROSECOND) for step in ladder]
    answer(workers[0], 200)
    answer(workers[1], status)
    assert wait_of(workers[2]) == pytest.approx(60, abs=MICROSECOND)


def test_retry_after_in_both_forms_is_obeyed_by_all(limiter: Build) -> None:
    """Seconds and HTTP-date stop the other worker as well, for a second more than asked."""
    first, second = limiter(), limiter()
    answer(first, 429, Retry_After="30")
    assert answer(second, 200) == pytest.approx(31, abs=MICROSECOND)
    date = format_datetime(START + timedelta(seconds=100), usegmt=True)
    answer(first, 429, Retry_After=date, Date=format_datetime(START, usegmt=True))
    assert answer(second, 200) == pytest.approx(101, abs=MICROSECOND)


def test_a_ban_outlives_a_restart_of_everything(limiter: Build, clock: FakeClock, database_url: str) -> None:
    """A new process with a new connection still knows that the service is stopped for two hours."""
    answer(limiter(), 429, Retry_After="7200")
    reopened = Database(database_url, clock=clock.now)
    policy = Policy("service", rate=1.0)
    worker = AdaptiveRateLimiter(reopened, policy, sleep=clock.sleep, monotonic=clock.monotonic)
    with pytest.raises(SlotRefused):
        worker.acquire(max_wait=120)
    clock.passed = 7201
    worker.mark_sent(worker.acquire(max_wait=0))
    reopened.close()


@pytest.mark.parametrize("known", [True, False], ids=["who knows the clock", "a new process"])
@pytest.mark.parametrize("told", [(429, {"Retry-After": "600"}), (401, {})], ids=["limit", "key"])
def test_a_stop_is_no_longer_for_a_clock_that_was_set_back(
    limiter: Build, clock: FakeClock, known: bool, told: tuple[int, dict[str, str]]
) -> None:
    """By an hour, ten minutes into it: it lasts for what was left when it was told, from the setting on,
    however many workers notice; what is learned meanwhile changes nothing in that."""
    options = {"auth_statuses": frozenset({401})}
    first, second = (limiter("key", **options) for _ in range(2))
    slot = first.mark_sent(first.acquire(0))
    second.mark_sent(second.acquire(9))
    first.observe(slot, *told)
    stopped_for = 601.0 if told[0] == 429 else 3600.0
    clock.passed += 500
    clock.set_by -= 3600
    first.pause(1)
    workers = (first, second) if known else (limiter("key", **options), limiter("key", **options))
    for worker in workers:
        with pytest.raises(SlotRefused) as caught:
            worker.acquire(60)
        assert stopped_for - 500 <= caught.value.wait_s <= stopped_for + MICROSECOND
        held_until = worker.snapshot().cooldown_until
        assert held_until == caught.value.retry_at
        clock.passed += 20
    clock.passed += stopped_for - 20
    workers[1].acquire(5)


def test_who_waits_for_a_stop_waits_no_longer_for_a_clock_that_is_set_back(
    limiter: Build, clock: FakeClock
) -> None:
    """Ten minutes were told, and after one the clock is set back by an hour: eleven at most."""
    worker = limiter()
    answer(worker, 429, Retry_After="600")

    def set_back(passed: float) -> None:
        if 60 <= passed < 61:
            clock.set_by = -3600.0

    clock.on_nap = set_back
    assert 600 <= worker.acquire(700).waited_s <= 661 + 2


def test_a_stop_set_while_waiting_is_noticed(limiter: Build, clock: FakeClock) -> None:
    """A worker in the middle of a long wait learns within a second that the service was stopped."""
    slow, other = limiter(rate=0.02), limiter(rate=0.02)
    slot = other.mark_sent(other.acquire(0))
    stopped = []

    def stop(passed: float) -> None:
        if passed >= 20 and not stopped:
            stopped.append(passed)
            other.observe(slot, 503, {"Retry-After": "99"})

    clock.on_nap = stop
    assert slow.acquire(200).waited_s == pytest.approx(stopped[0] + 100, abs=0.01)


def test_a_stop_lifted_while_waiting_is_noticed(
    limiter: Build, clock: FakeClock, timed_database: Database
) -> None:
    """Where an operator lifts a stop, the workers that wait for its end go on within a second."""
    worker = limiter()
    answer(worker, 429)

    def lift(passed: float) -> None:
        if 10 <= passed < 11:
            with timed_database.write() as connection:
                connection.execute(update(ServiceLimit).values(cooldown_until=0.0))

    clock.on_nap = lift
    assert worker.acquire(100).waited_s <= 12


def test_a_refused_key_stops_only_itself(limiter: Build) -> None:
    """After a 401 the old key is refused for an hour, a new one goes at once."""
    options = {"auth_statuses": frozenset({401, 403})}
    old, new = limiter("old-secret", **options), limiter("new-secret", **options)
    answer(old, 401)
    with pytest.raises(SlotRefused) as caught:
        old.acquire(max_wait=120)
    assert caught.value.reason is Reason.AUTH_FAILED
    assert answer(new, 200) == pytest.approx(1.015, abs=MICROSECOND)
    assert old.snapshot().cooldown_reason is Reason.AUTH_FAILED
    assert new.snapshot().cooldown_reason is None


def test_the_stored_fingerprint_does_not_reveal_the_key() -> None:
    """What is stored of a key is 16 digits of its SHA-256; no key has none."""
    print_of = fingerprint("secret")
    assert print_of is not None
    assert len(print_of) == 16
    assert "secret" not in print_of
    assert fingerprint(None) is fingerprint("") is None


def test_plain_successes_write_nothing(limiter: Build, timed_database: Database) -> None:
    """In the steady state a response costs no statement at all, with or without agreeing quota headers."""
    worker = limiter(windows={"day": 500})
    answer(worker, 200, X_RateLimit_Limit="500", X_RateLimit_Remaining="499", X_RateLimit_Reset="43200")
    slot = worker.mark_sent(worker.acquire(10))
    statements: list[str] = []

    @event.listens_for(timed_database.engine, "before_cursor_execute")
    def count(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(statement)

    reset = str(int(43_200 - 1.015))
    worker.observe(slot, 200, {})
    headers = {"X-RateLimit-Limit": "500", "X-RateLimit-Remaining": "498", "X-RateLimit-Reset": reset}
    worker.observe(slot, 200, headers)
    assert statements == []
    worker.observe(slot, 429, {})
    assert statements


def test_an_exhausted_day_is_deferred_without_a_429(limiter: Build) -> None:
    """Remaining 0 refuses the next slot until the reset, before the server has to say no."""
    worker = limiter(windows={"day": 500})
    answer(worker, 200, X_RateLimit_Limit="500", X_RateLimit_Remaining="0", X_RateLimit_Reset="3600")
    with pytest.raises(SlotRefused) as caught:
        worker.acquire(max_wait=120)
    assert caught.value.reason is Reason.DAY_WINDOW
    assert caught.value.wait_s == pytest.approx(3602)


def test_a_slot_that_grew_old_is_taken_anew(limiter: Build, clock: FakeClock) -> None:
    """A sender held up for a second moves its slot when nobody came between, else waits for another one.

    Who comes after it waits until its slot is lost, a quarter of a second beyond its own moment."""
    worker, other = limiter(), limiter()
    slot = worker.acquire(0)
    assert worker.confirm(slot, 0) is slot
    clock.passed += 0.9
    moved = worker.confirm(slot, 0)
    assert moved.grant.at == pytest.approx(slot.grant.at + 0.9 + LEAD_S)
    clock.passed += 1.015
    assert other.mark_sent(other.acquire(1)).waited_s == pytest.approx(0.25 + LEAD_S, abs=LEAD_S)
    with pytest.raises(SlotRefused):
        worker.confirm(moved, max_wait=0.5)
    assert worker.confirm(moved, max_wait=5).waited_s == pytest.approx(1.015, abs=MICROSECOND)


@pytest.mark.parametrize(("rate", "allowed"), [(1000, 0.01), (20, 0.026)])
def test_how_late_a_slot_may_be(limiter: Build, clock: FakeClock, rate: float, allowed: float) -> None:
    """Half of the spacing; where that is less than 10 ms, in which no slot is taken anew, so long."""
    worker = limiter(rate=rate)
    slot = worker.acquire(0)
    clock.passed += allowed - 0.001
    assert worker.confirm(slot, 0) is slot
    clock.passed += 0.002
    moved = worker.confirm(slot, 0)
    assert moved.grant.at > slot.grant.at + allowed


@pytest.mark.parametrize("commit_s", [0.05, 0.2])
@pytest.mark.parametrize("rate", [0.5, 4.0])
def test_a_slow_database_makes_no_request_later_than_half_the_spacing(
    limiter: Build,
    timed_database: Database,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    rate: float,
    commit_s: float,
) -> None:
    """However long it takes to commit, before and between."""
    quick = timed_database.write

    @contextmanager
    def slow() -> Iterator[Any]:
        with quick() as connection:
            yield connection
        clock.passed += commit_s

    monkeypatch.setattr(timed_database, "write", slow)
    worker = limiter(rate=rate)
    for _ in range(5):
        slot = worker.confirm(worker.acquire(60), 60)
        late = clock.now().timestamp() - slot.grant.at
        assert -MICROSECOND <= late <= min(1.0, 1.02 / rate / 2) + MICROSECOND
        worker.mark_sent(slot)


@pytest.mark.parametrize("seconds", [3600, -3600, 10 * 86_400, 0.5], ids=["1 h", "-1 h", "10 d", "0.5 s"])
@pytest.mark.parametrize("burst", [1, 3])
def test_a_clock_that_is_set_makes_no_request_early(
    limiter: Build, clock: FakeClock, seconds: float, burst: int
) -> None:
    """Nobody knows how long ago the last request was: so the next one is a whole spacing away, not more."""
    workers = limiter(burst=burst), limiter(burst=burst)
    sent = []
    for turn in range(16):
        if turn == 8:
            clock.set_by += seconds
        worker = workers[turn % 2]
        worker.mark_sent(worker.acquire(60))
        sent.append(clock.passed)
    after = [later - earlier for earlier, later in pairwise(sent[7:])]
    assert min(after) >= 1.0
    assert sum(after) <= (8 + 2) * 1.015 + 0.1  # each worker notices once


def test_a_request_written_late_counts_from_its_writing(limiter: Build, clock: FakeClock) -> None:
    """A request that left 100 ms after its slot keeps the next one a whole spacing behind it."""
    worker, other = limiter(), limiter()
    slot = worker.acquire(0)
    clock.passed += 0.1
    worker.mark_sent(slot)
    assert other.acquire(60).waited_s == pytest.approx(1.015, abs=MICROSECOND)


def test_the_next_slot_waits_for_a_request_that_has_not_left(limiter: Build, clock: FakeClock) -> None:
    """A sender that the machine holds up for a whole spacing crowds nobody: who comes next waits for it."""
    worker, other = limiter(), limiter()
    slot = worker.confirm(worker.acquire(0), 0)

    def leave(passed: float) -> None:
        nonlocal slot
        if passed > 1.1 and slot.due == 0:
            slot = worker.mark_sent(slot)

    clock.on_nap = leave
    left_at = other.acquire(60).waited_s - spacing(slot.state, worker.policy)
    assert left_at == pytest.approx(slot.due, abs=MICROSECOND)
    assert 1.1 < left_at < 1.13


def test_a_worker_that_dies_with_its_slot_holds_nobody_up_for_long(limiter: Build) -> None:
    """Its request never leaves: the next one goes a quarter of a second later than it would."""
    limiter().acquire(0)
    assert limiter().acquire(60).waited_s == pytest.approx(1.015 + HOLD_S, abs=TOLD_POLL_S)


def test_who_has_no_time_to_stand_in_line_asks_once(database: Database) -> None:
    """While another thread waits for its slot, a refusal says how long it is, and a free slot is given."""
    limiter = AdaptiveRateLimiter(database, Policy("service", rate=0.5, burst=2))
    limiter.mark_sent(limiter.acquire(0))
    with limiter._line:
        limiter.mark_sent(limiter.acquire(0))
        with pytest.raises(SlotRefused) as caught:
            limiter.acquire(0)
    assert caught.value.wait_s > 1


def test_a_slot_given_back_holds_nobody_up(limiter: Build) -> None:
    """Its connection failed: the next one goes a spacing later."""
    worker = limiter()
    worker.give_back(worker.acquire(0))
    assert limiter().acquire(60).waited_s == pytest.approx(1.015, abs=MICROSECOND)


def test_the_ledger_shows_what_is_stored(limiter: Build, timed_database: Database) -> None:
    """Every service that was asked is in the ledger, with its rate, windows, stop and reason."""
    answer(limiter(windows={"day": 500}), 429)
    answer(limiter(service="another", rate=0.5), 200)
    another, service = quota(timed_database)
    assert (another.service, another.effective_rate, another.cooldown_until) == ("another", 0.5, None)
    assert service.cooldown_until == START + timedelta(seconds=60)
    assert service.cooldown_reason is Reason.RATE_LIMITED
    assert (service.configured_rate, service.learned_rate) == (1.0, 0.7)
    assert (service.requests_total, service.limited_total, service.consecutive_failures) == (1, 1, 1)
    assert [(w.used, w.left) for w in service.windows if w.name == "day"] == [(1, 499)]
    assert service == limiter(windows={"day": 500}).snapshot()


def test_a_service_never_asked_has_a_full_quota(limiter: Build) -> None:
    """Looking at a limit neither needs a row nor makes one."""
    status = limiter(windows={"day": 500}).snapshot()
    assert (status.requests_total, status.next_slot_at) == (0, START)
    assert [w.left for w in status.windows if w.name == "day"] == [500]


def test_threads_on_the_real_clock_keep_the_spacing(database: Database) -> None:
    """Eight threads hammering one limiter get slots no closer than the rate allows, and lose hardly any."""
    worker = AdaptiveRateLimiter(database, Policy("service", rate=25.0))
    moments, deadline = [], time.monotonic() + 1.0

    def hammer() -> None:
        while (left := deadline - time.monotonic()) > 0:
            try:
                moments.append(worker.mark_sent(worker.acquire(left)).grant.at)
            except SlotRefused:
                return

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moments.sort()
    assert min(later - earlier for earlier, later in pairwise(moments)) >= 1 / 25
    assert len(moments) >= 15
