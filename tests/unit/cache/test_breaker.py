"""A circuit breaker on a clock of its own."""

from __future__ import annotations

from cowrie_enrich_dagster.cache.breaker import CircuitBreaker


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_after_a_fault_nobody_calls_until_the_cooldown_is_over_and_then_one() -> None:
    """One try a cooldown, however many callers there are."""
    clock = Seconds()
    breaker = CircuitBreaker(60.0, clock)
    assert breaker.allows()
    assert breaker.failed()
    clock.now += 59.999
    assert not breaker.would_allow
    assert not breaker.allows()
    clock.now += 0.001
    assert breaker.would_allow
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    assert not breaker.failed()  # the same outage goes on
    clock.now += 60
    assert breaker.allows()
    assert breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True, True, True]
    assert not breaker.succeeded()


def test_a_try_that_never_reports_does_not_block_the_next_one() -> None:
    """If the thread that tries dies, another one may after one more cooldown."""
    clock = Seconds()
    breaker = CircuitBreaker(60.0, clock)
    breaker.failed()
    clock.now += 60
    assert breaker.allows()
    clock.now += 60
    assert breaker.allows()
