"""Cowrie logs in which attackers do what a test wants, a file a day."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any


@dataclass
class Attack:
    """One session: what is typed, the hashes of files that come, their URLs, the key shown."""

    session: str
    src_ip: str
    start: datetime
    lines: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    key: str | None = None
    sensor: str = "hp"

    def logged(self) -> list[dict[str, Any]]:
        """Its events, a second apart."""
        deeds: list[dict[str, Any]] = [{"eventid": "cowrie.session.connect"}]
        if self.key:
            shown = {"username": "root", "fingerprint": self.key, "key": "AAAA", "type": "ssh-rsa"}
            deeds.append({"eventid": "cowrie.client.fingerprint", **shown})
        deeds.append({"eventid": "cowrie.login.success", "username": "root", "password": "x"})
        deeds += [{"eventid": "cowrie.command.input", "input": line} for line in self.lines]
        deeds += [{"eventid": "cowrie.session.file_upload", "shasum": file} for file in self.files]
        deeds += [{"eventid": "cowrie.session.file_download.failed", "url": url} for url in self.urls]
        deeds.append({"eventid": "cowrie.session.closed", "duration": "9.0"})
        return [
            {
                "session": self.session,
                "src_ip": self.src_ip,
                "sensor": self.sensor,
                "protocol": "ssh",
                "timestamp": f"{self.start + timedelta(seconds=n):%Y-%m-%dT%H:%M:%S.%fZ}",
                **deed,
            }
            for n, deed in enumerate(deeds)
        ]


def write_attacks(folder: Path, attacks: Iterable[Attack]) -> Path:
    """Log the attacks, each in the file of the day on which it began."""
    folder.mkdir(parents=True, exist_ok=True)
    by_day: dict[str, list[dict[str, Any]]] = {}
    for attack in attacks:
        by_day.setdefault(f"{attack.start:%Y-%m-%d}", []).extend(attack.logged())
    for day, events in by_day.items():
        lines = (json.dumps(event) for event in sorted(events, key=lambda event: str(event["timestamp"])))
        (folder / f"cowrie.json.{day}").write_text("\n".join(lines) + "\n")
    return folder
