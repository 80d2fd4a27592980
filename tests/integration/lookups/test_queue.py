"""The lookup queue: one row per key, one claim at a time, nothing lost."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from cowrie_enrich_dagster.lookups.model import CLAIM_TTL, LEFT, Outcome, Wanted
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from cowrie_enrich_dagster.vocabulary import LookupStatus
from tests.priority import priority_of

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
    assert queue.told_statuses("dshield", ["a", "b", "c"]) == {"a": statuses["a"]}
    assert queue.backlog()["dshield"].total == 2


def test_claims_stay_within_the_keys_of_the_run(queue: LookupQueue) -> None:
    """A run over one day does not spend its time on another day's backlog."""
    queue.open("dshield", wanted({"mine": 1, "other": 99}))
    assert queue.claim("dshield", "w1", 5, among=queue.keys(["mine", "unknown"])) == ["mine"]


def test_many_workers_never_share_a_key(database: Database) -> None:
    """Eight workers on 400 keys: every key is claimed exactly once, planners opening rows meanwhile.

    Time passes by being looked at, some 6 s in all: who looks for claims that have run out finds none,
    however long this machine lets a thread wait for SQLite's lock. (What a late worker does: `test_claims`.)
    """
    looks = itertools.count()
    database._clock = lambda: START + next(looks) * CLAIM_TTL / 1000
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
    assert next(looks) < 1000
    assert sorted(taken) == sorted(keys)


TODAY, LAST_WEEK = date(2025, 11, 1), date(2025, 10, 25)


def test_worth_goes_before_recency_and_recency_before_business(queue: LookupQueue) -> None:
    """Who got in before who knocked today; of equals who was seen last, then who is busy, then by key."""
    queue.open(
        "dshield",
        [
            Wanted("busy-then", priority_of(sessions=4000), LAST_WEEK),
            Wanted("quiet-now", priority_of(sessions=1), TODAY),
            Wanted("busy-now", priority_of(sessions=50), TODAY),
            Wanted("got-in-then", priority_of(sessions=1, login_successes=1), LAST_WEEK),
            Wanted("left-files-now", priority_of(sessions=1, files=3), TODAY),
            Wanted("a-quiet-now", priority_of(sessions=1), TODAY),
        ],
    )
    order = ["got-in-then", "left-files-now", "busy-now", "a-quiet-now", "quiet-now", "busy-then"]
    assert queue.claim("dshield", "w", 9) == order
    queue.release("w")
    assert [queue.claim("dshield", "w", 1)[0] for _ in order] == order


def asked_for(queue: LookupQueue) -> list[tuple[str, str | None]]:
    query = text("SELECT key, asked_for FROM lookups ORDER BY key")
    with queue._database.read() as connection:
        return [(row.key, row.asked_for) for row in connection.execute(query)]


def test_a_lookup_says_what_it_is_asked_for_this_time(queue: LookupQueue, clock: Clock) -> None:
    """Open or closed, it takes the purpose of who opens it last, and is worth what that is worth."""
    queue.open("dshield", [Wanted("a", 9, TODAY, "x,y"), Wanted("b", 8, TODAY, "x,y"), Wanted("c", 7, TODAY)])
    assert asked_for(queue) == [("a", "x,y"), ("b", "x,y"), ("c", None)]
    queue.open("dshield", [Wanted("a", 4, TODAY, "y"), Wanted("b", 5, TODAY, "x,y"), Wanted("c", 3, TODAY)])
    assert asked_for(queue) == [("a", "y"), ("b", "x,y"), ("c", None)]
    assert queue.claim("dshield", "w", 3) == ["b", "c", "a"]  # the same purpose never falls
    expires = clock.now + timedelta(days=1)
    finish(queue, *(Outcome(key, FOUND, valid_until=expires) for key in "abc"))
    queue.open("dshield", [Wanted(key, 1, TODAY, "z") for key in "abc"])
    assert asked_for(queue) == [("a", "y"), ("b", "x,y"), ("c", None)]  # answered: nobody asks
    clock.tick(days=2)
    queue.open("dshield", [Wanted("a", 1, TODAY, "z"), Wanted("b", 1, TODAY), Wanted("c", 1, TODAY, "x")])
    assert asked_for(queue) == [("a", "z"), ("b", None), ("c", "x")]


def test_another_purpose_never_takes_a_key_out_of_its_class(queue: LookupQueue) -> None:
    """A plan of another day knows nothing of who got in on this one, or that it is more than was known."""
    got_in, quiet = priority_of(sessions=3, login_successes=1), priority_of(sessions=9)
    queue.open("dshield", [Wanted("a", got_in, TODAY, "x,y"), Wanted("b", quiet, TODAY, "x,y")])
    queue.open("dshield", [Wanted("a", quiet, TODAY, "x"), Wanted("b", got_in, TODAY, "x")])
    with queue._database.read() as connection:
        rows = connection.execute(text("SELECT key, value_class, priority FROM lookups ORDER BY key"))
        assert [tuple(row) for row in rows] == [("a", 2, 10_009), ("b", 2, got_in)]


