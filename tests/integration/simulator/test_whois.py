"""Team Cymru's whois, over TCP on a port of its own, under the same limits, faults and log as the rest."""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit

import pytest
import requests

from cowrie_enrich_dagster.simulator import (
    Fault,
    FixedWindow,
    Limit,
    Simulator,
    SimulatorClient,
    SimulatorProcess,
)


def query(sim: SimulatorClient, *lines: str, timeout: float = 5) -> str:
    """Send lines and read to the end."""
    target = urlsplit(sim.url("cymru"))
    with socket.create_connection((target.hostname, target.port), timeout) as connection:
        connection.sendall("".join(f"{line}\n" for line in lines).encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def bulk(sim: SimulatorClient, *addresses: str, timeout: float = 5) -> str:
    """A bulk query."""
    return query(sim, "begin", "verbose", *addresses, "end", timeout=timeout)


def test_a_list_gets_a_line_each(sim: Simulator) -> None:
    """After a banner: seven columns, or NA, or an error that names the line."""
    banner, *lines = bulk(sim, "1.45.14.166", "100.9.2.3", "x").splitlines()
    assert banner.startswith("Bulk mode; whois.cymru.com [")
    assert [len(line.split("|")) for line in lines] == [7, 7, 1]
    assert [field.strip() for field in lines[0].split("|")][:2] == ["49505", "1.45.14.166"]
    assert lines[0].endswith("SELECTEL, RU")
    assert lines[1].startswith("NA ")
    assert lines[2] == "Error: no ASN or IP match on line 3."


def test_it_is_in_the_log(sim: Simulator) -> None:
    """One request about many keys."""
    bulk(sim, "8.8.8.8", "1.1.1.1")
    (record,) = sim.requests("cymru")
    assert (record.method, record.keys, record.status) == ("WHOIS", ("8.8.8.8", "1.1.1.1"), 200)
    assert record.client_port > 1023


def test_over_the_limit_there_is_silence(sim: Simulator) -> None:
    """The connection closes without a word; the log tells."""
    sim.set_limit("cymru", Limit(rules=(FixedWindow(limit=1, seconds=60),)))
    assert bulk(sim, "8.8.8.8")
    assert bulk(sim, "8.8.8.8") == ""
    assert sim.over_limit("cymru") == 1


def test_faults(sim: Simulator) -> None:
    """Slow, hanging, broken, cut off, about another address."""
    proper = bulk(sim, "8.8.8.8")
    sim.set_fault("cymru", Fault(kind="slow", delay_s=0.2))
    start = time.monotonic()
    assert bulk(sim, "8.8.8.8") == proper
    assert time.monotonic() - start >= 0.2
    sim.set_fault("cymru", Fault(kind="hang", delay_s=5))
    with pytest.raises(TimeoutError):
        bulk(sim, "8.8.8.8", timeout=0.1)
    sim.set_fault("cymru", Fault(kind="reset"))
    with pytest.raises(ConnectionResetError):
        bulk(sim, "8.8.8.8")
    sim.set_fault("cymru", Fault(kind="truncated"))
    assert bulk(sim, "8.8.8.8") == proper[: len(proper) // 2]
    sim.set_fault("cymru", Fault(kind="wrong_key"))
    assert "192.0.2.1" in bulk(sim, "8.8.8.8")
    sim.set_fault("cymru", Fault(kind="reply", status=200, body="NA\n"))
    assert bulk(sim, "8.8.8.8") == "NA\n"


def test_a_caller_that_hangs_up_is_no_request(sim: Simulator) -> None:
    """Half a list is not answered, and harms nobody."""
    target = urlsplit(sim.url("cymru"))
    with socket.create_connection((target.hostname, target.port), 5) as connection:
        connection.sendall(b"begin\nverbose\n8.8.8.8\n")
    assert bulk(sim, "1.1.1.1")
    assert [record.keys for record in sim.requests("cymru")] == [("1.1.1.1",)]


def test_another_process_serves_it_too() -> None:
    """With the same answers."""
    with SimulatorProcess() as one, SimulatorProcess() as other:
        assert one.url("cymru") != other.url("cymru")
        assert bulk(one, "8.8.8.8") == bulk(other, "8.8.8.8") != ""


def test_http_is_not_spoken(sim: Simulator, http: requests.Session) -> None:
    """Its place below the base URL is empty."""
    assert http.get(f"{sim.base_url}/cymru/x", timeout=5).status_code == 404
