"""A week at the real limits of all services, with the clock injected: the forecast beside what came true.

    python -m benchmarks.week [--json] [--days N] [--new N] [--known N]

Queue, limiter and plan are the real ones, on SQLite, at every service's own limits; the clock runs ahead.
Each day 3,000 new addresses come and 2,000 of those before, a quarter every six hours; one in 30 got in.
450 new files a day come with them, and 1,500 on the first day. Between the arrivals, slices of five minutes
are drained, service by service, as the sensor `due_lookups` has them drained. A request takes 0.2 s.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path

from sqlalchemy import text

from benchmarks.report import Report, at_least, at_most, command_line, exactly
from cowrie_enrich_dagster.cache import CacheEntry
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.lookups.model import Outcome
from cowrie_enrich_dagster.lookups.order import CLASS_STEP, LOGIN
from cowrie_enrich_dagster.pacing import AdaptiveRateLimiter, SlotRefused
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.storage.bulk import insert_rows
from cowrie_enrich_dagster.storage.tables import SessionIp, SessionRecord, table_of
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus, Subject
from tests.logs import routable_ips
from tests.priority import priority_of

SERVICES = ("dshield", "virustotal", "greynoise", "abuseipdb", "urlhaus", "spur", "cymru")
SLICE_S, PATIENCE_S, LATENCY_S = 300.0, 120.0, 0.2
PARTS = 4
FIRST_FILES, FILES_A_DAY = 1_500, 450
_ADDRESSES, _SESSIONS = table_of(SessionIp), table_of(SessionRecord)
_SUMS = ("login_failures", "login_successes", "commands", "downloads", "uploads")


class Time:
    """A clock that runs only while somebody sleeps; each service has its own within a slice."""

    def __init__(self, start: datetime) -> None:
        self.seconds = start.timestamp()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, timezone.utc)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += max(0.0, seconds)


@dataclass
class Seen:
    """What one service was asked: keys in order, requests by day, and the priorities of each day's keys."""

    keys: Counter[str] = field(default_factory=Counter)
    requests: Counter[date] = field(default_factory=Counter)
    priorities: dict[date, list[tuple[int, date]]] = field(default_factory=lambda: defaultdict(list))


class Week:
    """The pipeline, its clock, and what the services saw."""

    def __init__(self, enricher: Enricher, start: date) -> None:
        self.start = start
        self.time = Time(datetime.combine(start, time(), timezone.utc))
        self.enricher = enricher
        enricher.database._clock = self.time.now
        enricher.cache._clock = self.time.now
        self.seen = {name: Seen() for name in SERVICES}
        self.limiters = {
            name: AdaptiveRateLimiter(
                enricher.database, enricher.source(name).limiter.policy,
                credential_fingerprint="week", sleep=self.time.sleep, monotonic=self.time.monotonic,
            )
            for name in SERVICES
        }  # fmt: skip
        self.clocks = dict.fromkeys(SERVICES, self.time.seconds)
        self.emptied: dict[str, float] = {}

    def arrive(self, day: date, part: int, new: list[str], known: list[str], files: list[str]) -> None:
        """A quarter of a day's sessions, as ingest and summary leave them; then the plan of the day."""
        seen = datetime.combine(day, time(6 * part), timezone.utc)
        rows = []
        for number, ip in enumerate([*new, *known]):
            got_in = number % 30 == 0
            priority = priority_of(sessions=1 + number % 40, login_successes=got_in)
            rows.append(
                [day, ip, 1 + number % 40, 1, seen, seen, 1, int(got_in), 0, 0, 0, "global", priority, False]
            )
        columns = ["day", "src_ip", "sessions", "sensors", "first_seen", "last_seen", *_SUMS, "scope",
                   "priority", "known_scanner"]  # fmt: skip
        sessions = [
            ["s", f"{day}-{part}-{n}", day, seen, seen, 0, True, True, 2, *[0] * 8, [sha]]
            for n, sha in enumerate(files)
        ]
        names = ["sensor", "session_id", "day", "started_at", "ended_at", "duration_ms", "has_connect",
                 "has_closed", "event_count", "login_failures", "login_successes", "commands",
                 "commands_failed", "downloads", "uploads", "tunnel_requests", "tunnel_data",
                 "file_hashes"]  # fmt: skip
        with self.enricher.database.write() as connection:
            insert_rows(connection, _ADDRESSES, columns, rows)
            insert_rows(connection, _SESSIONS, names, sessions)
        self.enricher.plan_and_open(Days(day, day))

    def pass_until(self, moment: float) -> None:
        """Slices of five minutes, all services in each, as they are drained."""
        begin = self.time.seconds
        while begin < moment:
            end = min(begin + SLICE_S, moment)
            for name in SERVICES:
                self.time.seconds = max(self.clocks[name], begin)
                self._drain(name, end)
                self.clocks[name] = self.time.seconds
                if name not in self.emptied and not self.enricher.queue.backlog_of(name).total:
                    self.emptied[name] = self.time.seconds
            begin = end
            self.time.seconds = end

    def _drain(self, name: str, end: float) -> None:
        service, limiter, queue = self.enricher.services[name], self.limiters[name], self.enricher.queue
        database = self.enricher.database
        while self.time.seconds < end:
            keys = queue.claim(name, name, service.batch_size)
            if not keys:
                return
            try:
                slot = limiter.acquire(min(PATIENCE_S, end - self.time.seconds))
            except SlotRefused:
                queue.release(name)
                return
            limiter.mark_sent(slot)
            self._note(name, keys)
            self.time.sleep(LATENCY_S)
            limiter.observe(slot, 200, {})
            with database.write() as connection:
                now = self.time.now()
                entries = [
                    CacheEntry.of_answer(name, key, {"key": key}, fetched_at=now, ttl=service.ttl)
                    for key in keys
                ]
                self.enricher.cache.database.store(connection, entries)
                queue.finish(connection, name, [
                    Outcome(entry.key, LookupStatus.FOUND, valid_until=entry.expires_at) for entry in entries
                ])  # fmt: skip

    def _note(self, name: str, keys: list[str]) -> None:
        seen, today = self.seen[name], self.time.now().date()
        seen.keys.update(keys)
        seen.requests[today] += 1
        with self.enricher.database.read() as connection:
            query = text("SELECT priority, last_day FROM lookups WHERE service = :service AND key = :key")
            priority, last_day = connection.execute(query, {"service": name, "key": keys[0]}).one()
        seen.priorities[today].append((priority, date.fromisoformat(str(last_day))))


