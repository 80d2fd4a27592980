"""All services at once within their limits, what a scarce budget is worth, and what feeds save.

On the sample logs (174 addresses that may be sent, 14 files, 1,378 sessions), judged by the simulator's log:

- every service at its real limits (rates and windows), multiplied by one factor on both sides. GreyNoise's
  day then allows about a fifth of the addresses: the rest waits in the queue.
- DShield with a day's quota of 20 % of the addresses: what the most valuable first is worth, beside those
  that came first, each as a run of its own that is then counted in the rows.
- DShield's list of each day and AbuseIPDB's of the last, on a clock set to that evening: how much they answer
  without a call. The lists hold those of our addresses that the simulated service itself knows to be the
  worst (`WORST`), among 1,000 others; how many of yours are on the real lists is not known here.
- a row of `enriched_sessions` once all eight have answered, on both engines, as the database itself counts
  its bytes (SQLite: what `dbstat` calls payload; PostgreSQL: `pg_column_size`): whole, and without its deeds,
  which are as long as the attacker likes; and of all those rows the largest.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import select, text

from benchmarks.report import Report, at_most, command_line, exactly
from benchmarks.workload import environment, migrated
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.keys import Chosen, Key, keys_of
from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.services import ALL, Limits, Window
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import Fault, SimulatorProcess
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import EnrichedSession, Observation, table_of
from cowrie_enrich_dagster.vocabulary import Days, Scope, Subject, utc_now
from tests import all_services
from tests.logs import routable_ips
from tests.servers import PostgresServer

SAMPLES = Path(__file__).resolve().parents[1] / "tests" / "data" / "cowrie"
DAYS = Days.parse("2025-11-01..2025-11-03")
EVENING = datetime(2025, 11, 3, 22, tzinfo=timezone.utc)
BUDGET = 0.20
UNLIMITED = Limits(rate=1000, source="this benchmark")
WORST = {"dshield": ("ip", "attacks", 20), "abuseipdb": ("data", "abuseConfidenceScore", 100)}
"""Of each service: where its answer has the figure that puts an address on its list, and from what on."""


DEEDS = {
    *("logins", "command_lines", "files", "file_hashes", "urls", "tunnels"),
    *("password", "client_version", "hassh", "ja4h", "ja4"),
}
KB = 1024


@contextmanager
def _pipeline(url: str | None = None, **changes: str) -> Iterator[Enricher]:
    """The samples, read and summarised, in a new database (of SQLite, where none is named)."""
    with tempfile.TemporaryDirectory() as folder:
        url = migrated(url or f"sqlite:///{folder}/bench.db")
        with Enricher(load_settings(environment(Path(folder), SAMPLES, url, **changes))) as enricher:
            enricher.ingest(DAYS)
            enricher.summarise_addresses(DAYS)
            yield enricher


def all_at_once(report: Report, factor: float) -> None:
    """Each service by its own limits; nothing over them, nothing asked twice, nothing lost."""
    with SimulatorProcess() as simulator, tempfile.TemporaryDirectory() as folder:
        mmdb = all_services.write_mmdb(Path(folder) / "country.mmdb", ["0.0.0.0/2"])
        with (
            all_services.scaled(factor, simulator) as limits,
            _pipeline(**all_services.environment(simulator, mmdb)) as enricher,
        ):
            told = enricher.run(DAYS).as_dict()
            keys = {subject: len(_keys(enricher, DAYS, subject)) for subject in Subject}
        for name in all_services.SIMULATED:
            section = f"all at once, limits x {factor:g}: {name}"
            sent = simulator.requests(name)
            calls = simulator.calls_per_key(name)
            statuses = told["lookups"][name]
            took = sent[-1].t - sent[0].t
            report.add(section, "requests", len(sent))
            report.add(section, "over_limit", simulator.over_limit(name), exactly(0))
            report.add(section, "keys_asked_twice", sum(n > 1 for n in calls.values()), exactly(0))
            lost = keys[ALL[name].subject] - sum(statuses.values())
            report.add(section, "keys_without_status", lost, exactly(0))
            for status, number in sorted(statuses.items()):
                report.add(section, status, number)
            if took:
                share = (len(sent) - 1) / took / limits[name].rate
                report.add(section, "share_of_rate_used", round(share, 3))


def scarce_budget(report: Report) -> None:
    """The same number of calls, spent by worth and by order of coming."""
    orders: Mapping[str, Callable[[Enricher], list[Wanted]]] = {
        "most valuable first": lambda enricher: _wanted(enricher, "dshield"),
        "first come": _by_coming,
    }
    for name, order in orders.items():
        with SimulatorProcess() as simulator:
            at = {"DSHIELD_API_URL": simulator.url("dshield"), "ENRICH_MAX_WAIT_SECONDS": "20"}
            with _pipeline(**at) as enricher:
                wanted = order(enricher)
                calls = round(BUDGET * len(wanted))
                quota = Limits(rate=20, source="this benchmark", windows=(Window("day", calls),))
                with all_services.limits_of({"dshield": quota}):
                    enricher.fetch("dshield", wanted)
                enricher.enrich(DAYS)
                section = f"{BUDGET:.0%} of the calls, {name}"
                report.add(section, "calls", len(simulator.requests("dshield")), exactly(calls))
                for what, share in _covered(enricher).items():
                    report.add(section, f"{what}_covered", round(share, 3))


def _keys(enricher: Enricher, days: Days, subject: Subject) -> list[Key]:
    with enricher.database.read() as connection:
        return list(keys_of(enricher.database, connection, Chosen.of_days(days), subject))


def _wanted(enricher: Enricher, service: str) -> list[Wanted]:
    found: list[Wanted] = []
    enricher.plan(DAYS, lambda name, keys: found.extend(keys if name == service else ()))
    return found


def _by_coming(enricher: Enricher) -> list[Wanted]:
    keys = [key for key in _keys(enricher, DAYS, Subject.IP) if key.may_be_sent_to(ALL["dshield"])]
    coming = sorted(keys, key=lambda key: (key.first_seen, key.value), reverse=True)
    return [Wanted(key.value, place) for place, key in enumerate(coming)]


def _covered(enricher: Enricher) -> dict[str, float]:
    """The share of the sessions that may be asked about, and of what was done in them, with an answer."""
    answered = "json_extract(intel, '$.dshield.status') IN ('found', 'not_found')"
    sums = {
        "sessions": "1",
        "sessions_with_login": "login_successes > 0",
        "sessions_with_files": "downloads + uploads > 0",
    }
    columns = ", ".join(f"1.0 * sum(({what}) AND {answered}) / sum({what})" for what in sums.values())
    query = text(f"SELECT {columns} FROM enriched_sessions WHERE source_scope = '{Scope.GLOBAL}'")
    with enricher.database.read() as connection:
        return dict(zip(sums, connection.execute(query).one(), strict=True))


def feeds(report: Report) -> None:
    """Lists first: what they answer, how many calls are left, and that each answer has its list's day."""
    set_back = utc_now() - EVENING
    services = {"dshield": "dshield_sources", "abuseipdb": "abuseipdb_blacklist"}
    with SimulatorProcess() as simulator, all_services.limits_of(dict.fromkeys(services, UNLIMITED)):
        changes = {f"{name.upper()}_API_URL": simulator.url(name) for name in services}
        changes |= {"ABUSEIPDB_API_KEY": "key", "ENRICH_SERVICES": ",".join(services)}
        with _pipeline(**changes, ENRICH_FEEDS="none") as enricher:
            _serve_lists(simulator, enricher)
        with (
            _pipeline(**changes, ENRICH_FEEDS=",".join(services)) as enricher,
            closing(
                Database(enricher.database.url.render_as_string(), clock=lambda: utc_now() - set_back)
            ) as database,
        ):
            enricher.database, enricher.queue = database, LookupQueue(database)
            told = enricher.run(DAYS).as_dict()
            with database.read() as connection:
                columns = Observation.__table__.c
                query = select(columns.feed, columns.fetched_at).where(columns.feed.is_not(None))
                days = Counter((row.feed, str(row.fetched_at.date())) for row in connection.execute(query))
        for service, name in services.items():
            figures: dict[str, Any] = told["feeds"][name]
            section = f"feed {name}"
            for figure in ("requests", "entries", "wanted", "answered"):
                report.add(section, figure, figures[figure])
            report.add(section, "share_answered", round(figures["share_answered"], 3))
            per_key = len(simulator.calls_per_key(service))
            report.add(section, "calls_left", per_key, exactly(figures["wanted"] - figures["answered"]))
            for (feed, day), number in sorted(days.items()):
                if feed == name:
                    report.add(section, f"answers_as_of_{day}", number)


