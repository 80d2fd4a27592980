"""Scales the sample logs up: real sessions as templates, heavy-tailed sources, several sensors, many days.

python -m benchmarks.generate FOLDER --sessions 500000 --days 30 --sensors 4 --ips 50000
"""

from __future__ import annotations

import argparse
import gzip
import random
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson

from tests.logs import routable_ips

Session = list[dict[str, Any]]
"""A session's events, in order."""

SAMPLES = Path(__file__).resolve().parents[1] / "tests" / "data" / "cowrie"
START = datetime(2025, 11, 1, tzinfo=timezone.utc)
EVENTS_PER_SESSION = 2.8
"""Mean of the field's logs (most sessions are scans), less than that of the samples (5.9)."""


def templates() -> list[Session]:
    """The sessions of the samples, shortest first."""
    sessions: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(SAMPLES.rglob("*.gz")):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            event = orjson.loads(line)
            sessions[event["sensor"], event["session"]].append(event)
    return sorted(sessions.values(), key=len)


def replay(
    template: Session, *, identity: str, source: str, sensor: str, start: datetime
) -> Iterator[tuple[str, bytes]]:
    """The events of a session as if it had begun at `start` elsewhere: (timestamp, line of a log)."""
    first = _moment(template[0]["timestamp"])
    for event in template:
        moment = start + (_moment(event["timestamp"]) - first)
        stamp = f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
        changed = {"session": identity, "src_ip": source, "sensor": sensor, "timestamp": stamp}
        yield stamp, orjson.dumps({**event, **changed})


@cache
def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.rstrip("Z")).replace(tzinfo=timezone.utc)


def generate(folder: Path, *, sessions: int, days: int, sensors: int, ips: int, seed: int = 1) -> int:
    """Write `sessions` sessions as one file per sensor and day; returns the number of events."""
    rng = random.Random(seed)
    samples = templates()
    short = [t for t in samples if len(t) == 2]
    mean_all = sum(map(len, samples)) / len(samples)
    share_of_all = (EVENTS_PER_SESSION - 2) / (mean_all - 2)
    addresses = routable_ips(ips)
    rng.shuffle(addresses)
    weights = list(accumulate(1 / (rank + 1) ** 1.1 for rank in range(ips)))  # Zipf: few sources do most
    events = number = 0
    for day in range(days):
        today = START + timedelta(days=day)
        count = sessions * (day + 1) // days - sessions * day // days
        lines: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
        for _ in range(count):
            template = rng.choice(samples if rng.random() < share_of_all else short)
            sensor = f"sensor-{rng.randrange(sensors)}"
            source = addresses[bisect(weights, rng.random() * weights[-1])]
            start = today + timedelta(seconds=rng.random() * 86_399)
            identity = f"{number:012x}"
            number += 1
            for line in replay(template, identity=identity, source=source, sensor=sensor, start=start):
                lines[sensor].append(line)
                events += 1
        for sensor, stamped in lines.items():
            stamped.sort()
            target = folder / sensor
            target.mkdir(parents=True, exist_ok=True)
            (target / f"cowrie.json.{today:%Y-%m-%d}").write_bytes(
                b"\n".join(line for _, line in stamped) + b"\n"
            )
    return events


def main() -> None:
    """Parse the arguments and generate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    for name, default in (("sessions", 50_000), ("days", 10), ("sensors", 4), ("ips", 5_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = vars(parser.parse_args())
    print(generate(arguments.pop("folder"), **arguments), "events")


if __name__ == "__main__":
    main()
