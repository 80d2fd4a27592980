"""When does Redis pay? The same lookups with and without it, the database beside us and 5 ms away.

    python -m benchmarks.redis_pays [--json]

Redis is beside us. One by one is what a session-by-session enrichment does, in bulk what a run does. Payloads
are 1 KB; warm, the best of three.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

from sqlalchemy import make_url

from benchmarks.cache import SERVICE, entry, per_second
from benchmarks.report import Report, command_line
from cowrie_enrich_dagster.cache import DatabaseCache, HybridEnrichmentCache, RedisCache
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from tests.servers import PostgresServer, RedisServer

ENTRIES = 10_000
SINGLE = 300
DELAY_S = 0.0025


@contextmanager
def delayed(port: int, seconds: float) -> Iterator[int]:
    """A way to a local port on which everything takes so long in each direction; its own port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 20):
                time.sleep(seconds)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", port))
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def run() -> Report:
    """Every figure, on servers started for it."""
    report = Report("redis_pays", {"entries": ENTRIES, "payload_bytes": 1024, "round_trip_ms": 2e3 * DELAY_S})
    entries = [entry(number) for number in range(ENTRIES)]
    keys = [item.key for item in entries]
    with ExitStack() as stack:
        postgres = stack.enter_context(closing(PostgresServer(durable=True)))
        redis_server = stack.enter_context(closing(RedisServer()))
        beside = make_url(postgres.new_database())
        upgrade(Database(beside.render_as_string(hide_password=False)))
        away = beside.set(port=stack.enter_context(delayed(postgres.port, DELAY_S)))
        for where, url in (("beside us", beside), ("5 ms away", away)):
            database = stack.enter_context(closing(Database(url.render_as_string(hide_password=False))))
            for name, redis in (("without Redis", None), ("with Redis", redis_server)):
                tier = stack.enter_context(closing(RedisCache("127.0.0.1", redis.port))) if redis else None
                cache = HybridEnrichmentCache(tier, DatabaseCache(database))
                cache.set_many(entries)
                row = f"database {where}, {name}"

                def singly(cache: HybridEnrichmentCache = cache) -> None:
                    for key in keys[:SINGLE]:
                        assert cache.get(SERVICE, key)

                def in_bulk(cache: HybridEnrichmentCache = cache) -> None:
                    assert len(cache.get_many(SERVICE, keys)) == len(keys)

                report.add(row, "one_by_one_per_s", per_second(singly, SINGLE, times=3))
                report.add(row, "in_bulk_per_s", per_second(in_bulk, ENTRIES, times=3))
    return report


if __name__ == "__main__":
    arguments = command_line(__doc__).parse_args()
    raise SystemExit(run().finish(as_json=arguments.json))