def _serve_lists(simulator: SimulatorProcess, enricher: Enricher) -> None:
    """Let the services list the worst of the addresses that were seen on each day, and 1,000 others."""
    others = routable_ips(1000)
    faults: dict[str, list[Fault]] = {}
    for service, (inside, figure, worst) in WORST.items():
        enricher.fetch(service, _wanted(enricher, service))
        listed: dict[str, list[str]] = {}
        # In the order in which they are fetched: days that are over, newest first, then the present one.
        for day in sorted(DAYS, key=lambda day: (day == EVENING.date(), -day.toordinal())):
            keys = _keys(enricher, Days(day, day), Subject.IP)
            seen = [key.value for key in keys if key.may_be_sent_to(ALL[service])]
            answers = enricher.cache.get_many(service, seen)
            figures = {
                ip: (hit.entry.payload or {}).get(inside, {}).get(figure) for ip, hit in answers.items()
            }
            listed[str(day)] = [*others, *(ip for ip, number in figures.items() if (number or 0) >= worst)]
        bodies = [_as_list(service, day, ips) for day, ips in listed.items()]
        faults[service] = [Fault(kind="reply", status=200, body=json.dumps(body), times=1) for body in bodies]
    simulator.reset()
    for service, lists in faults.items():
        simulator.set_fault(service, *lists)


