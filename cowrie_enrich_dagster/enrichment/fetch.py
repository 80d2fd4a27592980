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
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import requests

from cowrie_enrich_dagster.cache import CacheEntry, HybridEnrichmentCache, Unstorable
from cowrie_enrich_dagster.enrichment.claims import ClaimLost, Claims, failure
from cowrie_enrich_dagster.enrichment.knowledge import archive
from cowrie_enrich_dagster.enrichment.queue import ASKED_TTL, CLAIM_TTL, LookupQueue, Outcome
from cowrie_enrich_dagster.pacing import (
    AdaptiveRateLimiter,
    PacedSession,
    Reason,
    SlotRefused,
    Stopped,
    with_retries,
)
from cowrie_enrich_dagster.services import Answer, InvalidAnswer, Service, ServiceConfig
from cowrie_enrich_dagster.storage.engine import Database, patient_until, survives_outage
from cowrie_enrich_dagster.vocabulary import LookupStatus, utc_now

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
PROGRESS_EVERY_S = 5.0
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
    """What one service came to: keys `cached` by tier, keys asked by status, and what is still `pending`.

    `answered_elsewhere` counts the keys that other workers asked meanwhile; `retry_at` is when the next
    pending one is due. `is_refused`: the service does not accept who we say we are.
    """

    service: str
    wanted: int = 0
    api_calls: int = 0
    answered_elsewhere: int = 0
    cached: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    pending: int = 0
    retry_at: datetime | None = None
    stopped_because: str = ""
    is_refused: bool = False
    waited_s: float = 0.0
    elapsed_s: float = 0.0


Progress = Callable[[str, int, int], None]
"""Called with the service, the number of keys done and the number wanted, every few seconds."""


