"""The log is complete, and other processes can drive the simulator."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import requests

from cowrie_enrich_dagster.simulator import (
    Fault,
    Limit,
    Simulator,
    SimulatorClient,
    SimulatorConfig,
    SimulatorProcess,
    TokenBucket,
    max_in_sliding_window,
)
from tests import warm
from tests.integration.simulator.conftest import AGENT, Get

RATE = TokenBucket(per_minute=600)


def hammer(base_url: str, name: str, clients: int) -> Counter[int]:
    """Wait for all clients, then ask 250 times without pause; gives how often each status was the answer."""
    sim = SimulatorClient(base_url)
    seen: Counter[int] = Counter()
    with requests.Session() as http:
        http.trust_env = False
        http.headers["User-Agent"] = f"{name} (+tests@example.org)"
        http.get(sim.url("ready"), timeout=5)
        while len(sim.requests("ready")) < clients:
            time.sleep(0.02)
        for n in range(250):
            seen[http.get(f"{sim.url('dshield')}/ip/9.9.{n}.9?json", timeout=5).status_code] += 1
    return seen


def test_nothing_is_lost_under_four_processes(tmp_path: Path) -> None:
    """Each client's own count is in the log; a strict bucket admitted exactly what its rate allows."""
    log_file = tmp_path / "requests.jsonl"
    names = [f"client-{n}" for n in range(4)]
    config = SimulatorConfig(limits={"dshield": Limit(rules=(RATE,))})
    with (
        SimulatorProcess(config, log_file=log_file) as sim,
        ProcessPoolExecutor(4, mp_context=warm.context()) as pool,
    ):
        futures = [pool.submit(hammer, sim.base_url, name, len(names)) for name in names]
        seen = {name: future.result() for name, future in zip(names, futures, strict=True)}
        everything = sim.requests()

    records = [record for record in everything if record.service == "dshield"]
    logged = {
        name: Counter(r.status for r in records if r.user_agent.startswith(f"{name} ")) for name in names
    }
    assert logged == seen
    assert len(records) == 1000
    assert [r.t for r in records] == sorted(r.t for r in records)

    free_at = 0.0
    for record in records:
        assert record.over_limit == (record.status == 429) == (record.t < free_at - 1e-6)
        if not record.over_limit:
            free_at = record.t + 0.1
    assert len({record.client_port for record in records}) == 4

    lines = [json.loads(line) for line in log_file.read_text().splitlines()]
    assert [line["t"] for line in lines] == [record.t for record in everything]


def test_a_record_says_all_that_is_judged_by(sim: Simulator, get: Get) -> None:
    """Arrival on both clocks, who asked for what, and what was said."""
    before = time.monotonic(), time.time()
    get("8.8.8.8")
    (record,) = sim.requests("dshield")
    assert before[0] <= record.t <= time.monotonic()
    assert before[1] - 0.01 <= record.wall <= time.time() + 0.01
    assert (record.service, record.keys, record.status) == ("dshield", ("8.8.8.8",), 200)
    assert (record.method, record.path, record.user_agent) == ("GET", "/ip/8.8.8.8?json", AGENT)
    assert (record.over_limit, record.fault) == (False, None)
    assert record.client_port > 1023


def test_a_request_is_in_the_log_before_its_answer(sim: Simulator, http: requests.Session) -> None:
    """Even one that is never answered, and one for a service that does not exist."""
    sim.set_fault("dshield", Fault(kind="hang", delay_s=1))
    with pytest.raises(requests.ReadTimeout):
        http.get(sim.url("dshield") + "/ip/1.1.1.1?json", timeout=0.05)
    assert http.get(sim.url("nosuch") + "/x", timeout=5).status_code == 404
    assert [(r.service, r.status) for r in sim.requests()] == [("dshield", None), ("nosuch", 404)]


def test_the_log_file_survives_a_kill(tmp_path: Path, http: requests.Session) -> None:
    """A simulator killed with SIGKILL has every request in its file."""
    log_file = tmp_path / "requests.jsonl"
    with SimulatorProcess(log_file=log_file) as sim:
        for n in range(20):
            http.get(f"{sim.url('dshield')}/ip/1.2.3.{n}?json", timeout=5)
        sim.process.kill()
        sim.process.wait()
    assert [json.loads(line)["keys"] for line in log_file.open()] == [[f"1.2.3.{n}"] for n in range(20)]


def test_calls_per_key(sim: Simulator, get: Get) -> None:
    """Every call counts, whatever came back."""
    sim.set_fault("dshield", Fault(kind="reply", times=1))
    for ip in ("1.1.1.1", "1.1.1.1", "8.8.8.8"):
        get(ip)
    assert sim.calls_per_key("dshield") == {"1.1.1.1": 2, "8.8.8.8": 1}


def test_the_fullest_window_is_found() -> None:
    """A window is half-open: two requests exactly its length apart are not both inside."""
    assert max_in_sliding_window([], 1) == 0
    assert max_in_sliding_window([0.0, 1.0, 2.0], 1) == 1
    assert max_in_sliding_window([0.0, 0.9, 1.0, 1.8, 1.89, 5.0], 1) == 4


def test_a_connection_is_kept_alive(sim: Simulator, get: Get) -> None:
    """Many requests, proper and refused, over one connection."""
    sim.set_limit("dshield", Limit(rules=(TokenBucket(per_minute=1, burst=3),)))
    for _ in range(6):
        get()
    assert len({record.client_port for record in sim.requests()}) == 1


