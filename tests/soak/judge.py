"""The invariants, checked against the simulator's own log, what was written, and an undisturbed run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cowrie_enrich_dagster.lookups.model import ASKED_TTL
from cowrie_enrich_dagster.simulator import RequestRecord
from tests.soak.chaos import IN_FLIGHT_S, Stop
from tests.soak.crew import Ending, Kill

UNSTORED_S = ASKED_TTL.total_seconds()
"""How old an answer may be that a killed worker had not stored yet: a slow service, then a database away. By
then somebody else may ask."""

OUTAGE_AFTERMATH_S = 5.0
SPOILT = {"hang", "reset", "html", "truncated", "wrong_key", "huge", "reply"}
"""Faults after which a request has no answer."""

Row = Mapping[str, Any]


def is_answered(record: RequestRecord) -> bool:
    """Whether the service gave a proper answer."""
    return not record.over_limit and record.status in (200, 404) and record.fault not in SPOILT


def over_limit(log: Iterable[RequestRecord]) -> list[str]:
    """Requests that a limit refused, each with how long after the one before it came."""
    last: dict[str, RequestRecord] = {}
    over = []
    for record in log:
        before = last.get(record.service, record)
        if record.over_limit:
            after_ms = 1000 * (record.t - before.t)
            ports = f"ports {before.client_port}, {record.client_port}"
            over.append(
                f"{record.service} {record.keys} at {record.t:.3f}, after {after_ms:.1f} ms ({ports})"
            )
        last[record.service] = record
    return over


def asked_again(log: Iterable[RequestRecord], kills: Sequence[Kill]) -> list[str]:
    """Keys asked about after they had been answered, which no kill of a worker excuses."""
    answered: dict[tuple[str, str], RequestRecord] = {}
    again = []
    for record in log:
        for key in record.keys:
            before = answered.get((record.service, key))
            if before and not _died_with(before, kills):
                again.append(f"{record.service} {key} at {before.t:.3f} and {record.t:.3f}")
            if is_answered(record):
                answered[record.service, key] = record
    return again


def excused(log: Iterable[RequestRecord], kills: Sequence[Kill]) -> int:
    """How many answers died with the worker that had asked, and were asked for again."""
    asked: dict[tuple[str, str], list[RequestRecord]] = defaultdict(list)
    for record in log:
        for key in record.keys:
            asked[record.service, key].append(record)
    return sum(
        is_answered(record) and _died_with(record, kills)
        for records in asked.values()
        for record in records[:-1]
    )


def _died_with(record: RequestRecord, kills: Sequence[Kill]) -> bool:
    """Whether the worker that sent this was killed before it can have stored the answer for certain."""
    return any(0 <= kill.t - record.t <= UNSTORED_S and record.client_port in kill.ports for kill in kills)


def asked_in_a_stop(log: Sequence[RequestRecord], stops: Iterable[Stop]) -> list[str]:
    """Requests to a service inside the Retry-After it had given to one worker."""
    early = []
    for stop in stops:
        told = next(
            (r for r in log if r.service == stop.service and r.status == 429 and r.t >= stop.since), None
        )
        if told is not None:
            early += [
                f"{record.service} at {record.t - told.t:.3f} s of {stop.retry_after_s:g} s"
                for record in log
                if record.service == stop.service
                and told.t + IN_FLIGHT_S < record.t < told.t + stop.retry_after_s
            ]
    return early


def failed_workers(endings: Iterable[Ending], outages: Iterable[tuple[float, float]]) -> list[str]:
    """Workers that ended with an error though the database had been there."""
    spans = list(outages)
    return [
        f"{ending.command}: exit {ending.exit_code}: {ending.said}"
        for ending in endings
        if ending.exit_code != 0
        and not any(began <= ending.t <= ended + OUTAGE_AFTERMATH_S for began, ended in spans)
    ]


def differences(rows: Mapping[Any, Row], undisturbed: Mapping[Any, Row]) -> list[str]:
    """Rows that are missing, too many, or not what they are without faults."""
    told = [f"missing: {key}" for key in undisturbed.keys() - rows.keys()]
    told += [f"too many: {key}" for key in rows.keys() - undisturbed.keys()]
    for key in rows.keys() & undisturbed.keys():
        for name, value in undisturbed[key].items():
            if rows[key][name] != value:
                told.append(f"{key} {name}: {rows[key][name]!r} instead of {value!r}")
    return sorted(told)