def test_a_key_that_is_seen_again_rises(queue: LookupQueue) -> None:
    """What is open already takes the newer day and the higher worth, and never a lower one."""
    queue.open("dshield", [Wanted("a", 1, LAST_WEEK), Wanted("b", 1, LAST_WEEK), Wanted("c", 1, LAST_WEEK)])
    queue.open("dshield", [Wanted("b", 1, TODAY), Wanted("c", 10_001, LAST_WEEK)])
    queue.open("dshield", [Wanted("b", 0, date(2025, 1, 1)), Wanted("c", 0, date(2025, 1, 1))])
    assert queue.claim("dshield", "w", 9) == ["c", "b", "a"]


def test_a_refresh_comes_after_all_first_answers_of_its_class(queue: LookupQueue, clock: Clock) -> None:
    """What is known, however recent and busy, waits for what nobody knows; a higher class does not."""
    queue.open("dshield", [Wanted("known", 4_000, TODAY), Wanted("known-intruder", 10_001, TODAY)])
    queue.claim("dshield", "w", 2)
    until = clock.now + timedelta(days=7)
    finish(queue, *(Outcome(key, FOUND, valid_until=until) for key in ("known", "known-intruder")))
    queue.reopen("dshield", ["known", "known-intruder"], is_refresh=True)
    queue.open("dshield", [Wanted("new", 1, LAST_WEEK), Wanted("new-intruder", 10_000, LAST_WEEK)])
    assert queue.claim("dshield", "w", 9) == ["new-intruder", "known-intruder", "new", "known"]


def test_an_expired_answer_that_is_wanted_again_is_a_refresh(queue: LookupQueue, clock: Clock) -> None:
    """A run that meets an expired answer asks for it after what it has never known."""
    queue.open("dshield", [Wanted("expired", 9, TODAY)])
    queue.claim("dshield", "w", 1)
    finish(queue, Outcome("expired", FOUND, valid_until=clock.now + timedelta(hours=1)))
    clock.tick(hours=2)
    queue.open("dshield", [Wanted("expired", 9, TODAY), Wanted("new", 1, LAST_WEEK)])
    assert queue.claim("dshield", "w", 9) == ["new", "expired"]


def test_counts_follow_every_way_a_lookup_is_opened_and_closed(
    database: Database, queue: LookupQueue, clock: Clock
) -> None:
    """Opened, answered, failed, closed, reopened, deleted by hand: `backlog` is what a count says."""

    def check() -> None:
        with database.read() as connection:
            query = text("SELECT count(*) FROM lookups WHERE next_attempt_at IS NOT NULL")
            expected = connection.execute(query).scalar_one()
        assert queue.backlog_of("dshield").total == expected
        queue.counts.fold()
        assert queue.backlog_of("dshield").total == expected

    queue.open("dshield", [Wanted(f"k{n}", n, TODAY) for n in range(20)])
    check()
    queue.open("dshield", [Wanted(f"k{n}", 30, TODAY) for n in range(15, 25)])
    check()
    claimed = queue.claim("dshield", "w", 6)
    check()
    later = clock.now + timedelta(days=1)
    finish(queue, *(Outcome(key, FOUND, valid_until=later) for key in claimed[:3]))
    finish(queue, *(Outcome(key, LookupStatus.ERROR, next_attempt_at=later) for key in claimed[3:]))
    check()
    left = queue.backlog_of("dshield")
    assert (left.due, left.claimed, left.later, left.next_attempt_at) == (19, 0, 3, later)
    with database.write() as connection:
        queue.close(connection, ["k1", "k2", "unknown"], LookupStatus.SKIPPED_POLICY, claimed=True)
    check()
    queue.reopen("dshield", claimed)
    check()
    with database.write() as connection:
        connection.execute(text("DELETE FROM lookups WHERE key = 'k3'"))
    check()


def test_only_what_was_just_seen_counts_as_arriving(queue: LookupQueue, clock: Clock) -> None:
    """A backfill of last week comes once; today's and yesterday's keys tell how much comes in a day."""
    queue.open("dshield", [Wanted(f"old{n}", 1, LAST_WEEK) for n in range(500)])
    queue.open("dshield", [Wanted(f"new{n}", 1, TODAY) for n in range(30)])
    clock.tick(days=1)
    queue.open("dshield", [Wanted(f"next{n}", 1, TODAY + timedelta(days=1)) for n in range(50)])
    clock.tick(days=1)
    volume = queue.counts.volumes()["dshield"]
    assert volume.open == 580
    assert volume.per_day == 40
    clock.tick(days=4)
    queue.open("dshield", [Wanted(f"burst{n}", 1, TODAY + timedelta(days=6)) for n in range(900)])
    clock.tick(days=1)
    assert queue.counts.volumes()["dshield"].per_day == 0  # most of those seven days were quiet


