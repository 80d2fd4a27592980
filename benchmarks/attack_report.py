"""The report on 500,000 sessions of 30 days, and cards on the same database: seconds and memory.

    python -m benchmarks.attack_report [--sessions N] [--engine sqlite|postgresql] [--json]

A first process reads generated logs, answers every address, joins, and finds the campaigns. Each figure is
then measured in a process of its own: the report as data, as a page, that of the last day alone (what is new
is looked for in all the days before it); the card of the busiest address (a seventh of all sessions), of one
of the usual kind, and of a session. Seconds are those of the work, with the database open; `processor_s` is
what of them this process computed (on SQLite all that the work takes, whatever else the machine does);
`command_s` is the whole command, with the interpreter and all imports. Peak memory is that process's
resident set.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import SUPPRESS
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import text

from benchmarks.generate import generate
from benchmarks.report import Reach, Report, at_most, command_line
from benchmarks.workload import answer_everything, database_of, environment, migrated, peak_mib
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.report.cards import address_card, session_cards
from cowrie_enrich_dagster.report.figures import figures_of, outline_of
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.vocabulary import Days

SPAN, LAST = Days.parse("2025-11-01..2025-11-30"), Days.parse("2025-11-30")
SESSIONS_PER_ADDRESS = 10
REPORT_SECONDS, REPORT_MIB, CARD_SECONDS = 10, 500, 0.3
_BUSIEST = "SELECT src_ip FROM session_ips GROUP BY src_ip ORDER BY sum(sessions) DESC LIMIT 1 OFFSET :offset"
_SESSION = "SELECT session_id FROM sessions WHERE commands > 0 ORDER BY session_id LIMIT 1"


def prepare(settings: dict[str, str]) -> None:
    """Everything a run would have left behind."""
    answer_everything(settings, SPAN)
    with Enricher(load_settings(settings)) as enricher:
        enricher.enrich(SPAN)
        enricher.find_campaigns(SPAN)


def measure(settings: dict[str, str], what: str, folder: Path) -> dict[str, Any]:
    """One figure: seconds of the work, and the peak of this process."""
    with Enricher(load_settings(settings)) as enricher:
        work, command = _work(enricher, what, folder)
        started, processor = time.perf_counter(), time.process_time()
        work()
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
    return {"seconds": seconds, "processor_s": processor, "peak_mib": peak_mib(), "command": command}


def _work(enricher: Enricher, what: str, folder: Path) -> tuple[Callable[[], object], list[str]]:
    def asked(query: str, **values: int) -> str:
        with enricher.database.read() as connection:
            return str(connection.execute(text(query), values).scalar_one())

    def page() -> None:
        from cowrie_enrich_dagster.report.page import write_page

        write_page(figures_of(enricher, SPAN), folder / "page.html")

    if what == "page":
        return page, ["report", "--days", str(SPAN), "--output", str(folder / "page.html")]
    if what == "outline":
        return lambda: outline_of(enricher, SPAN), []  # no command of its own: `run` ends with it
    if what in ("figures", "last_day"):
        days = LAST if what == "last_day" else SPAN
        return lambda: figures_of(enricher, days), ["report", "--days", str(days), "--json"]
    if what == "session":
        identity = asked(_SESSION)
        return lambda: session_cards(enricher.database, identity), ["session", identity]
    address = asked(_BUSIEST, offset=0 if what == "busiest" else 1000)
    return lambda: address_card(enricher.database, address), ["who", address]


REACH: dict[str, tuple[str, Reach, Reach]] = {
    "figures": ("the report as data", at_most(REPORT_SECONDS), at_most(REPORT_MIB)),
    "outline": ("the top of the report, after a run", at_most(REPORT_SECONDS), at_most(REPORT_MIB)),
    "page": ("the report as a page", at_most(REPORT_SECONDS), at_most(REPORT_MIB)),
    "last_day": ("the report on the last day", at_most(REPORT_SECONDS), at_most(REPORT_MIB)),
    "busiest": ("who, the busiest address", at_most(CARD_SECONDS), at_most(REPORT_MIB)),
    "usual": ("who, one of the usual kind", at_most(CARD_SECONDS), at_most(REPORT_MIB)),
    "session": ("session", at_most(CARD_SECONDS), at_most(REPORT_MIB)),
}


def run(sessions: int, engine: str) -> Report:
    """Prepare, then each figure in a process of its own."""
    report = Report("attack_report", {"engine": engine, "sessions": sessions})
    with tempfile.TemporaryDirectory() as name, database_of(engine, folder := Path(name)) as url:
        logs = folder / "logs"
        generate(logs, sessions=sessions, days=30, sensors=4, ips=sessions // SESSIONS_PER_ADDRESS)
        settings = environment(folder, logs, migrated(url))
        child = [sys.executable, "-m", "benchmarks.attack_report", "--child"]
        subprocess.run([*child, "prepare", json.dumps(settings), name], check=True)
        for what, (section, of_time, of_memory) in REACH.items():
            done = subprocess.run(
                [*child, what, json.dumps(settings), name], check=True, stdout=subprocess.PIPE
            )
            figures = json.loads(done.stdout)
            report.add(section, "seconds", round(figures["seconds"], 3), of_time)
            report.add(section, "processor_s", round(figures["processor_s"], 3))
            report.add(section, "peak_mib", round(figures["peak_mib"]), of_memory)
            if not figures["command"]:
                continue
            started = time.perf_counter()
            command = [sys.executable, "-m", "cowrie_enrich_dagster", *figures["command"]]
            given = {**os.environ, **settings}
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=given)
            report.add(section, "command_s", round(time.perf_counter() - started, 2))
    return report


def main() -> int:
    """Measure, or be one of the child processes that do."""
    parser = command_line(__doc__)
    parser.add_argument("--sessions", type=int, default=500_000)
    parser.add_argument("--engine", choices=["postgresql", "sqlite"], default="sqlite")
    parser.add_argument("--child", nargs=3, metavar=("STEP", "SETTINGS", "FOLDER"), help=SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        what, given, folder = arguments.child
        if what == "prepare":
            prepare(json.loads(given))
        else:
            print(json.dumps(measure(json.loads(given), what, Path(folder))))
        return 0
    return run(arguments.sessions, arguments.engine).finish(as_json=arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
