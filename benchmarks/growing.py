"""A tick on a live day: what a hundred new sessions cost where there are 60,000, step by step.

    python -m benchmarks.growing [--sessions 60000] [--new 100] [--engine sqlite|postgresql] [--json]

Eight services that are not asked; DShield has answered half of the addresses. First the day is read and
written whole; a minute later it grows three times, and what `enrich_day` does is done each time, but for
Dagster itself and for asking. Seconds of this process's processor: the server's of PostgreSQL are not in
them.
"""

from __future__ import annotations

import gzip
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.generate import generate
from benchmarks.report import Report, at_most, command_line
from benchmarks.workload import answers, database_of, environment, migrated
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.vocabulary import Days, utc_now

SESSIONS_PER_ADDRESS = 8
TICKS = 3
TICK_SECONDS = 2.0
A_MINUTE_AND_MORE = 65
"""What was learned within a minute before rows were written is taken for new once more."""
KEYS = ("GREYNOISE_API_KEY", "ABUSEIPDB_API_KEY", "SPUR_API_KEY", "VT_API_KEY", "URLHAUS_AUTH_KEY")
SERVICES = "dshield,greynoise,abuseipdb,spur,virustotal,urlhaus,cymru,hibp"


def lines_of_today(sessions: int) -> list[bytes]:
    """The lines of a sensor's day, in order."""
    today = utc_now().date().isoformat().encode()
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), sessions=sessions, days=1, sensors=1, ips=sessions // SESSIONS_PER_ADDRESS)
        lines: list[bytes] = []
        for path in Path(folder).rglob("cowrie.json*"):
            content = path.read_bytes()
            plain = gzip.decompress(content) if path.suffix == ".gz" else content
            lines += plain.replace(b"2025-11-01", today).splitlines(keepends=True)
    key = b'"timestamp":"'
    return sorted(lines, key=lambda line: line[(at := line.index(key)) : at + 45])


def tick(enricher: Enricher, today: Days) -> dict[str, float]:
    """What `enrich_day` does, with the processor seconds of each step."""
    steps: dict[str, Callable[[], Any]] = {
        "days in the logs": enricher.log_days,
        "sessions": lambda: enricher.ingest(today),
        "addresses": lambda: enricher.summarise_addresses(today),
        "plan": lambda: enricher.plan_and_open(today, by_day=True),
        "rows": lambda: enricher.write_rows(today),
        "answers": lambda: enricher.answers_by_day(today),
        "news": enricher.write_news,
        "rows again": lambda: enricher.enrich(today, {}),
        "campaigns": lambda: enricher.find_campaigns(today),
    }
    seconds = {}
    for name, step in steps.items():
        begun = time.process_time()
        step()
        seconds[name] = time.process_time() - begun
    return seconds


def main() -> int:
    """Grow a day and print what it cost."""
    parser = command_line(__doc__)
    parser.add_argument("--sessions", type=int, default=60_000, help="of the day before it grows")
    parser.add_argument("--new", type=int, default=100, help="sessions that come in a tick")
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    arguments = parser.parse_args()
    report = Report("growing", {"engine": arguments.engine, "sessions": arguments.sessions})
    today = Days(utc_now().date(), utc_now().date())
    lines = lines_of_today(arguments.sessions + TICKS * arguments.new)
    new = arguments.new * len(lines) // (arguments.sessions + TICKS * arguments.new)
    with tempfile.TemporaryDirectory() as home, database_of(arguments.engine, Path(home)) as url:
        log = Path(home) / "logs" / "cowrie.json"
        log.parent.mkdir()
        log.write_bytes(b"".join(lines[: -TICKS * new]))
        migrated(url)
        more = dict.fromkeys(KEYS, "k") | {"ENRICH_SERVICES": SERVICES, "ENRICH_HIBP": "true"}
        settings = load_settings(environment(Path(home), log.parent, url, **more))
        with Enricher(settings) as enricher:
            whole = tick(enricher, today)
            wanted: list[str] = []
            enricher.plan(today, lambda name, keys: wanted.extend(k.key for k in keys if name == "dshield"))
            enricher.cache.set_many(list(answers(wanted[::2])))
            time.sleep(A_MINUTE_AND_MORE)
            enricher.enrich(today)
        report.add("the day, whole", "processor s", sum(whole.values()))
        for number in range(TICKS):
            with log.open("ab") as file, Enricher(settings) as enricher:
                begin = len(lines) - (TICKS - number) * new
                file.write(b"".join(lines[begin : begin + new]))
                file.flush()
                steps = tick(enricher, today)
            for name, seconds in steps.items():
                report.add(f"tick {number + 1}", f"{name}, s", seconds)
            report.add(f"tick {number + 1}", "processor s", sum(steps.values()), at_most(TICK_SECONDS))
    return report.finish(as_json=arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
