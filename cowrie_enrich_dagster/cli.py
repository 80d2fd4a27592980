"""`cowrie-enrich`: the pipeline and its upkeep from the command line.

Data goes to stdout, everything said along the way to stderr. Exit 0: done, completely or partially (deferred
lookups are no failure); 2: bad usage or configuration; 1: anything else.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape as escape_markup
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Column, Table
from sqlalchemy.exc import DBAPIError
from typer.core import TyperGroup

from cowrie_enrich_dagster.enrichment import ANONYMOUS, Enricher
from cowrie_enrich_dagster.enrichment.doctor import database_setting, examine
from cowrie_enrich_dagster.enrichment.moving import NothingToImport
from cowrie_enrich_dagster.enrichment.run_report import SOURCES, DrainReport, RunReport
from cowrie_enrich_dagster.export import ExportFormat, Wanted, export_days
from cowrie_enrich_dagster.lookups.ledger import LedgerEntry
from cowrie_enrich_dagster.metrics import render, write_textfile
from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.services.base import VERSION
from cowrie_enrich_dagster.services.feeds import FEEDS
from cowrie_enrich_dagster.settings import ConfigError, Settings, load_settings
from cowrie_enrich_dagster.simulator import simulate
from cowrie_enrich_dagster.storage import migrate
from cowrie_enrich_dagster.storage.engine import Database, DatabaseUnusable
from cowrie_enrich_dagster.terminal import VisibleFormatter, visible
from cowrie_enrich_dagster.vocabulary import Days, Progress


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:  # a `Context` of click's, or of typer's own copy of click
        """Run a command; what cannot be read or written ends it with one line."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except OSError as problem:
            if problem.errno == errno.EPIPE:  # whoever read has gone, as `head` does: click ends in silence
                raise
            _abandon_stdout()
            where = f"{problem.filename}: " if problem.filename else ""
            _fail(1, f"{where}{problem.strerror or problem}")


