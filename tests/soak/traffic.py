"""Two sensors whose days pass in seconds: logs that grow, rotate at midnight, are torn and hold rubbish."""

from __future__ import annotations

import threading
from bisect import bisect
from datetime import date, datetime, timedelta, timezone
from itertools import accumulate
from pathlib import Path
from random import Random

from benchmarks.generate import replay, templates
from tests.logs import routable_ips

START = datetime(2025, 11, 1, tzinfo=timezone.utc)
TICK_S = 0.25
RUBBISH = (b"%% half a disk block \xff\xfe\n", b"\0" * 300 + b"\n", b"[1, 2, 3]\n", b'{"eventid": 7}\n')
RUBBISH_EVERY = 150
SENSORS = ("sensor-a", "sensor-b")


class Traffic:
    """Writes below `folder` in a thread until `stop`; `day_s` seconds are a day of `sessions_a_day` sessions.

    Sources are drawn from `ips` addresses of which few do most; they become known bit by bit. What was
    written is counted in `sessions` (by day), `events` and `rubbish` (lines that are no events).
    """

    def __init__(self, folder: Path, *, ips: int, day_s: float, sessions_a_day: int, seed: int) -> None:
        self.folder = folder
        self.sessions: dict[date, int] = {}
        self.events = 0
        self.rubbish = 0
        self._day_s = day_s
        self._sessions_a_day = sessions_a_day
        self._rng = Random(seed)
        self._ips = routable_ips(ips)
        self._rng.shuffle(self._ips)
        self._weights = list(accumulate(1 / (rank + 1) ** 0.8 for rank in range(ips)))
        self._templates = templates()
        self._tails = dict.fromkeys(SENSORS, b"")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name="traffic", daemon=True)
        for sensor in SENSORS:
            (folder / sensor).mkdir(parents=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the present day end, and write what is still to be written."""
        self._stop.set()
        self._thread.join()

    @property
    def days(self) -> list[date]:
        """The days that have begun."""
        return list(self.sessions)

    def _write(self) -> None:
        today = START
        while not self._stop.is_set():
            self._write_day(today)
            today += timedelta(days=1)

    def _write_day(self, today: datetime) -> None:
        ticks = max(1, round(self._day_s / TICK_S))
        self.sessions[today.date()] = 0
        for tick in range(ticks):
            begin, end = (self._sessions_a_day * t // ticks for t in (tick, tick + 1))
            for _ in range(begin, end):
                self._write_session(today + timedelta(days=(tick + self._rng.random()) / ticks))
            self._stop.wait(TICK_S)
        for sensor in SENSORS:  # what was torn is made whole before the file is put away
            self._append(sensor, b"", torn=False)
            log = self.folder / sensor / "cowrie.json"
            log.rename(log.with_name(f"cowrie.json.{today:%Y-%m-%d}"))

    def _write_session(self, start: datetime) -> None:
        number = sum(self.sessions.values())
        self.sessions[start.date()] += 1
        known = min(len(self._ips), 20 + number // 4)
        source = self._ips[bisect(self._weights, self._rng.random() * self._weights[known - 1])]
        sensor = self._rng.choice(SENSORS)
        lines = [
            line + b"\n"
            for _, line in replay(
                self._rng.choice(self._templates),
                identity=f"{number:012x}",
                source=source,
                sensor=sensor,
                start=start,
            )
        ]
        self.events += len(lines)
        if self._rng.randrange(RUBBISH_EVERY) == 0:
            lines.insert(self._rng.randrange(len(lines) + 1), self._rng.choice(RUBBISH))
            self.rubbish += 1
        self._append(sensor, b"".join(lines), torn=self._rng.random() < 0.2)

    def _append(self, sensor: str, lines: bytes, *, torn: bool) -> None:
        """Append; of torn ones the end comes with the next append."""
        whole = self._tails[sensor] + lines
        keep = self._rng.randrange(1, len(whole)) if torn else 0
        self._tails[sensor] = whole[len(whole) - keep :]
        with (self.folder / sensor / "cowrie.json").open("ab") as log:
            log.write(whole[: len(whole) - keep])
