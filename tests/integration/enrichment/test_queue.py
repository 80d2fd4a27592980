"""The lookup queue: one row per key, one claim at a time, nothing lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest

from cowrie_enrich_dagster.enrichment.queue import CLAIM_TTL, LEFT, LookupQueue, Outcome, Wanted
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.vocabulary import LookupStatus

START = datetime(2025, 11, 1, tzinfo=timezone.utc)
FOUND, DEFERRED = LookupStatus.FOUND, LookupStatus.DEFERRED


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def tick(self, **delta: float) -> None:
        self.now += timedelta(**delta)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(database: Database, clock: Clock) -> LookupQueue:
    database._clock = clock
    return LookupQueue(database)


def wanted(priorities: dict[str, int]) -> list[Wanted]:
    return [Wanted(key, priority) for key, priority in priorities.items()]


def finish(queue: LookupQueue, *outcomes: Outcome) -> None:
    with queue._database.write() as connection:
        queue.finish(connection, "dshield", outcomes)


def test_the_most_valuable_keys_are_claimed_first(queue: LookupQueue) -> None:
    """Claims follow priority, and reopening with a higher priority raises it."""
    queue.open("dshield", wanted({"a": 1, "b": 5, "c": 3}))
    queue.open("dshield", wanted({"a": 9, "b": 2}))
    assert queue.claim("dshield", "w1", 2) == ["a", "b"]
    assert queue.claim("dshield", "w1", 2) == ["c"]
    assert queue.claim("dshield", "w1", 2) == []


def test_claims_of_a_dead_worker_expire_and_a_living_one_keeps_them(queue: LookupQueue, clock: Clock) -> None:
    """A worker that renews keeps its keys; one that does not loses them after the claim's life."""
    queue.open("dshield", wanted({"a": 1, "b": 1}))
    assert queue.claim("dshield", "dead", 1) == ["a"]
    assert queue.claim("dshield", "living", 1) == ["b"]
    clock.tick(seconds=20)
    queue.renew("living")
    clock.tick(seconds=CLAIM_TTL.total_seconds() - 19)
    assert queue.claim("dshield", "third", 5) == ["a"]


def test_released_claims_are_free_at_once(queue: LookupQueue) -> None:
    """A cancelled worker gives its keys back without an attempt being counted."""
    queue.open("dshield", wanted({"a": 1}))
    queue.claim("dshield", "w1", 1)
    queue.release("w1")
    assert queue.claim("dshield", "w2", 1) == ["a"]
    assert queue.attempts("dshield", ["a"]) == {"a": 0}


def test_an_answered_key_is_not_reopened_until_its_answer_expires(queue: LookupQueue, clock: Clock) -> None:
    """The planner that looked into the cache a moment too early does not cause a second call."""
    queue.open("dshield", wanted({"a": 1}))
    queue.claim("dshield", "w1", 1)
    finish(queue, Outcome("a", FOUND, valid_until=clock.now + timedelta(days=7)))
    assert queue.open("dshield", wanted({"a": 1, "b": 1})) == {"a"}
    assert queue.claim("dshield", "w2", 5) == ["b"]
    clock.tick(days=7)
    assert queue.open("dshield", wanted({"a": 1})) == set()
    assert queue.claim("dshield", "w2", 5, among=queue.keys(["a"])) == ["a"]


def test_a_row_whose_answer_vanished_can_be_reopened(queue: LookupQueue, clock: Clock) -> None:
    """After a purge of the cache the queue does not insist on an answer that is gone."""
    queue.open("dshield", wanted({"a": 1}))
    queue.claim("dshield", "w1", 1)
    finish(queue, Outcome("a", FOUND, valid_until=clock.now + timedelta(days=7)))
    queue.reopen("dshield", ["a"])
    assert queue.claim("dshield", "w2", 5) == ["a"]


def test_deferred_lookups_wait_for_their_time_and_count_no_attempt(queue: LookupQueue, clock: Clock) -> None:
    """Being refused a slot is no attempt; the key is due exactly at its next attempt."""
    queue.open("dshield", wanted({"a": 1}))
    queue.claim("dshield", "w1", 1)
    due = clock.now + timedelta(hours=2)
    finish(queue, Outcome("a", DEFERRED, next_attempt_at=due))
    rows = queue.backlog_of("dshield")
    assert (rows.due, rows.claimed, rows.later, rows.next_attempt_at) == (0, 0, 1, due)
    clock.tick(hours=1, minutes=59)
    assert queue.claim("dshield", "w1", 1) == []
    clock.tick(minutes=1)
    assert queue.claim("dshield", "w1", 1) == ["a"]
    assert queue.attempts("dshield", ["a"]) == {"a": 0}


def test_failed_lookups_stay_open_with_their_reason(queue: LookupQueue, clock: Clock) -> None:
    """An error keeps the row open, counts the attempt and shows in the statuses."""
    queue.open("dshield", wanted({"a": 1, "b": 1}))
    queue.claim("dshield", "w1", 1)
    outcome = Outcome(
        "a", LookupStatus.ERROR, next_attempt_at=clock.now + timedelta(minutes=1), detail="timeout"
    )
    finish(queue, outcome)
    assert queue.attempts("dshield", ["a", "b"]) == {"a": 1, "b": 0}
    statuses = queue.statuses("dshield", ["a", "b", "c"])
    assert {key: last.status for key, last in statuses.items()} == {"a": LookupStatus.ERROR, "b": DEFERRED}
    assert queue.backlog()["dshield"].total == 2


def test_claims_stay_within_the_keys_of_the_run(queue: LookupQueue) -> None:
    """A run over one day does not spend its time on another day's backlog."""
    queue.open("dshield", wanted({"mine": 1, "other": 99}))
    assert queue.claim("dshield", "w1", 5, among=queue.keys(["mine", "unknown"])) == ["mine"]


def test_many_workers_never_share_a_key(database: Database) -> None:
    """Eight workers on 400 keys: every key is claimed exactly once, planners opening rows meanwhile."""
    queue = LookupQueue(database)
    keys = {f"10.0.{n // 256}.{n % 256}": n % 7 for n in range(400)}
    queue.open("dshield", wanted(keys))
    taken: list[str] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        own = LookupQueue(database)
        while True:
            batch = own.claim("dshield", f"w{number}", 7)
            if not batch:
                return
            with lock:
                taken.extend(batch)
            own.open("dshield", reversed(wanted(keys)))
            own.renew(f"w{number}")
            with database.write() as connection:
                until = database.now(connection) + timedelta(days=1)
                own.finish(connection, "dshield", [Outcome(key, FOUND, valid_until=until) for key in batch])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert sorted(taken) == sorted(keys)