app = typer.Typer(cls=_Commands, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
cache_app = typer.Typer(no_args_is_help=True, help="Look at, clean and fill the enrichment cache.")
db_app = typer.Typer(no_args_is_help=True, help="The database schema: where it stands, up, down.")
app.add_typer(cache_app, name="cache")
app.add_typer(db_app, name="db")

_WIDTH = None if sys.stdout.isatty() else 140  # a pipe has no width; tables in a log should not be folded
out = Console(width=_WIDTH, soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

DaysOption = Annotated[str, typer.Option("--days", help="One UTC day (YYYY-MM-DD) or a range A..B.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object last on stdout.")]


def _say_version(wanted: bool) -> None:
    if wanted:
        out.print(f"cowrie-enrich {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def escape(text: str) -> str:
    """Text of others, for `out` and `err`: neither markup nor control characters do anything."""
    return escape_markup(visible(text, keep="\n"))


def _fail(code: int, message: str) -> NoReturn:
    for line in message.splitlines() or [""]:  # each marked, so that none is taken for something else
        err.print(f"[red]error:[/red] {escape(line)}")
    raise typer.Exit(code)


def _abandon_stdout() -> None:
    # What could not be written is still in its buffer, and would fail once more when the process ends.
    with suppress(OSError), open(os.devnull, "wb") as nothing:  # noqa: PTH123 (a device)
        os.dup2(nothing.fileno(), sys.stdout.fileno())


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt  # a stopped container gives its claims back like Ctrl-C does


@contextmanager
def _reported() -> Iterator[Settings]:
    """The settings; what goes wrong with them, or in the block, is told in a line."""
    handler = RichHandler(console=err)
    handler.setFormatter(VisibleFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    try:
        settings = load_settings()
    except ConfigError as problem:
        _fail(2, str(problem))
    for warning in settings.warnings:
        err.print(f"[yellow]warning:[/yellow] {escape(warning)}")
    setting = database_setting(settings)
    try:
        yield settings
    except (ConfigError, migrate.SchemaOutdated, migrate.UnknownRevision) as problem:
        _fail(2, str(problem))
    except DatabaseUnusable as problem:
        _fail(2, f"{setting}: {problem}")
    except DBAPIError as problem:
        _fail(1, f"the database ({setting}): {str(problem.orig).strip() or type(problem.orig).__name__}")
    except KeyboardInterrupt:
        _fail(1, "interrupted; the next run goes on where this one stopped")


@contextmanager
def _enricher(*, asks: bool = False, reads_logs: bool = False) -> Iterator[Enricher]:
    """The pipeline; a command that `asks` services, or plans to, is told first what they will not like.

    A SQLite file is made and upgraded for those that ask or read logs; others only look into it.
    """
    with _reported() as settings:
        signal.signal(signal.SIGTERM, _interrupt)
        with Enricher(settings, makes_database=asks or reads_logs) as enricher:
            if (asks or reads_logs) and enricher.is_anonymous:
                err.print(f"[yellow]warning:[/yellow] {escape(ANONYMOUS)}")
            yield enricher


@contextmanager
def _database(*, makes_file: bool = False) -> Iterator[Database]:
    with _reported() as settings:
        database = Database(settings.database_url.get_secret_value(), makes_file=makes_file)
        try:
            yield database
        finally:
            database.close()


def _days(text: str) -> Days:
    try:
        return Days.parse(text)
    except ValueError as problem:
        _fail(2, f"--days: {problem}")


def _check_output(output: Path | None) -> None:
    if output is None:
        return
    folder = output.absolute().parent
    if not folder.is_dir():
        _fail(2, f"--output: {folder} is not a folder")
    if output.exists() and not output.is_file():
        _fail(2, f"--output: {output} is there and is not a file")
    if not os.access(folder, os.W_OK):
        _fail(2, f"--output: nothing can be written to {folder}")


def _table(title: str, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    # Folded, not cut: a path or a sentence is of use only whole.
    table = Table(*(Column(name, overflow="fold") for name in columns), title=title, title_justify="left")
    for row in rows:
        table.add_row(*("–" if cell is None else escape(str(cell)) for cell in row))
    out.print(table)


def _print_figures(title: str, figures: Mapping[str, Any]) -> None:
    """A table on a terminal; JSON elsewhere, for scripts."""
    if not out.is_terminal:
        _print_json(figures)
        return
    rows: list[tuple[Any, ...]] = []
    for name, value in figures.items():
        if isinstance(value, list):
            parts: Iterable[tuple[str, Any]] = [("", ": ".join(map(str, one.values()))) for one in value]
        else:
            parts = value.items() if isinstance(value, Mapping) else [("", value)]
        rows += [(f"{name} {part}".strip().replace("_", " "), figure) for part, figure in parts]
    _table(title, ["", "value"], rows)


def _print_json(value: object) -> None:
    text = orjson.dumps(value).decode()
    sys.stdout.write((visible(text) if sys.stdout.isatty() else text) + "\n")


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _progress(service: str, done: int, wanted: int) -> None:
    err.print(f"{service}: {done} of {wanted}")


@contextmanager
def _progress_shown() -> Iterator[Progress]:
    """A bar a service, with rate and time left, on a terminal; a line every few seconds elsewhere."""
    if not err.is_terminal:
        yield _progress
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=err, transient=True) as bars:

        def show(service: str, done: int, wanted: int) -> None:
            if service not in tasks:
                tasks[service] = bars.add_task(escape(service), total=wanted)
            bars.update(tasks[service], completed=done, total=wanted)

        yield show


def _eta(report: RunReport) -> str:
    """When what is pending will be answered, in words."""
    never = sorted(name for name, eta in report.eta_by_service.items() if eta is None)
    finite = [eta for eta in report.eta_by_service.values() if eta is not None]
    words = [f"done in about {_duration(max(finite))}"] if finite else []
    words += [f"{', '.join(never)}: never at this pace"] if never else []
    return "; ".join(words)


@app.command()
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
    span = _days(days)
    with _enricher(asks=True) as enricher:
        with _progress_shown() as progress:
            run_report = enricher.run(span, progress, wait=wait)
        is_read = out.is_terminal and not json and run_report.status != "no_logs"
        top = cli_reports.top_of(enricher, span) if is_read else []
    report = run_report.as_dict()
    if json:
        _print_json(report)
        return
    if run_report.status == "no_logs":
        out.print(f"[bold]{report['days']}[/bold]: no log has these days; nothing was asked")
        return
    out.print(
        f"[bold]{report['days']}[/bold]: {report['sessions']} sessions from {report['ips']} addresses, "
        f"{report['status']} in {report['elapsed_s']} s; {report['quarantined']} lines quarantined",
        highlight=False,
    )
    statuses = [
        (service, status, number, "" if row else report["api_calls"].get(service, 0))
        for service, counts in report["lookups"].items()
        for row, (status, number) in enumerate(sorted(counts.items()))
    ]
    _table("Keys by service and status", ["service", "status", "keys", "calls of this run"], statuses)
    _say_other_lists(run_report.days_of_other_lists)
    if run_report.moved_days:
        err.print(
            f"these logs changed sessions of {_first_days(run_report.moved_days)}, which were written anew"
        )
    if report["hits"]:
        _table("Answered from the cache", ["tier", "keys"], sorted(report["hits"].items()))
    if report["pending"]:
        reasons = "; ".join(f"{service}: {why}" for service, why in report["stopped"].items())
        out.print(
            f"{report['pending']} lookups are pending ({escape(reasons)}); {escape(_eta(run_report))}; "
            "cowrie-enrich drain goes on with them when they are due"
        )
    cli_reports.say(top)


def _say_other_lists(days: list[date]) -> None:
    if days:
        named = _first_days(days)
        err.print(f"the lists of own networks and scanners have changed since {named}: run these days again")


def _first_days(days: list[date]) -> str:
    return ", ".join(map(str, days[:3])) + (f" and {len(days) - 3} more" if len(days) > 3 else "")


@app.command()
def plan(days: DaysOption, json: JsonOption = False) -> None:
    """Logs of the days -> what a run would ask, what it knows already and how long it takes; asks nobody.

    Without COWRIE_LOG_DIR it plans for the addresses that were read before.
    """
    span = _days(days)
    with _enricher(reads_logs=True) as enricher:
        logs = enricher.settings.log_dir
        if logs:
            enricher.ingest(span, _progress)
            enricher.summarise_addresses(span)
        found = enricher.plan(span)
    if not found.addresses:
        where = f"in the logs under {logs}" if logs else "are known, and COWRIE_LOG_DIR is not set"
        err.print(escape(f"no addresses of {span} {where}"))
    figures = {name: service.as_dict() for name, service in found.services.items()}
    if json:
        _print_json({"days": str(span), "addresses": found.addresses, "services": figures})
        return
    if not found.addresses:
        return
    plans = found.services.values()
    counts = {
        "keys": [p.keys for p in plans],
        **{source: [p.cached[source] for p in plans] for source in SOURCES},
        "never sent": [p.skipped.total() for p in plans],
        "wanted": [p.wanted for p in plans],
        "calls": [p.calls for p in plans],
    }
    shown = {column: numbers for column, numbers in counts.items() if any(numbers)}
    rows = zip(
        found.services,
        *shown.values(),
        (p.quota_left for p in plans),
        (_duration(p.eta_s) for p in plans),
        strict=True,
    )
    _table(f"Plan for {span}", ["service", *shown, "quota left", "takes"], list(rows))
    worth = [
        (name, point.calls, f"{point.covered:.1%}", f"{point.first_come:.1%}")
        for name, p in found.services.items()
        for point in p.coverage
    ]
    if worth:
        _table(
            "Sessions answered, for calls spent",
            ["service", "calls", "most valuable first", "first come"],
            worth,
        )


@app.command()
def drain(json: JsonOption = False) -> None:
    """Ask what is due in the queue, most valuable first, and write what is learned into its sessions' rows.

    Goes on until nothing is due that may be asked within ENRICH_MAX_WAIT_SECONDS; with ENRICH_MAX_RUN_SECONDS
    set, for no longer than that.
    """
    with _enricher(asks=True) as enricher, _progress_shown() as progress:
        report = enricher.drain(progress, until=_end_of_run(enricher))
    _say_drained(report, json)


def _end_of_run(enricher: Enricher) -> float:
    limit = enricher.settings.max_run_s
    return math.inf if limit is None else time.monotonic() + limit


def _say_drained(report: DrainReport, json: bool) -> None:
    if json:
        _print_json(report.as_dict())
        return
    for part in report.fetched:
        counts = ", ".join(f"{number} {status}" for status, number in sorted(part.statuses.items()))
        out.print(
            f"{part.service}: {part.api_calls} calls; {counts}; {escape(part.stopped_because or 'done')}"
        )
    _say_other_lists(report.run.days_of_other_lists)
    left = f"{report.run.pending} lookups still pending"
    out.print(
        f"{report.run.sessions} sessions on {len(report.days)} days enriched again; {left}"
        + (f" ({escape(_eta(report.run))})" if report.run.pending else "")
    )


@app.command()
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
        _fail(2, f"--service: {service!r} is not one of {', '.join(ALL)}")
    spans = {"--ahead": _span(ahead, "--ahead"), "--active": _span(active, "--active")}
    with _enricher(asks=True) as enricher, _progress_shown() as progress:
        report = enricher.refresh(
            spans["--ahead"], spans["--active"], service=service, limit=limit,
            until=_end_of_run(enricher), progress=progress,
        )  # fmt: skip
    _say_drained(report, json)


def _span(text: str, option: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,5})([mhd])", text)
    if match is None:
        _fail(2, f"{option}: {text!r} is not a time such as 30m, 24h or 7d")
    unit = {"m": "minutes", "h": "hours", "d": "days"}[match[2]]
    return timedelta(**{unit: int(match[1])})


@app.command()
def quota(json: JsonOption = False) -> None:
    """The quota ledger: used and left per window, cooldowns and why, learned rates, backlog and its end."""
    with _enricher() as enricher:
        entries = enricher.ledger()
    if json:
        _print_json([entry.as_dict() for entry in entries])
        return
    for entry in entries:
        status = entry.status
        learned = status.effective_rate < status.configured_rate
        out.print(
            f"[bold]{status.service}[/bold]  {status.effective_rate:g} requests/s"
            + (f" (learned; configured {status.configured_rate:g})" if learned else "")
            + f", backlog {entry.backlog}"
            + _backlogs_end(entry),
            highlight=False,
        )
        if status.cooldown_until:
            until = _moment(status.cooldown_until)
            out.print(f"  no request before {until}: {escape(str(status.cooldown_reason))}")
        for window in status.windows:
            left = "" if window.limit is None else f", {window.left} of {window.limit} left"
            out.print(f"  {window.name}: {window.used} used{left}, resets {_moment(window.resets_at)}")


def _backlogs_end(entry: LedgerEntry) -> str:
    if not entry.backlog:
        return ""
    if entry.is_never:
        return f", never done at this pace: {entry.arriving_per_day:.0f} more come in a day"
    return f", done in {_duration(entry.eta_s)}"


@app.command()
def export(
    days: DaysOption,
    file_format: Annotated[ExportFormat, typer.Option("--format", help="What to write.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file (written whole or not at all); default: stdout."),
    ] = None,
    with_passwords: Annotated[
        bool, typer.Option("--with-passwords", help="Parquet, CSV and JSON: passwords, as they were typed.")
    ] = False,
    with_answers: Annotated[
        bool, typer.Option("--with-answers", help="Parquet, CSV and JSON: what each service answered.")
    ] = False,
) -> None:
    """Write enriched sessions: parquet, csv (safe in spreadsheets), json (ECS, a line each), stix (2.1).

    Or a blocklist: the addresses that tried something, one a line.
    """
    span = _days(days)
    if output is None and file_format is ExportFormat.PARQUET:
        _fail(2, "--format parquet is not text: name a file with --output")
    _check_output(output)
    with _enricher() as enricher:
        wanted = Wanted(with_passwords, with_answers)
        report = export_days(enricher.database, span, file_format, output, wanted)
    what = {ExportFormat.STIX: "sightings", ExportFormat.BLOCKLIST: "addresses"}.get(file_format, "sessions")
    where = "" if output is None else f" to {output}, {report.size} bytes"
    err.print(f"{report.rows} {what} written{escape(where)}")
    if not report.rows:
        err.print(f"nothing is enriched for {span} yet; `run` or Dagster does it")


@app.command()
def metrics(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file for node_exporter's textfile collector (*.prom)."),
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="Serve them to Prometheus at [ADDRESS:]PORT until it is stopped.")
    ] = None,
) -> None:
    """Prometheus metrics: quota, cooldowns, rates, backlog, cache, latest runs. Default: to stdout."""
    if listen is not None and output is not None:
        _fail(2, "--listen takes no --output")
    _check_output(output)
    with _enricher() as enricher:
        if listen is not None:
            cli_metrics.serve_until_stopped(enricher, listen)
        elif output is None:
            sys.stdout.write(render(enricher).decode())
        else:
            write_textfile(enricher, output)


@app.command()
def doctor(json: JsonOption = False) -> None:
    """Show the settings in effect (secrets masked) and whether each part answers. Exit 1 if one does not."""
    with _reported() as settings:
        findings = examine(settings)
    if json:
        _print_json(findings.as_dict())
    else:
        shown = [(setting.name, setting.value, setting.source) for setting in findings.settings]
        _table("Settings", ["name", "value", "from"], shown)
        _table("Parts", ["part", "state", "detail"], [(p.name, p.state, p.detail) for p in findings.parts])
    if not findings.healthy:
        raise typer.Exit(1)


app.command()(simulate)


@cache_app.command("stats")
def cache_stats(json: JsonOption = False) -> None:
    """Entries, ages and sizes by service in the database tier."""
    with _enricher() as enricher:
        stats = enricher.cache.database.stats()
    if json:
        _print_json(stats)
        return
    columns = ["entries", "found", "not_found", "expired", "bytes", "oldest", "newest"]
    rows = [(service, *(entry[c] for c in columns)) for service, entry in stats.items()]
    _table("enrichment_cache", ["service", *columns], rows)


@cache_app.command("cleanup")
def cache_cleanup(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count only.")] = False,
) -> None:
    """Delete answers that have expired."""
    with _enricher() as enricher:
        counts = enricher.cleanup(dry_run=dry_run)
    _print_figures("Expired answers", {"dry_run": dry_run, "expired": counts})


@cache_app.command("purge")
def cache_purge(
    service: Annotated[str | None, typer.Option(help="Only this service or feed.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="Only these keys (needs --service).")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete answers whatever their age: all, of one service, or of some keys; they will be asked again."""
    if service is not None and service not in (known := (*ALL, *FEEDS)):
        _fail(2, f"--service: {service!r} is not one of {', '.join(known)}")
    if key and service is None:
        _fail(2, "--key needs --service")
    if not yes:
        typer.confirm("Answers that were paid for will be deleted. Go on?", abort=True)
    with _enricher() as enricher:
        _print_figures("Deleted answers", {"purged": enricher.purge(service, key or None)})


@cache_app.command("import")
def cache_import(
    source: Annotated[
        str,
        typer.Argument(
            help="The base folder of cowrieprocessor's cache, or the URL of its database (postgresql://... or"
            " sqlite:///...). A URL with a password comes from a variable (env:NAME) or a file (file:PATH)."
        ),
    ],
) -> None:
    """Move answers of cowrieprocessor into the database, ages kept. May be repeated and resumed."""
    url = source_url(source)
    if url is None and not Path(source).is_dir():
        _fail(2, f"{source} is not a folder")
    with _enricher() as enricher:
        try:
            report = enricher.import_table(url) if url else enricher.import_files(Path(source))
        except (NothingToImport, ValueError) as problem:
            _fail(2, f"{SOURCE_WORDS.get(source.partition(':')[0], 'the URL')}: {problem}")
        except DBAPIError as problem:
            _fail(1, f"the database to import from: {str(problem.orig).strip()}")
    _print_figures("Imported answers", report.as_dict())


SOURCE_WORDS = {"env": "the variable", "file": "the file"}


def source_url(source: str) -> str | None:
    """The database URL that `source` is or names; None for a folder."""
    kind, _, name = source.partition(":")
    if kind == "env":
        url = os.environ.get(name, "").strip()
        return url or _fail(2, f"the variable {name} is not set")
    if kind == "file":
        return Path(name).read_text(encoding="utf-8").strip()
    if "://" not in source:
        return None
    if ("@" in source and ":" in source.partition("://")[2].rpartition("@")[0]) or "password=" in source:
        _fail(2, "a password does not belong on a command line: name a variable (env:NAME) or a file")
    return source


@db_app.command("current")
def db_current() -> None:
    """The schema the database is at, and the one this version works on."""
    with _database() as database:
        _print_figures("Schema", {"current": migrate.current(database), "head": migrate.head(database)})


@db_app.command("upgrade")
def db_upgrade(revision: Annotated[str, typer.Argument()] = "head") -> None:
    """Bring the schema up to a revision; a SQLite file is made, and copied before it goes to the newest."""
    with _database(makes_file=True) as database:
        if database.is_sqlite and revision == "head":
            migrate.require_current(database, makes=True)
        else:
            migrate.upgrade(database, revision)
        _print_figures("Schema", {"current": migrate.current(database)})


@db_app.command("downgrade")
def db_downgrade(
    revision: Annotated[str, typer.Argument(help="A revision such as v11; base drops everything.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take the schema down to a revision; drops only what later revisions added."""
    with _database() as database:
        goes = migrate.dropped_by(database, revision)
        if goes and not yes:
            err.print("These go, with all they hold:", *map(escape, goes), sep="\n  ")
            typer.confirm("Go on?", abort=True, err=True)
        migrate.downgrade(database, revision)
        _print_figures("Schema", {"current": migrate.current(database)})


# At the end: these commands are made of what stands above.
from cowrie_enrich_dagster import cli_metrics, cli_reports  # noqa: E402
