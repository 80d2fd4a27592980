"""Why a worker stops asking: one reason, and who is woken by it."""

from __future__ import annotations

import threading
import time

import pytest

from cowrie_enrich_dagster.lookups.stop import TIME_IS_OVER, Ending, Interrupted, Stop, Why


def test_the_first_reason_stays() -> None:
    """What comes after it is what follows from it."""
    stop = Stop()
    assert not stop.is_over
    stop.end(Why.HELD, "rate_limited until tomorrow")
    stop.end(Why.FAULTS, "5 lookups in a row failed")
    stop.halt()
    assert stop.is_over
    assert stop.ending == Ending(Why.HELD, "rate_limited until tomorrow")


def test_a_run_whose_time_is_over_says_so() -> None:
    """Without anybody calling it, and also where nothing is slept for."""
    stop = Stop(until=time.monotonic() - 1)
    assert stop.is_over
    assert stop.ending == Ending(Why.TIME_IS_OVER, TIME_IS_OVER)
    with pytest.raises(Interrupted):
        stop.sleep(0)


def test_nobody_sleeps_past_the_end() -> None:
    """Who waits for a slot of the next minute is woken when the run's time is over."""
    stop = Stop(until=time.monotonic() + 0.1)
    stop.sleep(0.01)
    with pytest.raises(Interrupted):
        stop.sleep(60)
    assert stop.ending == Ending(Why.TIME_IS_OVER, TIME_IS_OVER)


@pytest.mark.parametrize(("at_once", "woken"), [(True, True), (False, False)])
def test_only_a_stop_at_once_calls_sleepers_back(at_once: bool, woken: bool) -> None:
    """Else who has a slot already uses it."""
    stop = Stop()
    threading.Timer(0.05, stop.end, [Why.HELD, "quota"], {"at_once": at_once}).start()
    interrupted = False
    try:
        stop.sleep(0.3)
    except Interrupted:
        interrupted = True
    assert interrupted is woken