class Fetcher:
    """Workers of this process for one service; one use per instance.

    `max_wait_s` is the run's patience: a slot further away than this defers the rest of the queue.
    """

    def __init__(
        self,
        source: Source,
        database: Database,
        queue: LookupQueue,
        cache: HybridEnrichmentCache,
        *,
        max_wait_s: float,
        respect_retry_after: bool = True,
        progress: Progress | None = None,
    ) -> None:
        self._source = source
        self._name = source.service.name
        self._database = database
        self._queue = queue
        self._cache = cache
        self._max_wait_s = max_wait_s
        self._respect_retry_after = respect_retry_after
        self._progress = progress
        self._worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._claims = Claims(queue, self._name, self._worker)
        self._stop = source.stop
        self._lock = threading.Lock()
        self._faults = 0
        self._refusal: SlotRefused | None = None
        self._chunks: list[Sequence[str] | None] = []
        self._last_progress = time.monotonic()
        self._report = FetchReport(self._name)

    def fetch(self, wanted: Mapping[str, int]) -> FetchReport:
        """Get an answer for each key (key -> priority): ask, or wait for the worker who is asking.

        Returns when every key is closed, or when those that are left cannot be asked within the patience.
        """
        keys = sorted(wanted, key=lambda key: (-wanted[key], key))
        self._report.wanted = len(keys)
        just_answered = list(self._queue.open(self._name, wanted))
        gone = set(just_answered) - set(self._cache.database.fetched_at(self._name, just_answered))
        if gone:
            self._queue.reopen(self._name, gone)
        return self._run(keys)

    def drain(self) -> FetchReport:
        """Ask whatever is due in the queue, for whichever run it was opened."""
        self._report.wanted = self._queue.open_among(self._name).due
        return self._run(None)

    def stop(self) -> None:
        """Make `fetch` or `drain`, in whichever thread it runs, end within seconds; see `Stop.halt`."""
        self._stop.halt()

    def _run(self, keys: Sequence[str] | None) -> FetchReport:
        started = time.monotonic()
        done = threading.Event()
        heartbeat = threading.Thread(target=self._renew_claims, args=(done,), daemon=True)
        heartbeat.start()
        try:
            self._ask_until_closed(keys)
        finally:
            done.set()
            heartbeat.join()
            with patient_until(self._stop.halted):
                self._queue.release(self._worker)
                self._put_off_the_rest()
        left = self._queue.open_among(self._name, keys)
        if left.total and not self._report.stopped_because:
            self._report.stopped_because = self._queue.why_open(self._name, keys)
        self._report.pending = left.total
        self._report.retry_at = left.next_attempt_at if not left.due else None
        answers = sum(self._report.statuses[status] for status in ("found", "not_found"))
        if keys is not None:
            self._report.answered_elsewhere = max(0, len(keys) - answers - left.total)
        self._report.elapsed_s = time.monotonic() - started
        return self._report

    def _put_off_the_rest(self) -> None:
        """Where the limiter refused, the whole queue of the service waits as long as it said; where lookup
        after lookup failed, a minute, as the first of them do."""
        status, reason = LookupStatus.DEFERRED, self._report.stopped_because
        if self._refusal is not None:
            self._report.is_refused = self._refusal.reason is Reason.AUTH_FAILED
            status = LookupStatus.AUTH_FAILED if self._report.is_refused else status
            self._queue.put_off(self._name, status, self._refusal.retry_at, reason)
        elif self._faults >= FAULTS_BEFORE_GIVING_UP:
            self._queue.put_off(self._name, status, utc_now() + FIRST_BACKOFF, reason)

    def _ask_until_closed(self, keys: Sequence[str] | None) -> None:
        left = self._queue.open_among(self._name, keys)
        changed_at = time.monotonic()
        pause = 0.05
        while left.total and not self._is_ending:
            if left.due:
                self._chunks = self._chunked(keys)
                self._work()
            elif left.claimed and keys is not None:
                # Another worker is asking. Should it be dead, its claims expire and become ours.
                if time.monotonic() - changed_at > self._max_wait_s + ASKED_TTL.total_seconds():
                    self._report.stopped_because = "waiting for another worker"
                    return
                with suppress(Interrupted):
                    self._stop.sleep(pause)
                pause = min(pause * 1.5, 1.0)
            else:
                return
            before, left = left, self._queue.open_among(self._name, keys)
            if left != before:
                changed_at, pause = time.monotonic(), 0.05

    @staticmethod
    def _chunked(keys: Sequence[str] | None) -> list[Sequence[str] | None]:
        if keys is None:
            return [None]
        return [keys[start : start + KEYS_PER_CHUNK] for start in range(0, len(keys), KEYS_PER_CHUNK)]

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
                while batch := self._claim():
                    for start in range(0, len(batch), size):
                        if self._is_ending:
                            return
                        keys = batch[start : start + size]
                        http.before_send = partial(self._claims.check, keys)
                        self._ask(http, keys)
            finally:
                with self._lock:
                    self._report.api_calls += http.requests_sent
                    self._report.waited_s += http.waited_s

    def _claim(self) -> list[str]:
        # Where a quota may end the run, no worker holds keys that are worth more than what another asks.
        has_quota = bool(self._source.limiter.policy.windows)
        ahead = 1 if has_quota else self._source.rate * CLAIMED_SECONDS / MAX_WORKERS
        limit = self._source.service.batch_size * min(25, max(1, int(ahead)))
        while not self._is_ending:
            with self._lock:
                if not self._chunks:
                    return []
                chunk = self._chunks[0]
            if keys := self._claims.take(limit, chunk):
                return keys
            with self._lock:
                if self._chunks and self._chunks[0] is chunk:
                    self._chunks.pop(0)
        return []

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
            self._defer_the_rest(refusal)
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

    def _defer_the_rest(self, refusal: SlotRefused) -> None:
        if self._refusal is None or self._refusal.retry_at < refusal.retry_at:
            self._refusal = refusal
        why = f"{refusal.reason} until {refusal.retry_at:%Y-%m-%d %H:%M:%S} UTC"
        # Who has a slot already uses it, unless the service itself told us to stop.
        self._give_up(why, at_once=refusal.reason.is_told)

    def _send(self, http: requests.Session, keys: Sequence[str]) -> Mapping[str, Answer]:
        service, config = self._source.service, self._source.config
        limited: list[Answer] = []

        @with_retries(
            respect_retry_after=self._respect_retry_after, max_wait=self._max_wait_s, sleep=self._stop.sleep
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
        except SlotRefused as refusal:
            if not limited:
                raise
            self._defer_the_rest(refusal)  # these keys were asked: what they got is what they are
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
                archive(self._database, connection, self._name, [entry.key for entry in entries])
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
        return self._refusal is not None or self._stop.is_set()

    def _give_up(self, reason: str, *, at_once: bool = True) -> None:
        with self._lock:
            self._report.stopped_because = self._report.stopped_because or reason
        if at_once:
            self._stop.set()

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
            self._report.is_refused = True
            self._give_up("the service refuses our key or contact address")
        elif faults >= FAULTS_BEFORE_GIVING_UP:
            self._give_up(f"{faults} lookups in a row failed")
        if speak and self._progress:
            self._progress(self._name, done, self._report.wanted)
