"""The rows of `enrichment_runs`: one for each run, written when it begins and completed when it ends."""

from __future__ import annotations

import uuid

from sqlalchemy import select

from cowrie_enrich_dagster.enrichment.coverage import JoinReport
from cowrie_enrich_dagster.enrichment.hit_rates import SessionsWithoutCall
from cowrie_enrich_dagster.enrichment.notify import tell
from cowrie_enrich_dagster.enrichment.run_report import RunReport
from cowrie_enrich_dagster.enrichment.wiring import Wiring
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import EnrichmentRun, table_of
from cowrie_enrich_dagster.vocabulary import Days

_RUNS = table_of(EnrichmentRun)


@survives_outage
def begin_run(database: Database, kind: str, days: Days | None, run_id: str | None = None) -> str:
    """Write the row of a run that begins; returns its id. One that is given may be begun again."""
    again, run_id = run_id is not None, run_id or uuid.uuid4().hex
    with database.write() as connection:
        if again:
            connection.execute(_RUNS.delete().where(_RUNS.c.run_id == run_id))
        row = {
            "run_id": run_id,
            "kind": kind,
            "status": "running",
            "started_at": database.now(connection),
            "first_day": days.first if days else None,
            "last_day": days.last if days else None,
        }
        connection.execute(_RUNS.insert(), row)
    return run_id


def end_run(parts: Wiring, run_id: str, report: RunReport) -> None:
    """Complete the row with the report; tell the operator what is to be told (see `notices`)."""
    _write_end(parts.database, run_id, report)
    tell(parts, report)


@survives_outage
def _write_end(database: Database, run_id: str, report: RunReport) -> None:
    with database.write() as connection:
        ended = {
            "status": report.status,
            "finished_at": database.now(connection),
            "report": report.as_dict(),
        }
        connection.execute(_RUNS.update().where(_RUNS.c.run_id == run_id), ended)


@survives_outage
def complete_run(database: Database, run_id: str, joined: JoinReport) -> dict[str, SessionsWithoutCall]:
    """Add what the rows came to, to the report of a run that ended before; what its calls spared."""
    with database.write() as connection:
        of_run = _RUNS.c.run_id == run_id
        before = connection.execute(select(_RUNS.c.report).where(of_run)).scalar_one_or_none()
        report = RunReport(None)
        report.api_calls.update((before or {}).get("api_calls", {}))
        report.add_join(joined)
        if before is not None:
            after = report.as_dict()
            rates = {
                **before["hit_rates"],
                "sessions_without_call": after["hit_rates"]["sessions_without_call"],
            }
            told = {name: after[name] for name in ("sessions", "lookups", "coverage")}
            connection.execute(
                _RUNS.update().where(of_run), {"report": {**before, **told, "hit_rates": rates}}
            )
    return report.without_call
