"""What lists said then: over five days addresses come to lists and leave them; days are run in any order.

A list of scanners at a URL and one of Tor exits in a file, each looked at every six hours, each look with
others of the addresses, which have sessions at all hours, some over midnight. After each look what ended
since is in the logs, and the days so far are run in another order; at the end all of them, in many. Each
time every row is compared with what the last look before its session's end said, by a count of its own: on
SQLite and PostgreSQL. One combination is a day after an order of runs.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import select

from benchmarks.report import Report, command_line, exactly
from benchmarks.workload import database_of, environment, migrated
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import Fault, SimulatorProcess
from cowrie_enrich_dagster.storage.tables import EnrichedSession, table_of
from cowrie_enrich_dagster.vocabulary import Days
from tests.all_services import write_mmdb
from tests.integration.enrichment.listing import at

START = datetime(2025, 11, 1, tzinfo=timezone.utc)
DAYS, ADDRESSES, SESSIONS, ORDERS = 5, 24, 600, 10
LOOK_EVERY, FIRST_LOOK = timedelta(hours=6), timedelta(hours=1)
LISTS = {"scan": "source_is_scanner", "exits": "source_is_tor"}
"""The lists, and the column that each fills."""
ALWAYS = "11.9.9.9"
"""On both, so that neither is ever empty."""


@dataclass(frozen=True)
class Visit:
    """A session, as the log tells it."""

    number: int
    address: str
    started: datetime
    ended: datetime

    @property
    def session(self) -> str:
        return f"{self.number:012x}"

    def lines(self) -> str:
        """Its events."""
        common = {"session": self.session, "src_ip": self.address, "sensor": "sensor-a"}
        events: tuple[tuple[datetime, dict[str, Any]], ...] = (
            (self.started, {"eventid": "cowrie.session.connect", "protocol": "ssh"}),
            (self.ended, {"eventid": "cowrie.session.closed"}),
        )
        return "".join(
            json.dumps({**common, **event, "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"}) + "\n"
            for moment, event in events
        )


@dataclass
class Said:
    """What each look at each list held, by an independent count."""

    looks: dict[str, list[tuple[datetime, frozenset[str]]]] = field(default_factory=dict)

    def of(self, visit: Visit) -> dict[str, str]:
        """The lists of a session, each as it is to be shown."""
        shown = {}
        for name, looks in self.looks.items():
            before = [held for moment, held in looks if moment <= visit.ended]
            if before and visit.address in before[-1]:
                shown[name] = f"list:{name}"
            elif not before and visit.address in looks[0][1]:
                shown[name] = f"list:{name} (late)"
        return shown


def visits(chance: random.Random) -> list[Visit]:
    """Sessions of seconds to hours; none ends in the minutes of a look, whose moment is the database's."""
    addresses = [f"11.0.0.{number}" for number in range(1, ADDRESSES + 1)]
    found: list[Visit] = []
    while len(found) < SESSIONS:
        started = START + timedelta(seconds=chance.uniform(0, DAYS * 86_400 - 60))
        ended = started + timedelta(seconds=chance.choice((2, 60, 4000, 20_000)))
        is_clear = (ended - START - FIRST_LOOK) % LOOK_EVERY > timedelta(minutes=10)
        if is_clear and ended < START + timedelta(days=DAYS):
            found.append(Visit(len(found), chance.choice(addresses), started, ended))
    return found


def differing(enricher: Enricher, days: Sequence[Days], seen: Sequence[Visit], said: Said) -> int:
    """On how many of the days some row says something else than it should, or is not there."""
    table = table_of(EnrichedSession)
    with enricher.database.read() as connection:
        rows = {row["session_id"]: row for row in connection.execute(select(table)).mappings()}
    wrong = 0
    for day in days:
        of_day = [visit for visit in seen if visit.started.date() == day.first]
        wrong += any(not _is_right(rows.get(visit.session), said.of(visit)) for visit in of_day)
    return wrong


def _is_right(row: Mapping[Any, Any] | None, shown: Mapping[str, str]) -> bool:
    if row is None or (row["source_lists"] or []) != sorted(shown.values()):
        return False
    return all(row[column] is (True if name in shown else None) for name, column in LISTS.items())


