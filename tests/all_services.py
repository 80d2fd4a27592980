"""Every service at once: logs with something to ask each of them; their real limits, scaled by one factor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from mmdb_writer import MMDBWriter
from netaddr import IPSet

from cowrie_enrich_dagster.services import ALL, Limits, Window
from cowrie_enrich_dagster.simulator import FixedWindow, Limit, SimulatorClient, TokenBucket
from tests.logs import START

KEYED = tuple(name for name, service in ALL.items() if service.needs_key and name != "maxmind")
SIMULATED = tuple(name for name in ALL if name != "maxmind")
REAL_LIMITS = {name: ALL[name].limits for name in SIMULATED}
_WINDOW_SECONDS = {"minute": 60, "day": 86_400, "month": 31 * 86_400}


def hashes(number: int) -> list[str]:
    """SHA-256 hashes of files nobody has."""
    return [hashlib.sha256(f"file {n}".encode()).hexdigest() for n in range(number)]


def write_attacks(
    folder: Path, ips: Sequence[str], files: Sequence[str] = (), passwords: Sequence[str] = ()
) -> Path:
    """A `cowrie.json` with a session from each address; files and passwords are spread over them."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "cowrie.json").open("w") as log:
        for number, ip in enumerate(ips):
            events = [{"eventid": "cowrie.session.connect", "protocol": "ssh"}]
            events += [
                {"eventid": "cowrie.login.failed", "username": "root", "password": password}
                for password in passwords[number :: len(ips)]
            ]
            events += [
                {"eventid": "cowrie.session.file_download", "url": "http://198.51.100.9/x", "shasum": sha256}
                for sha256 in files[number :: len(ips)]
            ]
            events.append({"eventid": "cowrie.session.closed"})
            common = {"session": f"{number:012x}", "src_ip": ip, "sensor": "sensor-a"}
            for step, event in enumerate(events):
                moment = START + timedelta(seconds=number, milliseconds=step)
                stamp = f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"
                log.write(json.dumps({**common, **event, "timestamp": stamp}) + "\n")
    return folder


def write_mmdb(path: Path, networks: Sequence[str]) -> Path:
    """A database that knows these networks."""
    writer = MMDBWriter(ip_version=4, database_type="GeoLite2-Country")
    writer.insert_network(IPSet(networks), {"country": {"iso_code": "NL"}})
    writer.to_db_file(str(path))
    return path


def environment(simulator: SimulatorClient, mmdb: Path) -> dict[str, str]:
    """All services, each at the simulator, each with a key."""
    return {
        **{f"{name.upper()}_API_URL": simulator.url(name) for name in SIMULATED},
        **{f"{name.upper()}_API_KEY": "tests-key" for name in KEYED},
        "DSHIELD_EMAIL": "tests@example.org",
        "MAXMIND_DB_PATH": str(mmdb),
        "ENRICH_SERVICES": ",".join(ALL),
        "ENRICH_FEEDS": "none",
    }


@contextmanager
def scaled(factor: float, simulator: SimulatorClient) -> Iterator[dict[str, Limits]]:
    """Our limits (rates and windows) and the simulator's, all the real ones times `factor`; gives ours."""
    ours = {name: _times(limits, factor) for name, limits in REAL_LIMITS.items()}
    for name, limits in ours.items():
        simulator.set_limit(name, _as_served(limits))
    with limits_of(ours):
        yield ours


@contextmanager
def limits_of(limits: Mapping[str, Limits]) -> Iterator[None]:
    """Services with other limits than their own, for a while."""
    before = {name: ALL[name].limits for name in limits}
    try:
        for name, other in limits.items():
            ALL[name].limits = other
        yield
    finally:
        for name, own in before.items():
            ALL[name].limits = own


def _times(limits: Limits, factor: float) -> Limits:
    windows = tuple(Window(window.name, round(window.limit * factor)) for window in limits.windows)
    return replace(limits, rate=limits.rate * factor, windows=windows)


def _as_served(limits: Limits) -> Limit:
    windows = [
        FixedWindow(limit=window.limit, seconds=_WINDOW_SECONDS[window.name], align="clock")
        for window in limits.windows
    ]
    return Limit(rules=(TokenBucket(per_minute=limits.rate * 60, burst=limits.burst), *windows))
