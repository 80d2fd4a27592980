"""Lists: reading two million networks, and finding 100,000 addresses in them, from a text and, as a run does,
from the database (SQLite, in a process of its own): processor seconds, and memory."""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import time
from ipaddress import ip_address
from multiprocessing import get_context

from benchmarks.workload import migrated, peak_mib
from cowrie_enrich_dagster.enrichment import list_store
from cowrie_enrich_dagster.enrichment.list_book import ListBook
from cowrie_enrich_dagster.services.lists import ListForm, as_text, read_list
from cowrie_enrich_dagster.services.lists.matching import NetworkTable
from cowrie_enrich_dagster.storage.engine import Database

NETWORKS, ADDRESSES = 2_000_000, 100_000
IPV6_SHARE = 0.1


def of_database(url: str, addresses: list[str]) -> tuple[float, float, float, int]:
    """Seconds until the book of the lists is open, and until it has found them; MiB at most; how many."""
    started = time.process_time()
    book = ListBook(Database(url), ())
    book.spans([])
    opened = time.process_time()
    found = book.spans(addresses)
    return opened - started, time.process_time() - opened, peak_mib(), len(found)


def main() -> None:
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
    body = "\n".join(lines).encode() + b"\n"
    del lines

    started = time.process_time()
    read = read_list(body, ListForm())
    reading = time.process_time() - started
    networks = sorted(read.networks)
    started = time.process_time()
    table = NetworkTable.of(networks)
    building = time.process_time() - started
    started = time.process_time()
    found = table.rows_of([*held, *strangers])
    matching = time.process_time() - started
    assert set(held) <= found.keys()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    with tempfile.TemporaryDirectory() as folder:
        url = migrated(f"sqlite:///{folder}/lists.db")
        started = time.process_time()
        list_store.take(Database(url), "many", "malicious", read)
        taking = time.process_time() - started
        with get_context("spawn").Pool(1) as pool:
            opening, finding, peak_of_book, told = pool.apply(of_database, (url, [*held, *strangers]))
    assert told == len(found)
    print(
        json.dumps(
            {
                "networks": len(networks),
                "addresses": len(held) + len(strangers),
                "found": len(found),
                "read_s": round(reading, 2),
                "build_s": round(building, 2),
                "match_s": round(matching, 2),
                "peak_mib": peak,
                "taken_into_the_database_s": round(taking, 2),
                "from_the_database_s": round(opening, 2),
                "matched_s": round(finding, 2),
                "peak_of_that_process_mib": peak_of_book,
            }
        )
    )
    sys.exit(max(matching, finding) >= 2.0)


if __name__ == "__main__":
    main()
