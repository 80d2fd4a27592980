"""Small Cowrie logs made to measure, in the shape of Cowrie 3.1's own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path

START = datetime(2025, 11, 1, tzinfo=timezone.utc)


def routable_ips(number: int, offset: int = 0) -> list[str]:
    """Distinct addresses that are globally routable (11.0.0.0/8)."""
    return [f"11.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in range(offset + 1, offset + number + 1)]


def write_logs(
    folder: Path,
    ips: Iterable[str],
    *,
    sessions_each: int = 1,
    start: datetime = START,
    sensor: str = "sensor-a",
) -> Path:
    """A `cowrie.json` with `sessions_each` two-event sessions from each address, a second apart."""
    folder.mkdir(parents=True, exist_ok=True)
    moment = start
    with (folder / "cowrie.json").open("w") as file:
        for number, ip in enumerate(ip for ip in ips for _ in range(sessions_each)):
            common = {"session": f"{number:012x}", "src_ip": ip, "protocol": "ssh", "sensor": sensor}
            for kind, after in (("connect", 0.0), ("closed", 0.5)):
                stamp = f"{moment + timedelta(seconds=after):%Y-%m-%dT%H:%M:%S.%fZ}"
                file.write(
                    json.dumps({**common, "eventid": f"cowrie.session.{kind}", "timestamp": stamp}) + "\n"
                )
            moment += timedelta(seconds=1)
    return folder
