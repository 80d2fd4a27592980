"""What one worker holds, and whether it still does: frozen processes, clocks that jump."""

from __future__ import annotations

import pytest

from cowrie_enrich_dagster.lookups.claims import ClaimLost, Claims
from cowrie_enrich_dagster.lookups.model import ASKED_TTL, CLAIM_TTL, Wanted
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from tests.integration.lookups.test_queue import Clock, clock, queue

__all__ = ["clock", "queue"]


def test_a_claim_that_another_has_taken_is_not_asked(queue: LookupQueue, clock: Clock) -> None:
    """Frozen for longer than a claim lives: what others took meanwhile is theirs, the rest is ours again."""
    queue.open("dshield", [Wanted("a", 2), Wanted("b", 1)])
    ours = Claims(queue, "dshield", "frozen")
    assert ours.take(2) == ["a", "b"]
    clock.tick(seconds=CLAIM_TTL.total_seconds() + 1)
    assert queue.claim("dshield", "other", 1) == ["a"]
    with pytest.raises(ClaimLost):
        ours.check(["a"])
    ours.check(["b"])
    assert queue.claim("dshield", "other", 5) == []


def test_a_key_that_is_being_asked_about_is_held_longer(queue: LookupQueue, clock: Clock) -> None:
    """Half a minute between question and answer gives it to nobody else; renewing shortens nothing."""
    queue.open("dshield", [Wanted("a", 1)])
    ours = Claims(queue, "dshield", "frozen")
    ours.take(1)
    ours.check(["a"])
    queue.renew("frozen")
    clock.tick(seconds=30)
    assert queue.claim("dshield", "other", 1) == []
    clock.tick(seconds=ASKED_TTL.total_seconds())
    assert queue.claim("dshield", "other", 1) == ["a"]


def test_a_clock_that_jumps_gives_no_key_to_two_of_our_threads(queue: LookupQueue, clock: Clock) -> None:
    """An hour ahead every claim has run out; our own are ours for all that, until they are done."""
    queue.open("dshield", [Wanted("a", 2), Wanted("b", 1)])
    ours = Claims(queue, "dshield", "w")
    assert ours.take(1) == ["a"]
    clock.tick(hours=1)
    assert ours.take(5) == ["b"]
    ours.check(["a", "b"])
    ours.lost(["a"])
    assert ours.take(5) == ["a"]


def test_a_batch_of_which_a_part_is_lost_is_not_sent(queue: LookupQueue, clock: Clock) -> None:
    """One request is about all of its keys; what of it is ours is given back, and taken anew."""
    queue.open("cymru", [Wanted("a", 2), Wanted("b", 1)])
    ours = Claims(queue, "cymru", "frozen")
    ours.take(2)
    clock.tick(seconds=CLAIM_TTL.total_seconds() + 1)
    assert queue.claim("cymru", "other", 1) == ["a"]
    with pytest.raises(ClaimLost):
        ours.check(["a", "b"])
    ours.lost(["a", "b"])
    assert ours.take(5) == ["b"]


def test_a_clock_that_was_wrong_does_not_lengthen_claims_for_ever(queue: LookupQueue, clock: Clock) -> None:
    """Set back by an hour, a living worker's claims are again as long as they should be."""
    queue.open("dshield", [Wanted("a", 1)])
    clock.tick(hours=1)
    assert queue.claim("dshield", "w", 1) == ["a"]
    clock.tick(hours=-1)
    queue.renew("w")
    clock.tick(seconds=CLAIM_TTL.total_seconds() + 1)
    assert queue.claim("dshield", "other", 1) == ["a"]
