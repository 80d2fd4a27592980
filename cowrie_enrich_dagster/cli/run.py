"""The commands that fill the tables: `run`, `plan`, `drain`, `refresh`."""

from __future__ import annotations

import math
import re
import time
from dataclasses import asdict
from datetime import date, timedelta
from typing import Annotated

import typer

from cowrie_enrich_dagster.cli.app import (
    DaysOption,
    JsonOption,
    days_of,
    fail,
    open_enricher,
)
from cowrie_enrich_dagster.cli.look import top_of
from cowrie_enrich_dagster.cli.output import (
    err,
    escape,
    out,
    print_json,
    print_table,
    progress_shown,
    say,
    tell,
)
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.plan import ON_LIST, Plan
from cowrie_enrich_dagster.enrichment.run_report import SOURCES, DrainReport, RunReport
from cowrie_enrich_dagster.enrichment.spending import BLOCK, FIRST, KNOWN, NETWORK, UNWANTED
from cowrie_enrich_dagster.readable import counted, duration, number, percent
from cowrie_enrich_dagster.services import ALL


def _eta(report: RunReport) -> str:
    """When what is pending will be answered, in words."""
    never = sorted(name for name, eta in report.eta_by_service.items() if eta is None)
    finite = [eta for eta in report.eta_by_service.values() if eta is not None]
    words = [f"done in about {duration(max(finite))}"] if finite else []
    words += [f"{', '.join(never)}: never at this pace"] if never else []
    return "; ".join(words)