def test_what_nobody_has_seen_for_a_month_leaves_unasked(queue: LookupQueue, clock: Clock) -> None:
    """It is closed with that reason; what was seen again, tried, or opened just now, stays."""
    queue.open("dshield", [Wanted(key, 1, LAST_WEEK) for key in ("gone", "seen-again", "tried")])
    queue.claim("dshield", "w", 1, among=queue.keys(["tried"]))
    finish(queue, Outcome("tried", LookupStatus.ERROR, next_attempt_at=clock.now))
    clock.tick(days=31)
    queue.open("dshield", [Wanted("seen-again", 1, clock.now.date()), Wanted("backfilled", 1, LAST_WEEK)])
    assert queue.leave() == {"dshield": 1}
    assert queue.statuses("dshield", ["gone"])["gone"] == (DEFERRED, LEFT)
    assert queue.told_statuses("dshield", ["gone", "backfilled"]) == {"gone": (DEFERRED, LEFT)}
    assert queue.backlog_of("dshield").total == 3
    queue.open("dshield", [Wanted("gone", 1, clock.now.date())])
    assert queue.claim("dshield", "w", 1) == ["gone"]


def test_news_is_told_until_it_is_written(queue: LookupQueue, clock: Clock) -> None:
    """How a lookup ended is news once; one that ended anew while it was being written is news again."""
    queue.open("dshield", wanted({"a": 1, "b": 1}))
    queue.claim("dshield", "w", 2)
    finish(queue, Outcome("a", LookupStatus.ERROR, next_attempt_at=clock.now))
    (told,) = queue.news(["dshield"], 10)
    assert told.key == "a"
    assert queue.news(["spur"], 10) == []
    clock.tick(seconds=1)
    finish(queue, Outcome("a", FOUND, valid_until=clock.now + timedelta(days=1)))
    with queue._database.write() as connection:
        queue.written(connection, [told])
    (again,) = queue.news(["dshield"], 10)
    with queue._database.write() as connection:
        queue.written(connection, [again])
    assert queue.news(["dshield"], 10) == []


def test_a_row_that_stays_as_it_is_is_not_written(database: Database, queue: LookupQueue) -> None:
    """A run over days that are planned already costs the queue no writes (no bloat)."""
    lot = [Wanted(f"k{n}", n, TODAY) for n in range(10)]
    queue.open("dshield", lot)
    if database.is_sqlite:
        changes = "SELECT total_changes()"
        with database.write() as connection:
            before = connection.execute(text(changes)).scalar_one()
        queue.open("dshield", lot)
        with database.write() as connection:
            assert connection.execute(text(changes)).scalar_one() == before
        return
    with database.read() as connection:
        before = connection.execute(text("SELECT key, xmin::text FROM lookups ORDER BY key")).all()
    queue.open("dshield", lot)
    with database.read() as connection:
        assert connection.execute(text("SELECT key, xmin::text FROM lookups ORDER BY key")).all() == before


def test_opening_again_costs_what_it_reads(tmp_path: Path) -> None:
    """A live day opens all its keys anew every quarter of an hour: no key is compared with every other.

    4,000 keys against 1,000, in steps of SQLite's virtual machine: as many times as much, not its square.
    """
    steps = []
    for number in (1_000, 4_000):
        with closing(Database(f"sqlite:///{tmp_path}/{number}.db")) as database:
            upgrade(database)
            queue = LookupQueue(database)
            rows = [Wanted(f"{key}", 1, date(2025, 11, 1)) for key in range(number)]
            queue.open("dshield", rows)
            with counted_steps(database) as count:
                queue.open("dshield", [row._replace(priority=2) for row in rows])
            steps.append(count())
            assert queue.backlog()["dshield"].total == number
    assert steps[1] < 8 * steps[0]


@contextmanager
def counted_steps(database: Database) -> Iterator[Callable[[], int]]:
    """The steps, by the thousand, that SQLite takes for the transactions within."""
    ticks: list[None] = []
    engine = database.engine

    def count(connection: Any, *_: object) -> None:
        connection.connection.driver_connection.set_progress_handler(lambda: ticks.append(None), 100)

    event.listen(engine, "begin", count)
    yield lambda: len(ticks)
    event.remove(engine, "begin", count)


def test_a_failure_that_comes_late_reopens_nothing(database: Database) -> None:
    """Its key was listed as our own, or answered by another, while the request was on its way."""
    queue = LookupQueue(database)
    queue.open("dshield", [Wanted("a")])
    assert queue.claim("dshield", "w", 1) == ["a"]
    with database.write() as connection:
        queue.close(connection, ["a"], LookupStatus.SKIPPED_POLICY, claimed=True)
    again = datetime.now(timezone.utc)
    with database.write() as connection:
        queue.finish(connection, "dshield", [Outcome("a", LookupStatus.ERROR, next_attempt_at=again)])
    assert queue.backlog() == {}
    assert queue.claim("dshield", "w", 1) == []
