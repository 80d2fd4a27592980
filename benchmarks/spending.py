"""What lists and `ENRICH_WANT` save, and what a tenth of the calls is worth: the same addresses each time.

Addresses of networks all over the internet (few hold many of them, as in the field), with sessions, logins
and files; six services of the simulator. Judged by the simulator's log and the rows.

- lists that hold a stated share of the addresses (two of scanners, one of Tor exits), beside a run without
  any: calls of each service, and every value, apart for addresses that are spared and for all others.
- only network and country are wanted: calls of those that are asked one by one, beside distinct networks.
- every service asked one by one may be asked about a tenth of the addresses in the day: the share of sessions
  that have each wanted column, by default and by `ENRICH_WANT`, with value classes and in one class.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from sqlalchemy import select

from benchmarks.report import Report, at_least, at_most, command_line, exactly
from benchmarks.workload import environment, migrated
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import Fault, SimulatorProcess
from cowrie_enrich_dagster.simulator.pages._world import announcement
from cowrie_enrich_dagster.storage.tables import EnrichedSession, EnrichmentCache, table_of
from cowrie_enrich_dagster.vocabulary import WANTED_GROUPS, Days
from tests.all_services import write_mmdb

ADDRESSES, NETWORKS = 600, 220
START = datetime(2025, 11, 1, tzinfo=timezone.utc)
DAY = Days.parse("2025-11-01")
COSTLY = ("dshield", "greynoise", "spur", "abuseipdb")
BUDGET = 0.10
Row = Mapping[Any, Any]
_CACHE = table_of(EnrichmentCache)
LISTS = (("scan_a", "scanner", 0.08), ("scan_b", "scanner", 0.06), ("exits", "tor", 0.05))
"""What the lists are called and say, and the share of the addresses that each holds."""
FREE = ("cymru", "maxmind")
EVERYWHERE = ("0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3")
COLUMNS = tuple(
    name for group, names in WANTED_GROUPS.items() if group not in ("files", "passwords") for name in names
)
"""What services tell of addresses."""
WANTS = (
    "country,scanner,source_classification,source_reports",
    "network,country,scanner,tor,reputation",
    "country",
)


@dataclass(frozen=True)
class Visitor:
    """An address, its sessions, and whether it got in, and left a file."""

    address: str
    sessions: int
    got_in: bool
    left_file: bool


def visitors(number: int, networks: int, seed: int = 18) -> list[Visitor]:
    """The same ones for the same seed; sessions and networks are as skewed as a sensor's."""
    chance = random.Random(seed)
    blocks: list[int] = []
    while len(blocks) < networks:
        block = chance.randrange(1, 223) << 8 | chance.randrange(256)
        if IPv4Address(block << 16 | 257).is_global and block not in blocks:
            blocks.append(block)
    weights = [1 / (rank + 1) for rank in range(networks)]
    found: dict[str, None] = {}
    while len(found) < number:
        (block,) = chance.choices(blocks, weights)
        found[str(IPv4Address(block << 16 | chance.randrange(256, 65_280)))] = None
    return [
        Visitor(ip, min(40, int(chance.paretovariate(1.1))), chance.random() < 0.1, chance.random() < 0.05)
        for ip in found
    ]


def write_logs(folder: Path, seen: Sequence[Visitor]) -> Path:
    """A `cowrie.json` with their sessions, in an order of their own."""
    sessions = [visitor for visitor in seen for _ in range(visitor.sessions)]
    random.Random(1).shuffle(sessions)
    folder.mkdir()
    with (folder / "cowrie.json").open("w") as log:
        for number, visitor in enumerate(sessions):
            events: list[dict[str, Any]] = [{"eventid": "cowrie.session.connect", "protocol": "ssh"}]
            if visitor.got_in:
                events.append({"eventid": "cowrie.login.success", "username": "root", "password": "root"})
            if visitor.left_file:
                events.append(
                    {"eventid": "cowrie.session.file_download", "shasum": "ab" * 32, "url": "http://x/y"}
                )
            events.append({"eventid": "cowrie.session.closed"})
            common = {"session": f"{number:012x}", "src_ip": visitor.address, "sensor": "sensor-a"}
            for step, event in enumerate(events):
                moment = START + timedelta(seconds=number * 5, milliseconds=step)
                log.write(
                    json.dumps({**common, **event, "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"}) + "\n"
                )
    return folder  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """What a run came to: the addresses in the calls of each service; the rows, by their sessions' ids."""

    calls: Mapping[str, Sequence[Sequence[str]]]
    rows: Sequence[Row]
    without_network: int
    """Answers of DShield that name no network: they serve nobody else, and tell no country."""

    def shares(self) -> dict[str, float]:
        """The share of the sessions that have each column that services tell of addresses."""
        return {name: sum(row[name] is not None for row in self.rows) / len(self.rows) for name in COLUMNS}


