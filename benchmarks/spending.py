"""What lists save, and what a tenth of the calls is worth: the same addresses by several settings.

Addresses of networks all over the internet (few hold many of them, as in the field), with sessions, logins
and files; six services of the simulator. Judged by the simulator's log and the rows.

- lists that hold a stated share of the addresses (two of scanners, one of Tor exits), beside a run without
  any: calls of each service, and every column of every row.
- every service asked one by one may be asked about a tenth of the addresses in the day: the share of sessions
  that have each wanted column, by default and by `ENRICH_WANT`, with value classes and in one class.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from sqlalchemy import select

from benchmarks.report import Report, command_line, exactly
from benchmarks.workload import environment, migrated
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import Fault, SimulatorProcess
from cowrie_enrich_dagster.storage.tables import EnrichedSession, table_of
from cowrie_enrich_dagster.vocabulary import WANTED_GROUPS, Days
from tests.all_services import write_mmdb

ADDRESSES, NETWORKS = 600, 220
START = datetime(2025, 11, 1, tzinfo=timezone.utc)
DAY = Days.parse("2025-11-01")
COSTLY = ("dshield", "greynoise", "spur", "abuseipdb")
BUDGET = 0.10
LISTS = (("scan_a", "scanner", 0.08), ("scan_b", "scanner", 0.06), ("exits", "tor", 0.05))
"""What the lists are called and say, and the share of the addresses that each holds."""
OF_OTHERS = ("files", "passwords")
TOLD_BY_FREE = ("source_as_number", "source_as_organization_name", "source_geo_country_iso_code")
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
    """What a run came to: the calls of each service, and the rows, in order of their sessions' ids."""

    calls: dict[str, int]
    rows: list[Mapping[Any, Any]]

    def shares(self) -> dict[str, float]:
        """The share of the sessions that have each column that services tell of addresses."""
        columns = [name for group, names in WANTED_GROUPS.items() if group not in OF_OTHERS for name in names]
        return {name: sum(row[name] is not None for row in self.rows) / len(self.rows) for name in columns}


def ran(
    seen: Sequence[Visitor], simulator: SimulatorProcess, lists: Sequence[Listed] = (), **changes: str
) -> Ran:
    """A run over them in a new database."""
    simulator.reset()
    simulator.set_fault("lists", *(one.answer() for one in lists))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        toml = home / "sensors.toml"
        toml.write_text("".join(one.as_toml(simulator) for one in lists))
        mmdb = write_mmdb(home / "here.mmdb", ["0.0.0.0/2"])
        more = {f"{name.upper()}_API_URL": simulator.url(name) for name in (*COSTLY, "cymru")}
        more |= {f"{name.upper()}_API_KEY": "key" for name in COSTLY[1:]}
        more |= {f"{name.upper()}_RATE_LIMIT": "200" for name in (*COSTLY, "cymru")}
        more |= {f"{name.upper()}_PER_DAY": "100000" for name in COSTLY}
        more |= {"ENRICH_SERVICES": ",".join(("cymru", "maxmind", *COSTLY)), "MAXMIND_DB_PATH": str(mmdb)}
        more |= {"ENRICH_FEEDS": "none", "SENSORS_TOML": str(toml), "ENRICH_MAX_WAIT_SECONDS": "5"}
        url = migrated(f"sqlite:///{folder}/bench.db")
        logs = write_logs(home / "logs", seen)
        with Enricher(load_settings(environment(home, logs, url, **{**more, **changes}))) as enricher:
            enricher.run(DAY)
            with enricher.database.read() as connection:
                query = select(table_of(EnrichedSession)).order_by("session_id")
                rows = list(connection.execute(query).mappings())
    return Ran({name: len(simulator.requests(name)) for name in ("cymru", *COSTLY)}, rows)


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
    for name, share in {f"held_by_{one.name}": len(one.addresses) for one in lists}.items():
        report.add("lists", name, share)
    for name, number in without.calls.items():
        expected = number if name == "cymru" else number - len(spared)
        report.add(f"lists: {name}", "calls_without", number)
        report.add(f"lists: {name}", "calls", beside.calls[name], exactly(expected))
    for name, (lost, lost_elsewhere, gained) in _compared(without, beside, spared).items():
        section = f"lists: {name}"
        if lost or lost_elsewhere or gained:
            report.add(section, "sessions_that_lost_it_where_spared", lost)
            report.add(section, "sessions_that_lost_it_elsewhere", lost_elsewhere, exactly(0))
            report.add(section, "sessions_that_gained_it", gained)
    report.add("lists", "free_columns_lost", _lost_of(without, beside, TOLD_BY_FREE), exactly(0))


def _compared(without: Ran, beside: Ran, spared: Collection[str]) -> dict[str, tuple[int, int, int]]:
    compared = {}
    for column in table_of(EnrichedSession).columns:
        lost, lost_elsewhere, gained = 0, 0, 0
        for then, now in zip(without.rows, beside.rows, strict=True):
            is_lost = now[column.name] is None and then[column.name] is not None
            lost += is_lost and now["source_ip"] in spared
            lost_elsewhere += is_lost and now["source_ip"] not in spared
            gained += now[column.name] is not None and then[column.name] is None
        compared[column.name] = lost, lost_elsewhere, gained
    return compared


def _lost_of(without: Ran, beside: Ran, columns: Sequence[str]) -> int:
    """Rows that say something else, or nothing, where a service that costs no call has the word."""
    by_free = {"cymru", "maxmind"}
    return sum(
        now[name] != then[name]
        for then, now in zip(without.rows, beside.rows, strict=True)
        for name in columns
        if (then["provenance"] or {}).get(name) in by_free
    )


def with_a_tenth(report: Report, who: str, seen: Sequence[Visitor], simulator: SimulatorProcess) -> None:
    """The columns that a tenth of the calls fills; without MaxMind, which would tell the country of all."""
    budget = {f"{name.upper()}_PER_DAY": str(round(BUDGET * len(seen))) for name in COSTLY}
    budget["ENRICH_SERVICES"] = ",".join(("cymru", *COSTLY))
    plain = ran(seen, simulator, **budget)
    for wanted in WANTS:
        spent = ran(seen, simulator, ENRICH_WANT=wanted, **budget)
        section = f"a tenth of the calls, {who}: {wanted}"
        for name in COSTLY:
            report.add(section, f"calls_{name}", spent.calls[name])
        groups = [name for one in wanted.split(",") for name in WANTED_GROUPS.get(one, (one,))]
        before, after = plain.shares(), spent.shares()
        for name in groups:
            report.add(section, f"{name}_by_default", round(before[name], 3))
            report.add(section, name, round(after[name], 3))


def main() -> int:
    """Both, over the same addresses."""
    parser = command_line(__doc__)
    parser.add_argument("--addresses", type=int, default=ADDRESSES)
    arguments = parser.parse_args()
    report = Report("spending", {"addresses": arguments.addresses, "networks": NETWORKS})
    seen = visitors(arguments.addresses, NETWORKS)
    report.conditions["sessions"] = sum(visitor.sessions for visitor in seen)
    with SimulatorProcess() as simulator:
        with_lists(report, seen, simulator)
        with_a_tenth(report, "a tenth got in", seen, simulator)
        of_one_class = [replace(visitor, got_in=False, left_file=False) for visitor in seen]
        with_a_tenth(report, "nobody got in", of_one_class, simulator)
    return report.finish(as_json=arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
