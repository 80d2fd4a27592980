"""Requests end at their deadlines, each at its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

from cowrie_enrich_dagster.pacing.flight import DeadlineExceeded, Flight

FORKED = """
import os, time
from cowrie_enrich_dagster.pacing.flight import DeadlineExceeded, Flight

with Flight(60):  # the thread that looks after them is there
    child = os.fork()
    if child == 0:
        with Flight(0.05) as flight:
            time.sleep(0.5)
            try:
                flight.check()
            except DeadlineExceeded:
                os._exit(7)
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_each_is_broken_off_at_its_own_deadline() -> None:
    """Whatever the order in which they began; one whose time stands still is not."""
    pairs = [socket.socketpair() for _ in range(4)]
    seconds = (60.0, 0.3, 0.1, 0.2)
    flights = [Flight(each) for each in seconds]
    began = time.monotonic()
    for flight, (ours, _) in zip(flights, pairs, strict=True):
        flight.start()
        flight.carry(ours)
    flights[3].pause()
    for number in (2, 1):
        assert pairs[number][0].recv(1) == b""  # it blocks until then
        assert time.monotonic() - began >= seconds[number]
        with pytest.raises(DeadlineExceeded):
            flights[number].check()
    flights[0].check()
    flights[3].check()
    assert flights[3].left() > 0.1
    for flight, pair in zip(flights, pairs, strict=True):
        flight.__exit__()
        for end in pair:
            end.close()


def test_a_process_that_was_forked_has_deadlines_too() -> None:
    """The thread that looks after them is not in it."""
    result = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "7", result.stderr
