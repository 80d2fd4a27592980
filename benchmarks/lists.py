"""Lists: two million networks and 100,000 addresses, and what is no list.

- reading the networks, and finding the addresses in them, from a text and, as a run does, from the database
  (SQLite, in a process of its own): processor seconds, and memory.
- hostile lists, in the place of a good one: whether they are refused, the last good one goes on holding, and
  the report says so; processor seconds and memory of those that are large.
"""

from __future__ import annotations

import gzip
import random
import tempfile
import time
from contextlib import closing
from datetime import timedelta
from ipaddress import ip_address
from multiprocessing import get_context
from pathlib import Path

from benchmarks.report import Reach, Report, at_most, command_line, exactly
from benchmarks.workload import environment, migrated, peak_mib
from cowrie_enrich_dagster.enrichment import Enricher, list_store
from cowrie_enrich_dagster.enrichment.list_book import ListBook
from cowrie_enrich_dagster.services.lists import ListForm, as_text, read_list
from cowrie_enrich_dagster.services.lists.matching import NetworkTable
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.storage.engine import Database
from tests.integration.enrichment.listing import at
from tests.integration.enrichment.publisher import BROKEN, WHOLE, WHOLE_ANSWERS, Publisher, framed
from tests.logs import START

NETWORKS, ADDRESSES = 2_000_000, 100_000
IPV6_SHARE = 0.1
MATCHED_WITHIN_S = 2.0
IS_LARGE = 2**16


def matching(report: Report) -> None:
    """From a text, and from the database."""
    body, asked, held = texts()
    peak_mib()
    started = time.process_time()
    read = read_list(body, ListForm())
    report.add("from a text", "read_s", round(time.process_time() - started, 2))
    networks = sorted(read.networks)
    started = time.process_time()
    table = NetworkTable.of(networks)
    report.add("from a text", "made_ready_s", round(time.process_time() - started, 2))
    started = time.process_time()
    found = table.rows_of(asked)
    took = round(time.process_time() - started, 2)
    report.add("from a text", "matched_s", took, at_most(MATCHED_WITHIN_S))
    report.add("from a text", "peak_mib", peak_mib())
    report.add("from a text", "held_addresses_not_found", len(held - found.keys()), exactly(0))
    with tempfile.TemporaryDirectory() as folder:
        url = migrated(f"sqlite:///{folder}/lists.db")
        started = time.process_time()
        list_store.take(Database(url), "many", "malicious", read)
        report.add("from the database", "taken_into_it_s", round(time.process_time() - started, 2))
        with get_context("spawn").Pool(1) as pool:
            opening, took, peak, told = pool.apply(of_database, (url, asked))
    report.add("from the database", "opened_s", round(opening, 2))
    report.add("from the database", "matched_s", round(took, 2), at_most(MATCHED_WITHIN_S))
    report.add("from the database", "peak_mib", peak)
    report.add("from the database", "found_otherwise_than_from_the_text", abs(told - len(found)), exactly(0))


