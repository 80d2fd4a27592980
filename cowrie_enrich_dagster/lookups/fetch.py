"""Asking one service: claim keys from the queue, send at the pace of the limiter, store what comes back."""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import requests

from cowrie_enrich_dagster.cache import HybridEnrichmentCache
from cowrie_enrich_dagster.lookups.answers import AnswerStore, failure
from cowrie_enrich_dagster.lookups.claims import ClaimLost, Claims
from cowrie_enrich_dagster.lookups.model import ASKED_TTL, CLAIM_TTL, EVERY_KEY, Among, OpenLookups, Wanted
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.lookups.source import FetchReport, Source
from cowrie_enrich_dagster.lookups.stop import TIME_IS_OVER, Ending, Interrupted, Why
from cowrie_enrich_dagster.pacing import PacedSession, Reason, SlotRefused, Stopped, with_retries
from cowrie_enrich_dagster.readable import instant
from cowrie_enrich_dagster.services import Answer, InvalidAnswer
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import patient_until
from cowrie_enrich_dagster.vocabulary import LookupStatus, Progress

logger = logging.getLogger(__name__)

MAX_WORKERS = 8
EXPECTED_LATENCY_S = 2.0
CLAIMED_SECONDS = 5.0  # a worker holds about as many keys as it can ask in this time: a kill costs few
KEYS_PER_CHUNK = 500
FAULTS_BEFORE_GIVING_UP = 5
FAULTS = (LookupStatus.ERROR, LookupStatus.INVALID_RESPONSE)
FAULT_PAUSE_S = 60.0
PROGRESS_EVERY_S = 5.0
GOAL_EVERY_S = 2.0
"""How often a worker looks whether the keys of its run are closed; less often where looking takes long."""


class Fetcher:
    """Workers of this process for one service; one use per instance.

    `max_wait_s` is the run's patience: a slot further away than this ends the fetching. So does the source's
    stop, when the run's time is over; what is on its way then is stored.
    """

    def __init__(
        self,
        source: Source,
        database: Database,
        queue: LookupQueue,
        cache: HybridEnrichmentCache,
        *,
        max_wait_s: float,
        progress: Progress | None = None,
    ) -> None:
        self._source = source
        self._name = source.service.name
        self._queue = queue
        self._cache = cache
        self._max_wait_s = max_wait_s
        self._progress = progress
        self._worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._claims = Claims(queue, self._name, self._worker)
        self._answers = AnswerStore(source, database, queue, cache)
        self._stop = source.stop
        self._lock = threading.Lock()
        self._faults = 0
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
            if not self._stop.is_over:
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
        try:
            self._ask_until_closed(among)
        finally:
            done.set()
            heartbeat.join()
            with patient_until(self._stop.halted):
                self._queue.release(self._worker)
            self._report.elapsed_s += time.monotonic() - started

    def _finished(self, among: Among | None) -> FetchReport:
        self._report.pending = self._left(among).total
        if self._report.pending:
            self._report.ending = self._stop.ending or self._put_off(among)
        return self._report

    def _put_off(self, among: Among | None) -> Ending | None:
        waiting = None if among is None else self._queue.why_open(self._name, among)
        if waiting is None:
            return None
        why = Why.REFUSED if waiting.status is LookupStatus.AUTH_FAILED else Why.PUT_OFF
        return Ending(why, f"{waiting.status}: {waiting.detail}" if waiting.detail else str(waiting.status))

    def _ask_until_closed(self, among: Among | None) -> None:
        left = self._left(among)
        changed_at = time.monotonic()
        pause = 0.05
        while left.total and not self._stop.is_over:
            if left.due:
                self._work(left.due)
            elif left.claimed and among is not None:
                # Another worker is asking. Should it be dead, its claims expire and become ours.
                if time.monotonic() - changed_at > self._max_wait_s + ASKED_TTL.total_seconds():
                    self._stop.end(Why.OTHERS, "waiting for another worker")
                    return
                with suppress(Interrupted):
                    self._stop.sleep(pause)
                pause = min(pause * 1.5, 1.0)
            else:
                return
            before, left = left, self._left(among)
            if left != before:
                changed_at, pause = time.monotonic(), 0.05

    def _work(self, due: int) -> None:
        for_rate = max(1, math.ceil(self._source.rate * EXPECTED_LATENCY_S))
        workers = min(MAX_WORKERS, for_rate, math.ceil(due / self._source.service.batch_size))
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
        http.max_body_bytes = self._source.max_body_bytes
        with http, self._stop.cuts(http.abort), patient_until(self._stop.halted):
            try:
                while not self._is_reached() and (batch := self._claim()):
                    for start in range(0, len(batch), size):
                        if self._stop.is_over:
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
        if self._stop.is_over:
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

    def _patience(self) -> float:
        return max(0.0, min(self._max_wait_s, self._stop.time_left()))

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
            self._end_of(refusal)
            return
        except InvalidAnswer as problem:
            answers = dict.fromkeys(keys, Answer(LookupStatus.INVALID_RESPONSE, detail=str(problem)))
        except requests.RequestException as problem:
            answers = dict.fromkeys(keys, self._failure(problem))
        self._answers.store(keys, answers)
        self._claims.done(keys)
        if any(answer.status is LookupStatus.AUTH_FAILED for answer in answers.values()):
            self._source.limiter.refuse_credential()
        self._count(answers)

    def _send(self, http: requests.Session, keys: Sequence[str]) -> Mapping[str, Answer]:
        service, config = self._source.service, self._source.config
        limited: list[Answer] = []

        @with_retries(
            respect_retry_after=self._source.limiter.policy.respect_retry_after,
            max_wait=self._patience(),
            sleep=self._stop.sleep,
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
                self._end_of(problem)
            # These keys were asked: what they got is what they are.
            return dict.fromkeys(keys, limited[0])

    def _failure(self, problem: requests.RequestException) -> Answer:
        return failure(problem, self._source.limiter.policy)

    def _end_of(self, refusal: SlotRefused) -> None:
        """End because the limiter gave no slot within the patience."""
        if refusal.wait_s <= self._max_wait_s:  # we would have waited, had there been time
            self._stop.end(Why.TIME_IS_OVER, TIME_IS_OVER, at_once=False)
            return
        why = Why.REFUSED if refusal.reason is Reason.AUTH_FAILED else Why.HELD
        until = f"{refusal.reason} until {instant(refusal.retry_at)}"
        # Who has a slot already uses it, unless the service itself told us to stop.
        self._stop.end(why, until, at_once=refusal.reason.is_told)

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
            self._stop.end(Why.REFUSED, "the service refuses our key or contact address")
        elif faults >= FAULTS_BEFORE_GIVING_UP and self._stop.ending is None:
            self._source.limiter.pause(FAULT_PAUSE_S)
            self._stop.end(Why.FAULTS, f"{FAULTS_BEFORE_GIVING_UP} lookups in a row failed")
        if speak and self._progress:
            self._progress(self._name, done, self._report.wanted)