def run(
    days: DaysOption,
    wait: Annotated[
        bool, typer.Option("--wait", help="Go on asking to the end, unless ENRICH_MAX_RUN_SECONDS is set.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Logs of the days -> enriched sessions: what is known at once, then what can be asked in five minutes.

    What must wait longer is deferred; `drain` (and Dagster) goes on with it.
    """
    span = days_of(days)
    with open_enricher(asks=True) as enricher:
        with progress_shown() as progress:
            run_report = enricher.run(span, progress, wait=wait)
        is_read = out.is_terminal and not json and run_report.status != "no_logs"
        top = top_of(enricher, span) if is_read else []
    report = run_report.as_dict()
    if json:
        print_json(report)
        return
    if run_report.status == "no_logs":
        tell(f"[bold]{report['days']}[/bold]: no log has these days; nothing was asked")
        return
    tell(
        f"[bold]{report['days']}[/bold]: {counted(report['sessions'], 'session')} from "
        f"{counted(report['ips'], 'address', 'addresses')}, {report['status']} in "
        f"{duration(report['elapsed_s'])}; {counted(report['quarantined'], 'line')} quarantined"
    )
    statuses = [
        (service, status, number, "" if row else report["api_calls"].get(service, 0))
        for service, counts in report["lookups"].items()
        for row, (status, number) in enumerate(sorted(counts.items()))
    ]
    print_table("Keys by service and status", ["service", "status", "keys", "calls of this run"], statuses)
    _say_other_lists(run_report.days_of_other_lists)
    _say_lists(run_report)
    if run_report.moved_days:
        err.print(
            f"these logs changed sessions of {_first_days(run_report.moved_days)}, which were written anew"
        )
    if any(report["hits"].values()):
        print_table("Answered from the cache", ["tier", "keys"], sorted(report["hits"].items()))
    if report["pending"]:
        reasons = "; ".join(f"{service}: {why}" for service, why in report["stopped"].items())
        tell(
            f"{counted(report['pending'], 'lookup is', 'lookups are')} pending ({escape(reasons)}); "
            f"{escape(_eta(run_report))}; "
            "cowrie-enrich drain goes on with them when they are due"
        )
    say(top)


def _say_lists(report: RunReport) -> None:
    for name, told in report.lists.items():
        if told["problem"]:
            err.print(f"[yellow]warning:[/yellow] list {escape(name)}: {escape(told['problem'])}")


def _say_other_lists(days: list[date]) -> None:
    if days:
        named = _first_days(days)
        err.print(f"the lists of own networks and scanners have changed since {named}: run these days again")


def _first_days(days: list[date]) -> str:
    return ", ".join(map(str, days[:3])) + (f" and {len(days) - 3} more" if len(days) > 3 else "")


def plan(days: DaysOption, json: JsonOption = False) -> None:
    """Logs of the days -> what a run would ask, what it knows already and how long it takes; asks nobody.

    Without COWRIE_LOG_DIR it plans for the addresses that were read before.
    """
    span = days_of(days)
    with open_enricher(reads_logs=True) as enricher:
        logs = enricher.settings.log_dir
        if logs:
            with progress_shown() as progress:
                enricher.ingest(span, progress)
            enricher.summarise_addresses(span)
        found = enricher.plan(span)
    if not found.addresses:
        where = f"in the logs under {logs}" if logs else "are known, and COWRIE_LOG_DIR is not set"
        err.print(escape(f"no addresses of {span} {where}"))
    figures = {name: service.as_dict() for name, service in found.services.items()}
    if json:
        columns = [asdict(point) for point in found.columns]
        told = {"addresses": found.addresses, "services": figures, "columns": columns}
        print_json({"days": str(span), **told})
        return
    if not found.addresses:
        return
    plans = found.services.values()
    counts = {
        "keys": [p.keys for p in plans],
        **{source: [p.cached[source] for p in plans] for source in SOURCES},
        "never sent": [p.skipped.total() - p.spared[ON_LIST] for p in plans],
        "not worth a call": [p.spared.total() for p in plans],
        "wanted": [p.wanted for p in plans],
        "calls": [p.calls for p in plans],
        "calls saved": [p.calls_spared for p in plans],
    }
    shown = {column: numbers for column, numbers in counts.items() if any(numbers)}
    rows = zip(
        found.services,
        *shown.values(),
        (p.quota_left for p in plans),
        (duration(p.eta_s) for p in plans),
        strict=True,
    )
    print_table(f"Plan for {span}", ["service", *shown, "quota left", "takes"], list(rows))
    worth = [
        (name, point.calls, percent(point.covered), percent(point.first_come))
        for name, p in found.services.items()
        for point in p.coverage
    ]
    if worth:
        print_table(
            "Sessions answered, for calls spent",
            ["service", "calls", "most valuable first", "first come"],
            worth,
        )
    _print_spared(found)
    if found.columns:
        names = list(found.columns[0].shares)
        course = [(point.calls, *(percent(point.shares[name]) for name in names)) for point in found.columns]
        short = [name.removeprefix("source_") for name in names]
        print_table(
            "Sessions that have each column, for calls spent", ["calls", *short], course[:MOST_POINTS]
        )


def _print_spared(found: Plan) -> None:
    rows = [
        (name, SPARED[why], number)
        for name, service in found.services.items()
        for why, number in sorted(service.spared.items())
    ]
    if rows:
        print_table("Keys that are not worth a call", ["service", "why", "keys"], rows)


SPARED = {
    ON_LIST: "on a list of scanners",
    KNOWN: "all that is wanted of it is known",
    NETWORK: "its network is known",
    BLOCK: "another address of its block is asked first",
    FIRST: "a more trusted service is asked first",
    UNWANTED: "nothing of the service is wanted",
}
"""Why keys are not worth a call, in words."""
MOST_POINTS = 40
"""As many lines of the columns' course are printed; `--json` has all."""


def drain(json: JsonOption = False) -> None:
    """Ask what is due in the queue, most valuable first, and write what is learned into its sessions' rows.

    Goes on until nothing is due that may be asked within ENRICH_MAX_WAIT_SECONDS; with ENRICH_MAX_RUN_SECONDS
    set, for no longer than that.
    """
    with open_enricher(asks=True) as enricher, progress_shown() as progress:
        report = enricher.drain(progress, until=_end_of_run(enricher))
    _say_drained(report, json)


def _end_of_run(enricher: Enricher) -> float:
    limit = enricher.settings.max_run_s
    return math.inf if limit is None else time.monotonic() + limit


def _say_drained(report: DrainReport, json: bool) -> None:
    if json:
        print_json(report.as_dict())
        return
    for part in report.fetched:
        counts = ", ".join(f"{number(count)} {status}" for status, count in sorted(part.statuses.items()))
        calls = counted(part.api_calls, "call")
        tell(f"{part.service}: {calls}; {counts}; {escape(part.stopped_because or 'done')}")
    _say_lists(report.run)
    _say_other_lists(report.run.days_of_other_lists)
    sessions = counted(report.run.sessions, "session")
    written = f"{sessions} on {counted(len(report.days), 'day')} enriched again"
    left = f"{counted(report.run.pending, 'lookup')} still pending ({escape(_eta(report.run))})"
    tell(
        f"{written if report.run.sessions else 'nothing new to write'}; "
        f"{left if report.run.pending else 'no lookup is pending'}"
    )


def refresh(
    service: Annotated[str | None, typer.Option(help="Only this service.")] = None,
    ahead: Annotated[
        str, typer.Option(help="Answers that expire within this time, such as 24h or 7d.")
    ] = "24h",
    active: Annotated[str, typer.Option(help="Of keys that were seen within this time.")] = "7d",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many keys for each service.")] = None,
    json: JsonOption = False,
) -> None:
    """Ask what a service was never asked, newest days first, and again what is to expire; then drain."""
    if service is not None and service not in ALL:
        fail(2, f"--service: {service!r} is not one of {', '.join(ALL)}")
    spans = {"--ahead": _span(ahead, "--ahead"), "--active": _span(active, "--active")}
    with open_enricher(asks=True) as enricher, progress_shown() as progress:
        report = enricher.refresh(
            spans["--ahead"], spans["--active"], service=service, limit=limit,
            until=_end_of_run(enricher), progress=progress,
        )  # fmt: skip
    _say_drained(report, json)


def _span(text: str, option: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,5})([mhd])", text)
    if match is None:
        fail(2, f"{option}: {text!r} is not a time such as 30m, 24h or 7d")
    unit = {"m": "minutes", "h": "hours", "d": "days"}[match[2]]
    return timedelta(**{unit: int(match[1])})