def test_pipelined_and_split_requests_are_all_answered(sim: Simulator) -> None:
    """Two requests in one packet and one in two packets: three answers, three records."""
    request = f"GET /dshield/ip/1.1.1.1?json HTTP/1.1\r\nHost: x\r\nUser-Agent: {AGENT}\r\n\r\n".encode()
    port = int(sim.base_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request * 2 + request[:40])
        time.sleep(0.05)
        connection.sendall(request[40:])
        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 3 or not received.endswith(b"}"):
            received += connection.recv(65536)
    assert len(sim.requests()) == 3


def test_any_process_can_control_it(sim: Simulator, get: Get, http: requests.Session) -> None:
    """Plain JSON over HTTP: limits, faults and reset, from a client that has only the URL."""
    limit = {"rules": [{"kind": "fixed_window", "limit": 1, "seconds": 60}], "status": 401}
    change = {"limits": {"dshield": limit}, "faults": {"dshield": [{"kind": "html"}]}}
    assert http.post(f"{sim.base_url}/_control", json=change, timeout=5).status_code == 200
    assert [get().headers["Content-Type"], get().status_code] == ["text/html; charset=utf-8", 401]
    SimulatorClient(sim.base_url).reset()
    assert sim.requests() == []
    assert [get().status_code for _ in range(3)] == [200] * 3


def test_reset_returns_to_the_configuration(http: requests.Session) -> None:
    """The limits and faults of the start are back, with nothing used."""
    config = SimulatorConfig(
        limits={"dshield": Limit(rules=(TokenBucket(per_minute=1),))},
        faults={"dshield": (Fault(kind="html", times=1),)},
    )
    with Simulator(config) as sim:

        def kinds() -> list[tuple[int, str]]:
            answers = [http.get(f"{sim.url('dshield')}/ip/1.1.1.1?json", timeout=5) for _ in range(2)]
            return [(answer.status_code, answer.headers["Content-Type"][:9]) for answer in answers]

        first = kinds()
        assert first == [(200, "text/html"), (429, "applicati")]
        sim.set_limit("dshield", None)
        sim.reset()
        assert kinds() == first


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"limits": {"nosuch": None}}, "unknown service 'nosuch'; known: "),
        ({"limit": {}}, "limit"),
        ({"faults": {"dshield": [{"kind": "explode"}]}}, "kind"),
        ({"limits": {"dshield": {"rules": [{"kind": "token_bucket", "per_minute": 0}]}}}, "greater than 0"),
    ],
)
def test_a_bad_control_message_is_refused_and_changes_nothing(
    sim: Simulator, get: Get, http: requests.Session, body: dict[str, object], complaint: str
) -> None:
    """400 that names what is wrong."""
    sim.set_fault("dshield", Fault(kind="reply"))
    get()
    answer = http.post(f"{sim.base_url}/_control", json={"reset": True, **body}, timeout=5)
    assert answer.status_code == 400
    assert complaint in answer.text
    assert [record.status for record in sim.requests()] == [500]


def test_health_names_the_services(sim: Simulator, http: requests.Session) -> None:
    """Ready to be asked, and neither limited nor logged."""
    answer = http.get(f"{sim.base_url}/_health", timeout=5)
    assert answer.json()["status"] == "ok"
    assert "dshield" in answer.json()["services"]
    assert http.get(f"{sim.base_url}/_nosuch", timeout=5).status_code == 404
    assert sim.requests() == []


def test_a_stopped_simulator_is_down_and_may_come_back(http: requests.Session) -> None:
    """Kept-alive connections break, new ones are refused, and the same port can be taken again."""
    with Simulator() as sim:
        url = f"{sim.url('dshield')}/ip/1.1.1.1?json"
        assert http.get(url, timeout=5).status_code == 200
        port = int(sim.base_url.rsplit(":", 1)[1])
    with pytest.raises(requests.ConnectionError):
        http.get(url, timeout=5)
    with Simulator(port=port):
        assert http.get(url, timeout=5).status_code == 200


def test_stopping_ends_what_hangs(http: requests.Session) -> None:
    """No thread is left behind in a delay of minutes."""
    threads = threading.active_count()
    with Simulator() as sim:
        sim.set_fault("dshield", Fault(kind="hang", delay_s=600))
        with pytest.raises(requests.ReadTimeout):
            http.get(f"{sim.url('dshield')}/ip/1.1.1.1?json", timeout=0.05)
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= threads


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_its_url_and_stops_on_a_signal(number: int, tmp_path: Path) -> None:
    """`python -m cowrie_enrich_dagster.simulator`: one line on stdout, limits from options, exit 0."""
    command = [sys.executable, "-m", "cowrie_enrich_dagster.simulator", "--port", "0"]
    command += ["--limit-per-minute", "1", "--burst", "2", "--log", str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        headers = {"User-Agent": AGENT}
        statuses = [
            requests.get(f"{url}/dshield/ip/1.1.1.1?json", headers=headers, timeout=5).status_code
            for _ in range(3)
        ]
        process.send_signal(number)
        assert process.wait(5) == 0
        assert process.stdout.read() == ""
    assert statuses == [200, 200, 429]
    assert len((tmp_path / "log").read_text().splitlines()) == 3


def test_the_command_refuses_bad_usage() -> None:
    """Exit 2 and a reason, no traceback."""
    for options in (["--config", '{"limits": {"nosuch": null}}'], ["--limit-per-minute", "0"]):
        command = [sys.executable, "-m", "cowrie_enrich_dagster.simulator", "--port", "0", *options]
        result = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert result.returncode == 2
        assert "simulate: " in result.stderr
        assert "Traceback" not in result.stderr
