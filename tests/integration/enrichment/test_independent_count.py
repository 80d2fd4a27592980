"""What the tables hold beside a few lines that count the logs on their own, whatever these are wrapped in."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta
from ipaddress import ip_address
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import text

from benchmarks.generate import generate
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.vocabulary import Days

Open = Callable[..., Enricher]
Record = dict[str, Any]
FIRST = date(2025, 11, 1)
SPAN = Days(FIRST, FIRST + timedelta(days=3))
MOMENT = "2025-12-24T18:00:00.5Z"


def as_it_is(lines: Iterable[bytes]) -> bytes:
    return b"".join(lines)


def docker(lines: Iterable[bytes]) -> bytes:
    return b"".join(
        json.dumps({"log": line.decode(), "stream": "stdout", "time": MOMENT}).encode() + b"\n"
        for line in lines
    )


def filebeat(lines: Iterable[bytes]) -> bytes:
    shipped = (
        {"@timestamp": MOMENT, "agent": {"type": "filebeat"}, "message": line.decode()} for line in lines
    )
    return gzip.compress(b"".join(json.dumps(record).encode() + b"\n" for record in shipped))


def elasticsearch(lines: Iterable[bytes]) -> bytes:
    hits = [{"_index": "cowrie", "_id": str(n), "_source": json.loads(line)} for n, line in enumerate(lines)]
    return json.dumps(hits, indent=2).encode()


WRAPPINGS = {"as it is": as_it_is, "docker": docker, "filebeat": filebeat, "elasticsearch": elasticsearch}


def files_of(folder: Path) -> dict[Path, list[bytes]]:
    """The lines of each log in it, by its place there."""
    found = {}
    for path in sorted(folder.rglob("cowrie.json*")):
        content = path.read_bytes()
        plain = gzip.decompress(content) if path.suffix == ".gz" else content
        found[path.relative_to(folder)] = plain.splitlines(keepends=True)
    return found


def by_hand(files: Iterable[Iterable[bytes]]) -> dict[str, Any]:
    """Sessions, events and deeds, by the standard library alone: in these logs no id is used again."""
    events = [json.loads(line) for lines in files for line in lines]
    kinds = Counter(event["eventid"].removeprefix("cowrie.") for event in events)
    connects = [event for event in events if event["eventid"] == "cowrie.session.connect"]
    hashes = defaultdict(set)
    for event in events:
        if "shasum" in event:
            hashes[event["sensor"], event["session"]].add(event["shasum"])
    return {
        "sessions": len({(event["sensor"], event["session"]) for event in events}),
        "events": len(events),
        "logins": kinds["login.success"] + kinds["login.failed"],
        "logins that succeeded": kinds["login.success"],
        "commands": sorted(e["input"] for e in events if e["eventid"] == "cowrie.command.input"),
        "credentials": Counter(
            (event["username"][:256] or None, event["password"][:256])
            for event in events
            if event["eventid"] in ("cowrie.login.success", "cowrie.login.failed")
        ),
        "files": kinds["session.file_download"] + kinds["session.file_upload"],
        "hashes": Counter(sha256 for of_session in hashes.values() for sha256 in of_session),
        "tunnels": Counter(
            (event["dst_ip"], event["dst_port"])
            for event in events
            if event["eventid"] == "cowrie.direct-tcpip.request"
        ),
        "addresses": Counter(str(ip_address(event["src_ip"])) for event in connects),
        "days": Counter(event["timestamp"][:10] for event in connects),
    }


def as_told(database: Database) -> dict[str, Any]:
    """The same, of the tables and views."""
    with database.read() as connection:

        def rows(query: str) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in connection.execute(text(query))]

        def counted(columns: str, of: str, number: str = "count(*)") -> Counter[Any]:
            counts = Counter()
            for *key, times in rows(f"SELECT {columns}, {number} FROM {of} GROUP BY {columns}"):
                counts[tuple(key) if len(key) > 1 else key[0]] += int(times)
            return counts

        totals = rows("""
            SELECT count(*), sum(event_count), sum(login_failures + login_successes), sum(login_successes),
                sum(downloads + uploads) FROM sessions
        """)
        sessions, events, logins, succeeded, files = map(int, totals[0])
        enriched = rows(
            "SELECT count(*), sum(login_successes), sum(downloads + uploads) FROM enriched_sessions"
        )
        assert tuple(map(int, enriched[0])) == (sessions, succeeded, files)
        by_address = counted("source_ip", "enriched_sessions")
        assert by_address == counted("src_ip", "session_ips", "sum(sessions)")
        return {
            "sessions": sessions,
            "events": events,
            "logins": logins,
            "logins that succeeded": succeeded,
            "commands": sorted(line for (line,) in rows("SELECT command_line FROM session_commands")),
            "credentials": counted("username, password", "session_logins", "sum(attempts)"),
            "files": files,
            "hashes": hashes_of(rows("SELECT DISTINCT sensor, session_id, sha256 FROM session_files")),
            "tunnels": counted("host, port", "session_tunnels", "sum(requests)"),
            "addresses": by_address,
            "days": Counter({str(day): n for day, n in counted("day", "sessions").items()}),
        }


def hashes_of(rows: Iterable[tuple[Any, ...]]) -> Counter[str]:
    return Counter(sha256 for *_, sha256 in rows if sha256)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sessions of three days on three sensors, made of the samples'."""
    folder = tmp_path_factory.mktemp("generated")
    generate(folder, sessions=1_200, days=3, sensors=3, ips=90, seed=7)
    return folder


def runs(rng: Random) -> Iterator[Days]:
    """All days at once, or each alone, in some order and the first of them again."""
    if rng.random() < 0.5:
        yield SPAN
        return
    days = list(SPAN)
    rng.shuffle(days)
    yield from (Days(day, day) for day in [*days, days[0]])


@pytest.mark.parametrize(
    ("database_url", "wrapping", "logs"),
    [
        *(("sqlite", wrapping, logs) for wrapping in WRAPPINGS for logs in ("samples", "generated")),
        ("postgresql", "as it is", "samples"),
        ("postgresql", "docker", "generated"),
    ],
    indirect=["database_url"],
)
def test_equal_counts(
    open_enricher: Open, sample_logs: Path, generated: Path, tmp_path: Path, wrapping: str, logs: str
) -> None:
    """Sessions, events and what was done in them, by address and day; a third of the files comes late."""
    rng = Random(f"{wrapping} {logs}")
    files = files_of(sample_logs if logs == "samples" else generated)
    late = set(rng.sample(sorted(files), len(files) // 3))
    folder = tmp_path / "wrapped"

    def lay(paths: Iterable[Path]) -> None:
        for path in paths:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(WRAPPINGS[wrapping](files[path]))

    lay(files.keys() - late)
    with open_enricher(COWRIE_LOG_DIR=str(folder), ENRICH_SERVICES="maxmind") as enricher:
        for days in runs(rng):
            enricher.run(days)
        lay(late)
        for days in runs(rng):
            enricher.run(days)
        assert as_told(enricher.database) == by_hand(files.values())
        with enricher.database.read() as connection:
            assert connection.execute(text("SELECT count(*) FROM quarantined_lines")).scalar_one() == 0
