"""What the benchmarks of whole runs share: an environment, answers for the cache, worker processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from cowrie_enrich_dagster.cache import CacheEntry
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from cowrie_enrich_dagster.vocabulary import Days, utc_now
from tests.servers import PostgresServer

SERVICE = "dshield"
WORKER_TIMEOUT_S = 600


def environment(home: Path, logs: Path, url: str, **more: str) -> dict[str, str]:
    """The settings of a run that asks DShield alone and has no Redis, unless `more` says otherwise."""
    return {
        "COWRIE_ENRICH_HOME": str(home),
        "COWRIE_LOG_DIR": str(logs),
        "DATABASE_URL": url,
        "DSHIELD_EMAIL": "bench@example.org",
        "ENABLE_REDIS_CACHE": "false",
        "ENRICH_SERVICES": SERVICE,
        **more,
    }


@contextmanager
def database_of(engine: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database without tables: of a PostgreSQL of its own, or a SQLite file."""
    if engine == "sqlite":
        yield f"sqlite:///{folder}/bench.db"
        return
    with closing(PostgresServer(durable=True)) as server:
        yield server.new_database()


def peak_mib() -> float:
    """The peak of this process's resident set since it was last asked for."""
    # Not getrusage: what it tells of a child begins with the peak of the process that started it.
    status = Path("/proc/self/status").read_text()
    kib = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
    Path("/proc/self/clear_refs").write_text("5")
    return round(int(kib) / 1024, 1)


def migrated(url: str) -> str:
    """The URL of an empty database, once it has its tables."""
    database = Database(url)
    upgrade(database)
    database.close()
    return url


def answers(ips: Iterable[str]) -> Iterator[CacheEntry]:
    """DShield's answers about addresses, as of now."""
    now = utc_now()
    for ip in ips:
        number = sum(map(ord, ip))
        facts = {"number": ip, "count": number, "attacks": number % 90, "maxdate": "2025-11-01"}
        network = {"as": 64_000 + number % 500, "asname": "EXAMPLE-NET", "ascountry": "NL"}
        payload = {"ip": {**facts, **network, "comment": "x" * 200}}
        yield CacheEntry.of_answer(SERVICE, ip, payload, fetched_at=now, ttl=timedelta(days=7))


def answer_everything(settings: Mapping[str, str], days: Days) -> list[CacheEntry]:
    """Read the logs and keep an answer about every address in all tiers; returns the answers."""
    with Enricher(load_settings(settings)) as enricher:
        enricher.ingest(days)
        enricher.summarise_addresses(days)
        wanted: list[str] = []
        enricher.plan(days, lambda service, keys: wanted.extend(want.key for want in keys))
        entries = list(answers(wanted))
        enricher.cache.set_many(entries)
    return entries


def start_runs(settings: Mapping[str, str], days: str, number: int) -> list[subprocess.Popen[bytes]]:
    """That many `cowrie-enrich run` processes, started at the same time."""
    command = [sys.executable, "-m", "cowrie_enrich_dagster", "run", "--days", days, "--json"]
    return [
        subprocess.Popen(
            command, env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for _ in range(number)
    ]


def reports_of(workers: Sequence[subprocess.Popen[bytes]]) -> list[dict[str, Any]]:
    """What each process reports at its end; a run that fails ends the benchmark."""
    reports = []
    for worker in workers:
        printed, _ = worker.communicate(timeout=WORKER_TIMEOUT_S)
        if worker.returncode:
            raise RuntimeError(f"a run ended with exit code {worker.returncode}")
        reports.append(json.loads(printed.splitlines()[-1]))
    return reports
