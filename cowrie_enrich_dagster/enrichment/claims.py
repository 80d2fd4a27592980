"""What one worker holds of the queue, and whether it still does when the bytes of a request are to leave."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import requests

from cowrie_enrich_dagster.enrichment.queue import EVERY_KEY, Among, LookupQueue
from cowrie_enrich_dagster.pacing import Meaning, Policy, in_words, meaning_of, signs_of
from cowrie_enrich_dagster.services import Answer
from cowrie_enrich_dagster.vocabulary import LookupStatus

_STATUSES = {
    Meaning.LIMITED: LookupStatus.RATE_LIMITED,
    Meaning.USED_UP: LookupStatus.RATE_LIMITED,
    Meaning.REFUSED: LookupStatus.AUTH_FAILED,
}


class ClaimLost(Exception):
    """Somebody else has claimed a key meanwhile: we were frozen for longer than a claim lives."""


class Claims:
    """The keys of one service that the threads of one worker hold.

    A claim that has run out, because a clock jumped or the process was frozen, is lost only when another
    worker has taken it; among our own threads a key is never held twice.
    """

    def __init__(self, queue: LookupQueue, service: str, worker: str) -> None:
        self._queue, self._service, self._worker = queue, service, worker
        self._lock = threading.Lock()
        self._held: set[str] = set()

    def take(self, limit: int, among: Among = EVERY_KEY) -> list[str]:
        """Claim up to `limit` due keys; empty where none is left that none of our threads holds."""
        with self._lock:
            keys = self._queue.claim(self._service, self._worker, limit, among=among)
            fresh = [key for key in keys if key not in self._held]
            self._held.update(fresh)
        return fresh

    def check(self, keys: Sequence[str]) -> None:
        """Call right before a request about `keys` is written; raises `ClaimLost`, and gives them back, where
        one of them is ours no longer."""
        if self._queue.still_mine(self._service, self._worker, keys) < set(keys):
            raise ClaimLost

    def lost(self, keys: Sequence[str]) -> None:
        """Give back those of `keys` that are ours, unasked."""
        self._queue.give_back(self._service, self._worker, keys)
        self.done(keys)

    def done(self, keys: Iterable[str]) -> None:
        """Forget keys that were closed or put off."""
        with self._lock:
            self._held.difference_update(keys)


def failure(problem: requests.RequestException, policy: Policy) -> Answer:
    """The answer that a request without one amounts to, in the words of `meaning`."""
    if problem.response is None:
        # Its kind alone: its text may hold a URL, and that a key.
        return Answer(LookupStatus.ERROR, detail=type(problem).__name__)
    response = problem.response
    signs = signs_of(policy, response.status_code, response.headers, response.content)
    status = _STATUSES.get(meaning_of(policy, signs), LookupStatus.ERROR)
    return Answer(status, detail=in_words(policy, signs))