def _as_list(service: str, day: str, ips: Sequence[str]) -> object:
    if service == "dshield":
        return [{"ip": ip, "count": 1, "attacks": 1, "firstseen": day, "lastseen": day} for ip in ips]
    data = [{"ipAddress": ip, "abuseConfidenceScore": 100} for ip in ips]
    return {"meta": {"generatedAt": f"{day}T20:00:00+00:00"}, "data": data}


def row_size(report: Report) -> None:
    """What a session costs in `enriched_sessions`, with an answer of every service."""
    names = all_services.SIMULATED
    with SimulatorProcess() as simulator, closing(PostgresServer()) as postgres:
        changes = all_services.environment(simulator, Path("none"))
        changes["ENRICH_SERVICES"] = ",".join(names)
        for engine, url in (("SQLite", None), ("PostgreSQL", postgres.new_database())):
            with (
                all_services.limits_of(dict.fromkeys(names, UNLIMITED)),
                _pipeline(url, **changes) as enricher,
            ):
                enricher.run(DAYS)
                section = f"a row with {len(names)} services, {engine}"
                names_kept = (c.name for c in table_of(EnrichedSession).columns if c.name not in DEEDS)
                kept = ", ".join(name for name in names_kept if not name.endswith("_left_out"))
                report.add(section, "whole_bytes", round(_row_bytes(enricher.database, "*")))
                typical = round(_row_bytes(enricher.database, kept))
                report.add(section, "without_deeds_bytes", typical, at_most(KB))
                told = "length(CAST(intel AS text)) + length(CAST(provenance AS text))"
                largest = round(_row_bytes(enricher.database, kept, f"ORDER BY {told} DESC LIMIT 1"))
                report.add(section, "largest_without_deeds_bytes", largest)


def _row_bytes(database: Database, columns: str, of: str = "") -> float:
    """The mean of what the rows of the sessions that may be asked about take in a table of these columns."""
    rows = f"SELECT {columns} FROM enriched_sessions WHERE source_scope = '{Scope.GLOBAL}' {of}"
    size = "SELECT avg(pg_column_size(measured)) FROM measured"
    if database.is_sqlite:
        size = (
            "SELECT sum(payload) * 1.0 / sum(ncell) FROM dbstat WHERE name = 'measured' AND pagetype = 'leaf'"
        )
    with database.write() as connection:
        connection.execute(text(f"CREATE TABLE measured AS {rows}"))
        found = float(connection.execute(text(size)).scalar_one())
        connection.execute(text("DROP TABLE measured"))
    return found


def main() -> int:
    """Measure and print."""
    parser = command_line(__doc__)
    parser.add_argument("--factor", type=float, default=5.0, help="what the real limits are multiplied by")
    arguments = parser.parse_args()
    report = Report("services")
    all_at_once(report, arguments.factor)
    scarce_budget(report)
    feeds(report)
    row_size(report)
    return report.finish(as_json=arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
