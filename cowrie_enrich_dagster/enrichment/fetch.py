"""Asking one service: claim keys from the queue, send at the pace of the limiter, store what comes back."""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import requests

from cowrie_enrich_dagster.cache import CacheEntry, HybridEnrichmentCache, Unstorable, archive
from cowrie_enrich_dagster.enrichment.claims import ClaimLost, Claims, failure
from cowrie_enrich_dagster.enrichment.queue import (
    ASKED_TTL,
    CLAIM_TTL,
    EVERY_KEY,
    Among,
    LookupQueue,
    OpenLookups,
    Outcome,
    Wanted,
)
from cowrie_enrich_dagster.pacing import (
    AdaptiveRateLimiter,
    PacedSession,
    Reason,
    SlotRefused,
    Stopped,
    with_retries,
)
from cowrie_enrich_dagster.services import OWN_MOMENTS, Answer, InvalidAnswer, Service, ServiceConfig
from cowrie_enrich_dagster.services.feeds import FEEDS
from cowrie_enrich_dagster.storage.engine import Database, patient_until, survives_outage
from cowrie_enrich_dagster.vocabulary import LookupStatus

logger = logging.getLogger(__name__)

MAX_WORKERS = 8
EXPECTED_LATENCY_S = 2.0
CLAIMED_SECONDS = 5.0  # a worker holds about as many keys as it can ask in this time: a kill costs few
KEYS_PER_CHUNK = 500
FAULTS_BEFORE_GIVING_UP = 5
FAULTS = (LookupStatus.ERROR, LookupStatus.INVALID_RESPONSE)
GRACE_S = 2.0
FIRST_BACKOFF = timedelta(minutes=1)
MAX_BACKOFF = timedelta(days=1)
AUTH_BACKOFF = timedelta(hours=1)
FAULT_PAUSE_S = 60.0
PROGRESS_EVERY_S = 5.0
GOAL_EVERY_S = 2.0
"""How often a worker looks whether the keys of its run are closed; less often where looking takes long."""

TIME_IS_OVER = "the run's time is over (ENRICH_MAX_RUN_SECONDS)"
_LEFT_OUT = Answer(LookupStatus.INVALID_RESPONSE, detail="the answer leaves this key out")


class Interrupted(Exception):
    """The run was told to stop while it waited for a slot."""


