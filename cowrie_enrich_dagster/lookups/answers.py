"""What came back from a service, kept: answers in the cache and the history, the rest as a later try.

The cache and the queue are written in one transaction, so that no key is closed without its answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import requests

from cowrie_enrich_dagster.cache import CacheEntry, HybridEnrichmentCache, Unstorable, archive
from cowrie_enrich_dagster.lookups.model import Outcome
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.lookups.source import Source
from cowrie_enrich_dagster.pacing import Meaning, Policy, in_words, meaning_of, signs_of
from cowrie_enrich_dagster.services import OWN_MOMENTS, Answer
from cowrie_enrich_dagster.services.feeds import FEEDS
from cowrie_enrich_dagster.services.lists import is_list
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.vocabulary import LookupStatus

FIRST_BACKOFF = timedelta(minutes=1)
MAX_BACKOFF = timedelta(days=1)
AUTH_BACKOFF = timedelta(hours=1)
_LEFT_OUT = Answer(LookupStatus.INVALID_RESPONSE, detail="the answer leaves this key out")
_STATUSES = {
    Meaning.LIMITED: LookupStatus.RATE_LIMITED,
    Meaning.USED_UP: LookupStatus.RATE_LIMITED,
    Meaning.REFUSED: LookupStatus.AUTH_FAILED,
}


def failure(problem: requests.RequestException, policy: Policy) -> Answer:
    """The answer that a request without one amounts to, in the words of `meaning`."""
    if problem.response is None:
        # Its kind alone: its text may hold a URL, and that a key.
        return Answer(LookupStatus.ERROR, detail=type(problem).__name__)
    response = problem.response
    signs = signs_of(policy, response.status_code, response.headers, response.content)
    status = _STATUSES.get(meaning_of(policy, signs), LookupStatus.ERROR)
    return Answer(status, detail=in_words(policy, signs))


class AnswerStore:
    """Writes what one service said about claimed keys."""

    def __init__(
        self, source: Source, database: Database, queue: LookupQueue, cache: HybridEnrichmentCache
    ) -> None:
        self._source = source
        self._name = source.service.name
        self._database = database
        self._queue = queue
        self._cache = cache

    def store(self, keys: Sequence[str], answers: Mapping[str, Answer]) -> None:
        """Close the lookups of `keys` that are answered, and put off the others; what `answers` leave out
        was no valid answer."""
        told = {key: answers.get(key, _LEFT_OUT) for key in keys}
        retry_in = self._retry_delays(told)
        if entries := self._save(told, retry_in):
            self._cache.remember(entries)

    @survives_outage
    def _save(self, told: Mapping[str, Answer], retry_in: Mapping[str, timedelta]) -> list[CacheEntry]:
        entries: list[CacheEntry] = []
        outcomes: list[Outcome] = []
        with self._database.write() as connection:
            now = self._database.now(connection)
            for key, answer in told.items():
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
            if self._name not in FEEDS and not is_list(
                self._name
            ):  # what a list tells of our addresses was copied out of it
                replaced = [entry.key for entry in entries]
                archive(self._database, connection, OWN_MOMENTS, self._name, replaced)
            self._cache.database.store(connection, entries)
            self._queue.finish(connection, self._name, outcomes)
        return entries

    def _entry(self, key: str, answer: Answer, now: datetime) -> CacheEntry:
        service = self._source.service
        if answer.status is LookupStatus.FOUND:
            return CacheEntry.of_answer(
                self._name, key, answer.payload or {}, fetched_at=now, ttl=service.ttl
            )
        return CacheEntry.of_answer(self._name, key, None, fetched_at=now, ttl=service.not_found_ttl)

    def _retry_delays(self, told: Mapping[str, Answer]) -> dict[str, timedelta]:
        """Who is limited for the first time tries again when the limiter says; the rest back off."""
        failed = {key: answer.status for key, answer in told.items() if not answer.status.is_answer}
        if not failed:
            return {}
        attempts = self._queue.attempts(self._name, list(failed))
        pace = self._source.limiter.snapshot()
        delays = {}
        for key, status in failed.items():
            vain = min(attempts.get(key, 0), 16)
            if status is LookupStatus.AUTH_FAILED:
                delays[key] = AUTH_BACKOFF
            elif status is LookupStatus.RATE_LIMITED and not vain:
                delays[key] = pace.next_slot_at - pace.as_of
            else:
                delays[key] = min(FIRST_BACKOFF * (1 << vain), MAX_BACKOFF)
        return delays