def texts() -> tuple[bytes, list[str], set[str]]:
    """A list, addresses, and those of them that it holds."""
    chance = random.Random(18)
    lines, held = [], []
    for number in range(NETWORKS):
        if chance.random() < IPV6_SHARE:
            length = chance.choice((32, 48, 64, 128))
            first = (0x2001 << 112 | chance.getrandbits(100)) >> (128 - length) << (128 - length)
            lines.append(as_text((6, length, first)))
        else:
            length = chance.choice((32, 32, 32, 32, 30, 29, 28, 27, 26, 25, 24))
            first = (0x0B000000 + chance.getrandbits(30)) >> (32 - length) << (32 - length)
            lines.append(as_text((4, length, first)))
        if number % (NETWORKS // (ADDRESSES // 2)) == 0:
            held.append(str(ip_address(first)))
    strangers = [str(ip_address(0x60000000 + chance.getrandbits(28))) for _ in range(ADDRESSES // 2)]
    return "\n".join(lines).encode() + b"\n", [*held, *strangers], set(held)


def of_database(url: str, addresses: list[str]) -> tuple[float, float, float, int]:
    """Seconds until the book of the lists is open, and until it has found them; MiB at most; how many."""
    started = time.process_time()
    book = ListBook(Database(url), ())
    book.spans([])
    opened = time.process_time()
    found = book.spans(addresses)
    return opened - started, time.process_time() - opened, peak_mib(), len(found)


def hostile() -> dict[str, bytes]:
    """What a publisher may send in the place of a list, as it comes over the connection."""
    endless = b"11.255.255.255\n" * 10_000_000
    bodies = {
        "a page": b"<!DOCTYPE html><html><body>" + WHOLE + b"</body></html>",
        "nothing": b"# nothing today\n",
        "0.0.0.0/0": WHOLE + b"0.0.0.0/0\n",
        "0.0.0.0/0 in pieces": WHOLE + b"".join(b"%d.0.0.0/8\n" % n for n in range(11, 120)),
        "2000::/3 in pieces": WHOLE + b"".join(b"%x::/16\n" % n for n in range(0x2000, 0x4000)),
        "half of it": WHOLE[: len(WHOLE) * 2 // 5],
        "mostly no entries": WHOLE + b"no entry\n" * 1000,
        "10 million lines": endless,
        "4 million entries": b"".join(
            b"%d.%d.%d.%d\n" % (11 + (n >> 22), n >> 14 & 255, n >> 6 & 255, n & 63) for n in range(4_000_000)
        ),
    }
    sent = {name: framed(body, f"Content-Length: {len(body)}") for name, body in bodies.items()}
    packed = gzip.compress(endless)
    sent["10 million lines, packed"] = framed(
        packed, "Content-Encoding: gzip", f"Content-Length: {len(packed)}"
    )
    return sent | {f"broken off {where}": answer for where, answer in BROKEN.items()}


def refusing() -> list[tuple[str, str, float, Reach | None]]:
    """Each in the place of a good one; the figures, for this is in a process of its own, for its memory."""
    sent, figures = hostile(), list[tuple[str, str, float, Reach | None]]()
    with closing(Publisher()) as publisher, tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "sensors.toml").write_text(
            f'[[enrichment.lists]]\nname = "exits"\nsays = "tor"\nrefresh_hours = 12\nurl = "{publisher.url}"'
        )
        url = migrated(f"sqlite:///{folder}/bench.db")
        more = {"SENSORS_TOML": str(home / "sensors.toml"), "ENRICH_MAX_WAIT_SECONDS": "0"}
        with Enricher(load_settings(environment(home, home, url, **more))) as enricher:
            clock = at(enricher, START)
            for name, answer in sent.items():
                publisher.answer = WHOLE_ANSWERS["with its length"]
                clock.now += timedelta(days=1)
                assert enricher.refresh_lists()[0].status in ("taken", "unchanged")
                good = set(enricher.list_book.networks("tor"))
                publisher.answer = answer
                clock.now += timedelta(days=1)
                before = peak_mib() and peak_mib()
                started = time.process_time()
                (told,) = enricher.refresh_lists()
                took, peak = time.process_time() - started, peak_mib()
                is_said = told.status in ("refused", "failed") and told.problem.endswith("UTC is kept")
                is_kept = set(enricher.list_book.networks("tor")) == good
                section = f"hostile: {name}"
                figures.append((section, "refused_and_said", int(is_said), exactly(1)))
                figures.append((section, "last_good_one_kept", int(is_kept), exactly(1)))
                if len(answer) > IS_LARGE:
                    figures.append((section, "took_s", round(took, 2), None))
                    figures.append((section, "peak_mib_more", round(peak - before, 1), None))
    return figures


def main() -> int:
    """Both."""
    arguments = command_line(__doc__).parse_args()
    report = Report("lists", {"networks": NETWORKS, "addresses": ADDRESSES})
    matching(report)
    with get_context("spawn").Pool(1) as pool:
        for figure in pool.apply(refusing):
            report.add(*figure)
    return report.finish(as_json=arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