def ran(
    seen: Sequence[Visitor], simulator: SimulatorProcess, lists: Sequence[Listed] = (),
    in_file: Sequence[str] = ("0.0.0.0/2",), **changes: str,
) -> Ran:  # fmt: skip
    """A run over them in a new database; MaxMind's file has the country of some networks."""
    simulator.reset()
    simulator.set_fault("lists", *(one.answer() for one in lists))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        toml = home / "sensors.toml"
        toml.write_text("".join(one.as_toml(simulator) for one in lists))
        mmdb = write_mmdb(home / "here.mmdb", in_file)
        more = {f"{name.upper()}_API_URL": simulator.url(name) for name in (*COSTLY, "cymru")}
        more |= {f"{name.upper()}_API_KEY": "key" for name in COSTLY[1:]}
        more |= {f"{name.upper()}_RATE_LIMIT": "200" for name in (*COSTLY, "cymru")}
        more |= {f"{name.upper()}_PER_DAY": "100000" for name in COSTLY}
        more |= {"ENRICH_SERVICES": ",".join((*FREE, *COSTLY)), "MAXMIND_DB_PATH": str(mmdb)}
        more |= {"ENRICH_FEEDS": "none", "SENSORS_TOML": str(toml), "ENRICH_MAX_WAIT_SECONDS": "5"}
        url = migrated(f"sqlite:///{folder}/bench.db")
        logs = write_logs(home / "logs", seen)
        with Enricher(load_settings(environment(home, logs, url, **{**more, **changes}))) as enricher:
            enricher.run(DAY, wait=True)  # a run ends after five minutes: too few on a loaded machine
            with enricher.database.read() as connection:
                query = select(table_of(EnrichedSession)).order_by("session_id")
                rows = list(connection.execute(query).mappings())
                query = select(_CACHE.c.cache_value).where(_CACHE.c.service == "dshield")
                told = [
                    ALL["dshield"].facts(payload or {}) for payload in connection.execute(query).scalars()
                ]
    sent = {name: [record.keys for record in simulator.requests(name)] for name in ("cymru", *COSTLY)}
    return Ran(sent, rows, sum(facts.network is None for facts in told))


@dataclass(frozen=True)
class Listed:
    """A list and the addresses that it holds."""

    name: str
    says: str
    addresses: Sequence[str]

    def answer(self) -> Fault:
        """As the publisher sends it, once."""
        body = "".join(f"{address}\n" for address in self.addresses)
        return Fault(kind="reply", status=200, body=body, times=1)

    def as_toml(self, simulator: SimulatorProcess) -> str:
        """As it stands in the settings."""
        url = f"{simulator.url('lists')}/addresses/11.0.0.0-24/50"
        return f'[[enrichment.lists]]\nname = "{self.name}"\nsays = "{self.says}"\nurl = "{url}"\n'


def with_lists(report: Report, seen: Sequence[Visitor], simulator: SimulatorProcess) -> None:
    """Calls saved, and columns that are empty where they were not without lists."""
    addresses = [visitor.address for visitor in seen]
    random.Random(2).shuffle(addresses)
    lists, start = [], 0
    for name, says, share in LISTS:
        end = start + round(share * len(addresses))
        lists.append(Listed(name, says, addresses[start:end]))
        start = end
    spared = {address for one in lists if one.says == "scanner" for address in one.addresses}
    without, beside = ran(seen, simulator), ran(seen, simulator, lists)
    for one in lists:
        report.add("lists", f"held_by_{one.name}", len(one.addresses))
    for name, calls in without.calls.items():
        expected = len(calls) - (0 if name == "cymru" else len(spared))
        report.add("lists: calls", f"{name}_without", len(calls))
        report.add("lists: calls", name, len(beside.calls[name]), exactly(expected))
    pairs = list(zip(without.rows, beside.rows, strict=True))
    _add_losses(report, "lists: all others", [pair for pair in pairs if pair[0]["source_ip"] not in spared])
    _add_losses(
        report, "lists: spared", [pair for pair in pairs if pair[0]["source_ip"] in spared], by_calls_too=True
    )