def hashes(begin: int, number: int) -> list[str]:
    return [hashlib.sha256(str(n).encode()).hexdigest() for n in range(begin, begin + number)]


def quarters(items: list[str]) -> Iterator[list[str]]:
    for part in range(PARTS):
        yield items[part::PARTS]


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--new", type=int, default=3_000)
    parser.add_argument("--known", type=int, default=2_000)
    arguments = parser.parse_args()
    report = Report("week", {"days": arguments.days, "new": arguments.new, "known": arguments.known})
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        os.environ |= {
            "COWRIE_ENRICH_HOME": folder, "DATABASE_URL": "", "ENRICH_SERVICES": ",".join(SERVICES),
            "ENABLE_REDIS_CACHE": "false", "DSHIELD_EMAIL": "bench@example.org", "ENRICH_FEEDS": "none",
            **{f"{name.upper()}_API_KEY": "key" for name in SERVICES},
        }  # fmt: skip
        with Enricher(load_settings()) as enricher:
            run(enricher, report, arguments.days, arguments.new, arguments.known)
    return report.finish(as_json=arguments.json)


def run(enricher: Enricher, report: Report, days: int, new: int, known: int) -> None:
    # A Monday in the future: nothing in the database is dated by the real clock.
    start = date(2027, 3, 1)
    week = Week(enricher, start)
    ips = routable_ips(days * new)
    forecast: dict[str, tuple[float, float | None, int]] = {}
    for number in range(days):
        day = start + timedelta(days=number)
        today = ips[number * new : (number + 1) * new]
        before = ips[: number * new]
        returning = before[:: max(1, len(before) // known)][:known] if before else []
        begin, files = (
            (0, FIRST_FILES) if number == 0 else (FIRST_FILES + (number - 1) * FILES_A_DAY, FILES_A_DAY)
        )
        lots = zip(quarters(today), quarters(returning), quarters(hashes(begin, files)), strict=True)
        for part, (some, again, dropped) in enumerate(lots):
            week.arrive(day, part, some, again, dropped)
            if number == min(3, days - 1) and part == 0:
                for entry in enricher.ledger():
                    forecast[entry.status.service] = (week.time.seconds, entry.eta_s, entry.backlog)
                week.emptied.clear()
            week.pass_until(datetime.combine(day, time(), timezone.utc).timestamp() + (part + 1) * 21_600)
        told = (
            f"{name} {week.seen[name].requests.total()} sent, {enricher.queue.backlog_of(name).total} open"
            for name in SERVICES
        )
        print(f"day {number + 1}: " + ", ".join(told), file=sys.stderr, flush=True)
    for name in SERVICES:
        _tell(report, week, name, days, forecast.get(name), week.emptied.get(name))


def _tell(
    report: Report, week: Week, name: str, days: int, forecast: tuple[float, float | None, int] | None,
    cleared: float | None,
) -> None:  # fmt: skip
    seen, service = week.seen[name], week.enricher.services[name]
    a_day = service.limits.by_window().get("day")
    report.add(name, "requests", sum(seen.requests.values()))
    twice = sum(n > 1 + (days - 1) // service.ttl.days for n in seen.keys.values())
    report.add(name, "keys asked twice within their TTL", twice, exactly(0))
    if a_day:
        report.add(name, f"days over {a_day}", sum(n > a_day for n in seen.requests.values()), exactly(0))
        used = sum(seen.requests.values()) / (a_day * days)
        limits = {"virustotal", "greynoise", "abuseipdb"}
        report.add(name, "share of the days' quotas used", round(used, 4),
                   at_least(0.99) if name in limits else None)  # fmt: skip
    if service.subject is Subject.IP and name in ("greynoise", "abuseipdb"):
        intruders = [p >= LOGIN * CLASS_STEP for keys in seen.priorities.values() for p, _ in keys]
        newest = [
            (p, d) for day, keys in seen.priorities.items() for p, d in keys if d < day - timedelta(days=1)
        ]
        report.add(name, "share of requests about who got in", round(sum(intruders) / len(intruders), 3))
        report.add(name, "requests about days before yesterday", len(newest))
    if forecast:
        at, eta, backlog = forecast
        report.add(name, "backlog when foretold", backlog)
        report.add(name, "its end foretold, hours (-1: never)", -1 if eta is None else round(eta / 3600, 1))
        truth = -1 if cleared is None else round((cleared - at) / 3600, 1)
        report.add(name, "came true, hours (-1: not in the week)", truth)
        if eta is None:
            left = week.enricher.queue.backlog_of(name).total
            report.add(name, "open at the end of the week", left, at_least(backlog))
        elif eta < (days - 2) * 86_400:
            report.add(
                name, "foretold / came true", round(eta / max(1.0, (cleared or 1e9) - at), 2), at_most(1.6)
            )


if __name__ == "__main__":
    raise SystemExit(main())