def orders(days: Sequence[Days], chance: random.Random) -> Iterator[list[Days]]:
    """Orders in which the days are run at the end: forwards, backwards, some twice, some not at all, all at
    once, and by chance."""
    yield list(days)
    yield list(reversed(days))
    yield [Days(days[0].first, days[-1].last)]
    for _ in range(ORDERS - 3):
        yield chance.choices(days, k=len(days))


def compared(engine: str, simulator: SimulatorProcess, seed: int) -> tuple[int, int, int]:
    """How many combinations were compared, in how many something differed, and how many entries came to a
    list or left it."""
    chance = random.Random(seed)
    seen = visits(chance)
    said, combinations, wrong, changes = Said(), 0, 0, 0
    with tempfile.TemporaryDirectory() as folder, database_of(engine, Path(folder)) as url:
        home = Path(folder)
        exits, log = home / "exits.txt", home / "logs" / "cowrie.json"
        log.parent.mkdir()
        (home / "sensors.toml").write_text(
            f'[[enrichment.lists]]\nname = "scan"\nsays = "scanner"\nallowed_share = 1.0\nrefresh_hours = 2\n'
            f'url = "{simulator.url("lists")}/addresses/11.0.0.0-24/50"\n'
            f'[[enrichment.lists]]\nname = "exits"\nsays = "tor"\nfile = "{exits}"\n'
        )
        more = {"ENRICH_SERVICES": "maxmind", "ENRICH_FEEDS": "none"}
        more["SENSORS_TOML"] = str(home / "sensors.toml")
        more["MAXMIND_DB_PATH"] = str(write_mmdb(home / "here.mmdb", ["11.0.0.0/8"]))
        with Enricher(load_settings(environment(home, log.parent, migrated(url), **more))) as enricher:
            clock, written = at(enricher, START), 0
            days = [Days(day, day) for day in ((START + timedelta(days=n)).date() for n in range(DAYS))]
            in_order = sorted(seen, key=lambda visit: visit.ended)
            for number in range(DAYS * 86_400 // int(LOOK_EVERY.total_seconds())):
                clock.now = START + FIRST_LOOK + number * LOOK_EVERY
                for name in LISTS:
                    held = frozenset({visit.address for visit in chance.sample(seen, 12)} | {ALWAYS})
                    looks = said.looks.setdefault(name, [])
                    changes += len(held ^ looks[-1][1]) if looks else 0
                    looks.append((clock.now, held))
                text = {name: "\n".join(sorted(looks[-1][1])) + "\n" for name, looks in said.looks.items()}
                simulator.set_fault("lists", Fault(kind="reply", status=200, body=text["scan"], times=1))
                exits.write_text(text["exits"])
                assert {report.status for report in enricher.refresh_lists()} <= {"taken", "unchanged"}
                now = clock.now + LOOK_EVERY - timedelta(minutes=1)
                with log.open("a") as file:
                    while written < len(in_order) and in_order[written].ended < now:
                        file.write(in_order[written].lines())
                        written += 1
                begun = days[: (now - START).days + 1]
                for day in chance.sample(begun, len(begun)):
                    enricher.run(day)
                combinations += len(begun)
                wrong += differing(enricher, begun, in_order[:written], said)
            with log.open("a") as file:
                file.writelines(visit.lines() for visit in in_order[written:])
            for order in orders(days, chance):
                for day in order:
                    enricher.run(day)
                ran = [day for day in days if any(day.first in one for one in order)]
                combinations += len(ran)
                wrong += differing(enricher, ran, seen, said)
    return combinations, wrong, changes


def main() -> int:
    """Both engines."""
    parser = command_line(__doc__)
    parser.add_argument("--seed", type=int, default=18)
    arguments = parser.parse_args()
    report = Report("lists_as_of", {"sessions": SESSIONS, "days": DAYS, "seed": arguments.seed})
    with SimulatorProcess() as simulator:
        for engine in ("sqlite", "postgresql"):
            combinations, wrong, changes = compared(engine, simulator, arguments.seed)
            report.add(engine, "entries_that_came_or_went", changes)
            report.add(engine, "days_after_orders_compared", combinations)
            report.add(engine, "that_differed", wrong, exactly(0))
    return report.finish(as_json=arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