class Stop:
    """Tells every worker of a run to stop, also those that sleep."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.halted = threading.Event()
        """Set when not even an outage of the database is waited for any more."""
        self._lock = threading.Lock()
        self._aborts: list[Callable[[], None]] = []

    def set(self) -> None:
        """Nothing more is asked; what is on its way comes home."""
        self._event.set()

    def halt(self) -> None:
        """The process is to end: what is on its way has `GRACE_S`, then its connections are broken."""
        self._event.set()
        self.halted.set()
        cutter = threading.Timer(GRACE_S, self._cut)
        cutter.daemon = True
        cutter.start()

    @contextmanager
    def cuts(self, abort: Callable[[], None]) -> Iterator[None]:
        """While the block lasts, `abort` is called when connections are to be broken."""
        with self._lock:
            self._aborts.append(abort)
        try:
            yield
        finally:
            with self._lock:
                self._aborts.remove(abort)

    def _cut(self) -> None:
        with self._lock:
            aborts = list(self._aborts)
        for abort in aborts:
            abort()

    def is_set(self) -> bool:
        return self._event.is_set()

    def sleep(self, seconds: float) -> None:
        """Sleep; raises `Interrupted` as soon as the run is to stop."""
        if self._event.wait(seconds):
            raise Interrupted


@dataclass(frozen=True)
class Source:
    """A service, how we are known to it, the limiter that all share, and what wakes those who wait for it."""

    service: Service
    config: ServiceConfig
    limiter: AdaptiveRateLimiter
    rate: float
    stop: Stop


@dataclass
class FetchReport:
    """What asking one service came to: requests sent, keys asked by status, keys `cached` by tier.

    Of the `wanted` lookups `pending` are still open; `stopped_because` says why, and is empty if none is.
    `is_refused`: the service does not accept who we say we are. `is_out_of_time`: it could go on at once.
    """

    service: str
    wanted: int = 0
    api_calls: int = 0
    cached: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    pending: int = 0
    stopped_because: str = ""
    is_refused: bool = False
    is_out_of_time: bool = False
    waited_s: float = 0.0
    elapsed_s: float = 0.0

    def after(self, before: FetchReport | None) -> FetchReport:
        """This slice together with those before it."""
        if before is None:
            return self
        return replace(
            self,
            wanted=before.wanted,
            api_calls=before.api_calls + self.api_calls,
            cached=before.cached + self.cached,
            statuses=before.statuses + self.statuses,
            waited_s=before.waited_s + self.waited_s,
            elapsed_s=before.elapsed_s + self.elapsed_s,
        )


@dataclass(frozen=True)
class Ending:
    """Why a fetcher asks no further keys.

    `at_once`: also who waits for a slot is called back; else who has one uses it.
    """

    why: str
    at_once: bool = True
    is_refused: bool = False


Progress = Callable[[str, int, int], None]
"""Called with the service, the number of keys done and the number wanted, every few seconds."""


class Fetcher:
    """Workers of this process for one service; one use per instance.

    `max_wait_s` is the run's patience: a slot further away than this ends the fetching. So does the moment
    `until` (of `time.monotonic`), when the run's time is over; what is on its way then is stored.
    """

    def __init__(
        self,
        source: Source,
        database: Database,
        queue: LookupQueue,
        cache: HybridEnrichmentCache,
        *,
        max_wait_s: float,
        until: float = math.inf,
        respect_retry_after: bool = True,
        progress: Progress | None = None,
    ) -> None:
        self._source = source
        self._name = source.service.name
        self._database = database
        self._queue = queue
        self._cache = cache
        self._max_wait_s = max_wait_s
        self._until = until
        self._respect_retry_after = respect_retry_after
        self._progress = progress
        self._worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._claims = Claims(queue, self._name, self._worker)
        self._stop = source.stop
        self._lock = threading.Lock()
        self._faults = 0
        self._ending: Ending | None = None
        self._claim_among = EVERY_KEY
        self._goal: Among | None = None
        self._look_again_at = 0.0
        self._last_progress = time.monotonic()
        self._report = FetchReport(self._name)

    def fetch(self, wanted: Iterable[Wanted]) -> FetchReport:
        """Get an answer for these keys and no others, `KEYS_PER_CHUNK` at a time; see `drain`."""
        wanted = list(wanted)
        self._report.wanted = len(wanted)
        for start in range(0, len(wanted), KEYS_PER_CHUNK):
            chunk = wanted[start : start + KEYS_PER_CHUNK]
            self.open(chunk)
            if not self._is_ending:
                self._claim_among = self._queue.keys(want.key for want in chunk)
                self._run(self._claim_among)
        return self._finished(self._queue.keys(want.key for want in wanted))

    def open(self, wanted: Sequence[Wanted]) -> None:
        """Open lookups, those too whose answer the queue remembers and the cache has lost."""
        answered = list(self._queue.open(self._name, wanted))
        gone = set(answered) - set(self._cache.database.fetched_at(self._name, answered))
        if gone:
            self._queue.reopen(self._name, gone)
            self._queue.open(self._name, [want for want in wanted if want.key in gone])  # as it is worth now

    def drain(self, goal: Among | None = None) -> FetchReport:
        """Ask whatever is due in the queue, in its order, whoever opened it.

        With a `goal` (keys that the caller waits for) until every one of those is closed, waiting for other
        workers that are asking about them; else until nothing is due. Earlier when the service must be left
        alone for longer than the patience, or the time is over.
        """
        self._goal = goal
        self._report.wanted = self._left(goal).total
        self._run(goal)
        return self._finished(goal)

    def stop(self) -> None:
        """Make `fetch` or `drain`, in whichever thread it runs, end within seconds; see `Stop.halt`."""
        self._stop.halt()

    def _left(self, among: Among | None) -> OpenLookups:
        if among is None:
            return self._queue.backlog_of(self._name)
        return self._queue.open_among(self._name, among)

    def _run(self, among: Among | None) -> None:
        started = time.monotonic()
        done = threading.Event()
        heartbeat = threading.Thread(target=self._renew_claims, args=(done,), daemon=True)
        heartbeat.start()
        over: threading.Timer | None = None
        if self._until < math.inf:  # who waits for a retry or a slot then waits no longer
            over = threading.Timer(max(0.0, self._time_left()), self._end, [Ending(TIME_IS_OVER)])
            over.daemon = True
            over.start()
        try:
            self._ask_until_closed(among)
        finally:
            done.set()
            if over:
                over.cancel()
            heartbeat.join()
            with patient_until(self._stop.halted):
                self._queue.release(self._worker)
            self._report.elapsed_s += time.monotonic() - started

    def _finished(self, among: Among | None) -> FetchReport:
        self._report.pending = self._left(among).total
        if self._ending is not None and self._report.pending:
            self._report.stopped_because = self._ending.why
            self._report.is_refused = self._ending.is_refused
            self._report.is_out_of_time = self._ending.why == TIME_IS_OVER
        elif self._report.pending and among is not None:
            self._report.stopped_because = self._queue.why_open(self._name, among)
        return self._report

    def _ask_until_closed(self, among: Among | None) -> None:
        left = self._left(among)
        changed_at = time.monotonic()
        pause = 0.05
        while left.total and not self._is_ending:
            if left.due:
                self._work()
            elif left.claimed and among is not None:
                # Another worker is asking. Should it be dead, its claims expire and become ours.
                if time.monotonic() - changed_at > self._max_wait_s + ASKED_TTL.total_seconds():
                    self._end(Ending("waiting for another worker"))
                    return
                with suppress(Interrupted):
                    self._stop.sleep(min(pause, max(0.0, self._time_left())))
                pause = min(pause * 1.5, 1.0)
            else:
                return
            before, left = left, self._left(among)
            if left != before:
                changed_at, pause = time.monotonic(), 0.05

    def _work(self) -> None:
        workers = min(MAX_WORKERS, max(1, math.ceil(self._source.rate * EXPECTED_LATENCY_S)))
        with ThreadPoolExecutor(workers, thread_name_prefix=f"fetch-{self._name}") as pool:
            futures = [pool.submit(self._worker_loop) for _ in range(workers)]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                self._stop.halt()
                raise

    def _worker_loop(self) -> None:
        size = self._source.service.batch_size
        http = PacedSession(self._source.limiter, max_wait=self._max_wait_s)
        with http, self._stop.cuts(http.abort), patient_until(self._stop.halted):
            try:
                while not self._is_reached() and (batch := self._claim()):
                    for start in range(0, len(batch), size):
                        if self._is_ending:
                            return
                        keys = batch[start : start + size]
                        http.max_wait = self._patience()
                        http.before_send = partial(self._claims.check, keys)
                        self._ask(http, keys)
            finally:
                with self._lock:
                    self._report.api_calls += http.requests_sent
                    self._report.waited_s += http.waited_s

    def _claim(self) -> list[str]:
        if self._is_ending:
            return []
        # Where a quota may end the run, no worker holds keys that are worth more than what another asks.
        has_quota = bool(self._source.limiter.policy.windows)
        ahead = 1 if has_quota else self._source.rate * CLAIMED_SECONDS / MAX_WORKERS
        limit = self._source.service.batch_size * min(25, max(1, int(ahead)))
        return self._claims.take(limit, self._claim_among)

    def _is_reached(self) -> bool:
        """Whether the keys that the run is for are closed, though there is more to ask."""
        if self._goal is None:
            return False
        with self._lock:
            started = time.monotonic()
            if started < self._look_again_at:
                return False
            self._look_again_at = math.inf  # the others need not look meanwhile
        left = self._queue.open_among(self._name, self._goal)
        took = time.monotonic() - started
        with self._lock:
            self._look_again_at = started + max(GOAL_EVERY_S, 5 * took)
        return not (left.due or left.claimed)

    def _time_left(self) -> float:
        return self._until - time.monotonic()

    def _patience(self) -> float:
        return max(0.0, min(self._max_wait_s, self._time_left()))

    def _renew_claims(self, done: threading.Event) -> None:
        with patient_until(self._stop.halted):
            while not done.wait(CLAIM_TTL.total_seconds() / 3):
                try:
                    self._queue.renew(self._worker)
                except Exception:  # noqa: BLE001 (the next beat tries again; a lost claim is not asked)
                    logger.warning("%s: claims could not be renewed", self._name)

    def _ask(self, http: requests.Session, keys: Sequence[str]) -> None:
        try:
            answers: Mapping[str, Answer] = self._send(http, keys)
        except ClaimLost:
            self._claims.lost(keys)
            return
        except (Interrupted, Stopped):
            return
        except SlotRefused as refusal:  # nothing was asked; the keys stay ours until the end of the run
            self._end(self._ending_of(refusal))
            return
        except InvalidAnswer as problem:
            answers = dict.fromkeys(keys, Answer(LookupStatus.INVALID_RESPONSE, detail=str(problem)))
        except requests.RequestException as problem:
            answers = dict.fromkeys(keys, self._failure(problem))
        self._store(keys, answers)
        self._claims.done(keys)
        if any(answer.status is LookupStatus.AUTH_FAILED for answer in answers.values()):
            self._source.limiter.refuse_credential()
        self._count(answers)

    def _send(self, http: requests.Session, keys: Sequence[str]) -> Mapping[str, Answer]:
        service, config = self._source.service, self._source.config
        limited: list[Answer] = []

        @with_retries(
            respect_retry_after=self._respect_retry_after, max_wait=self._patience(), sleep=self._stop.sleep
        )
        def once() -> Mapping[str, Answer]:
            try:
                return service.fetch(keys, http, config)
            except requests.HTTPError as problem:
                failed = self._failure(problem)
                if failed.status is LookupStatus.AUTH_FAILED:  # asking again cannot help
                    return dict.fromkeys(keys, failed)
                limited[:] = [failed] if failed.status is LookupStatus.RATE_LIMITED else []
                raise

        try:
            return once()
        except (SlotRefused, Interrupted) as problem:
            if not limited:
                raise
            if isinstance(problem, SlotRefused):
                self._end(self._ending_of(problem))
            # These keys were asked: what they got is what they are.
            return dict.fromkeys(keys, limited[0])

    def _failure(self, problem: requests.RequestException) -> Answer:
        return failure(problem, self._source.limiter.policy)

    def _store(self, keys: Sequence[str], answers: Mapping[str, Answer]) -> None:
        retry_in = self._retry_delays(keys, answers)

        @survives_outage
        def save() -> list[CacheEntry]:
            entries: list[CacheEntry] = []
            outcomes: list[Outcome] = []
            with self._database.write() as connection:
                now = self._database.now(connection)
                for key in keys:
                    answer = answers.get(key, _LEFT_OUT)
                    if answer.status.is_answer:
                        try:
                            entries.append(self._entry(key, answer, now))
                            outcomes.append(Outcome(key, answer.status, valid_until=entries[-1].expires_at))
                            continue
                        except Unstorable as problem:
                            answer = Answer(LookupStatus.INVALID_RESPONSE, detail=str(problem))
                    if answer.status is LookupStatus.SKIPPED_POLICY:  # the service has nothing on such keys
                        outcomes.append(Outcome(key, answer.status))
                        continue
                    again = now + retry_in.get(key, FIRST_BACKOFF)
                    outcomes.append(Outcome(key, answer.status, next_attempt_at=again, detail=answer.detail))
                if self._name not in FEEDS:  # what a list tells of our addresses was copied out of it
                    replaced = [entry.key for entry in entries]
                    archive(self._database, connection, OWN_MOMENTS, self._name, replaced)
                self._cache.database.store(connection, entries)
                self._queue.finish(connection, self._name, outcomes)
            return entries

        entries = save()
        if entries:
            self._cache.remember(entries)

    def _entry(self, key: str, answer: Answer, now: datetime) -> CacheEntry:
        service = self._source.service
        if answer.status is LookupStatus.FOUND:
            return CacheEntry.of_answer(
                self._name, key, answer.payload or {}, fetched_at=now, ttl=service.ttl
            )
        return CacheEntry.of_answer(self._name, key, None, fetched_at=now, ttl=service.not_found_ttl)

    def _retry_delays(self, keys: Sequence[str], answers: Mapping[str, Answer]) -> dict[str, timedelta]:
        """Who is limited for the first time tries again when the limiter says; the rest back off."""
        failed = [key for key in keys if not answers.get(key, _LEFT_OUT).status.is_answer]
        if not failed:
            return {}
        attempts = self._queue.attempts(self._name, failed)
        pace = self._source.limiter.snapshot()
        delays = {}
        for key in failed:
            status, vain = answers.get(key, _LEFT_OUT).status, min(attempts.get(key, 0), 16)
            if status is LookupStatus.AUTH_FAILED:
                delays[key] = AUTH_BACKOFF
            elif status is LookupStatus.RATE_LIMITED and not vain:
                delays[key] = pace.next_slot_at - pace.as_of
            else:
                delays[key] = min(FIRST_BACKOFF * (1 << vain), MAX_BACKOFF)
        return delays

    @property
    def _is_ending(self) -> bool:
        """Whether no further key is to be asked about."""
        if self._ending is None and self._time_left() <= 0:
            self._end(Ending(TIME_IS_OVER))
        return self._ending is not None or self._stop.is_set()

    def _end(self, ending: Ending) -> None:
        with self._lock:
            self._ending = self._ending or ending
        if ending.at_once:
            self._stop.set()

    def _ending_of(self, refusal: SlotRefused) -> Ending:
        if refusal.wait_s <= self._max_wait_s:  # we would have waited, had there been time
            return Ending(TIME_IS_OVER, at_once=False)
        why = f"{refusal.reason} until {refusal.retry_at:%Y-%m-%d %H:%M:%S} UTC"
        # Who has a slot already uses it, unless the service itself told us to stop.
        refused = refusal.reason is Reason.AUTH_FAILED
        return Ending(why, at_once=refusal.reason.is_told, is_refused=refused)

    def _count(self, answers: Mapping[str, Answer]) -> None:
        statuses = [answer.status for answer in answers.values()]
        with self._lock:
            self._report.statuses.update(status.value for status in statuses)
            done = sum(self._report.statuses.values())
            failed = all(status in FAULTS for status in statuses)
            self._faults = self._faults + 1 if failed else 0
            faults = self._faults
            speak = time.monotonic() - self._last_progress >= PROGRESS_EVERY_S
            if speak:
                self._last_progress = time.monotonic()
        if LookupStatus.AUTH_FAILED in statuses:
            self._end(Ending("the service refuses our key or contact address", is_refused=True))
        elif faults >= FAULTS_BEFORE_GIVING_UP and self._ending is None:
            self._source.limiter.pause(FAULT_PAUSE_S)
            self._end(Ending(f"{FAULTS_BEFORE_GIVING_UP} lookups in a row failed"))
        if speak and self._progress:
            self._progress(self._name, done, self._report.wanted)