def _add_losses(
    report: Report, section: str, pairs: Sequence[tuple[Row, Row]], *, by_calls_too: bool = False
) -> None:
    """Values that are gone or others now; `by_calls_too`: such that services told which are asked one by one
    are shown, for nobody told them."""
    gone: Counter[str] = Counter()
    of_free = compared = gained = other = 0
    for then, now in pairs:
        for name in COLUMNS:
            if then[name] is None:
                gained += now[name] is not None
                continue
            compared += 1
            if now[name] != then[name]:
                gone[name] += now[name] is None
                other += now[name] is not None
                of_free += then["provenance"][name] in FREE
    report.add(section, "sessions", len(pairs))
    report.add(section, "values_without_lists", compared)
    report.add(section, "values_gained", gained)
    if by_calls_too:
        report.add(section, "values_gone_or_other_that_cost_no_call", of_free, exactly(0))
        report.add(section, "values_that_the_list_tells_otherwise", other)
        for name, number in (+gone).items():
            report.add(section, f"{name}_gone", number)
    else:
        report.add(section, "values_gone_or_other", gone.total() + other, exactly(0))


def with_two_columns(report: Report, seen: Sequence[Visitor], simulator: SimulatorProcess) -> None:
    """Calls of those that are asked one by one: none about what Cymru, or a file, has told."""
    networks = {announcement(IPv4Address(visitor.address)).network for visitor in seen}
    for wanted, free in (
        ("network", "cymru"),
        ("network,country", "cymru,maxmind"),
        ("network,country", "cymru"),
    ):
        section = f"wanted: {wanted} with {free}"
        services = ",".join((free, *COSTLY))
        got = ran(seen, simulator, in_file=EVERYWHERE, ENRICH_WANT=wanted, ENRICH_SERVICES=services)
        silent = {row["source_ip"] for row in got.rows if row["intel"]["cymru"]["status"] == "not_found"}
        report.add(section, "cymru_knows_nothing_of", len(silent))
        if wanted == "network" or "maxmind" in free:
            for name in COSTLY:
                calls = [ip for keys in got.calls[name] for ip in keys]
                report.add(section, f"calls_{name}", len(calls), at_most(len(silent)))
                about_told = sum(ip not in silent for ip in calls)
                report.add(section, f"calls_{name}_about_what_is_told", about_told, exactly(0))
        else:
            report.add(section, "distinct_networks", len(networks))
            report.add(section, "answers_of_dshield_without_network", got.without_network)
            most = {"dshield": len(networks) + got.without_network, "spur": got.without_network}
            for name in COSTLY:
                report.add(section, f"calls_{name}", len(got.calls[name]), at_most(most.get(name, 0)))
        shares = got.shares()
        for name in (name for group in wanted.split(",") for name in WANTED_GROUPS[group]):
            report.add(section, name, round(shares[name], 3))


def with_a_tenth(report: Report, who: str, seen: Sequence[Visitor], simulator: SimulatorProcess) -> None:
    """The columns that a tenth of the calls fills; without MaxMind, which would tell the country of all."""
    calls = round(BUDGET * len(seen))
    budget: dict[str, Any] = {f"{name.upper()}_PER_DAY": str(calls) for name in COSTLY}
    # One worker a service, which sends at once: of several the last calls may go to any's keys.
    budget |= {f"{name.upper()}_RATE_LIMIT": "0.4" for name in COSTLY}
    budget |= {f"{name.upper()}_BURST": str(calls) for name in COSTLY}
    budget["ENRICH_SERVICES"] = ",".join(("cymru", *COSTLY))
    plain = ran(seen, simulator, **budget)
    for wanted in WANTS:
        spent = ran(seen, simulator, ENRICH_WANT=wanted, **budget)
        section = f"a tenth of the calls, {who}: {wanted}"
        for name in COSTLY:
            report.add(section, f"calls_{name}", len(spent.calls[name]), at_most(calls))
        groups = [name for one in wanted.split(",") for name in WANTED_GROUPS.get(one, (one,))]
        before, after = plain.shares(), spent.shares()
        for name in groups:
            report.add(section, f"{name}_by_default", round(before[name], 3))
            report.add(section, name, round(after[name], 3))
        by_default, told = (
            round(sum(of[name] for name in groups) / len(groups), 3) for of in (before, after)
        )
        report.add(section, "all_of_them_by_default", by_default)
        report.add(section, "all_of_them", told, at_least(by_default))


def main() -> int:
    """All of it, over the same addresses."""
    parser = command_line(__doc__)
    parser.add_argument("--addresses", type=int, default=ADDRESSES)
    arguments = parser.parse_args()
    report = Report("spending", {"addresses": arguments.addresses, "networks": NETWORKS})
    seen = visitors(arguments.addresses, NETWORKS)
    report.conditions["sessions"] = sum(visitor.sessions for visitor in seen)
    with SimulatorProcess() as simulator:
        with_lists(report, seen, simulator)
        with_two_columns(report, seen, simulator)
        with_a_tenth(report, "a tenth got in", seen, simulator)
        of_one_class = [replace(visitor, got_in=False, left_file=False) for visitor in seen]
        with_a_tenth(report, "nobody got in", of_one_class, simulator)
    return report.finish(as_json=arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
