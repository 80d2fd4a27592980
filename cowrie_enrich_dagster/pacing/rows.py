"""`State` as a row of `service_limits`. A JSON column of another shape is read as "nothing known"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, RowMapping, Table, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from cowrie_enrich_dagster.pacing.model import WINDOW_SECONDS, Reason, Search, State, Unsent, WindowCount
from cowrie_enrich_dagster.storage.tables import ServiceLimit

_TABLE = cast(Table, ServiceLimit.__table__)
_SAME_IN_BOTH = (
    "tat", "cooldown_until", "penalty_until", "consecutive_failures", "configured_rate", "configured_burst",
    "learned_rate", "credential", "credential_blocked_until", "requests_total", "limited_total",
)  # fmt: skip

# Made once: to make a statement takes longer than to run it, and each request runs six.
_OF_SERVICE = select(_TABLE).where(_TABLE.c.service == bindparam("of"))
_LOCKED = _OF_SERVICE.with_for_update()
_CHANGE = update(_TABLE).where(_TABLE.c.service == bindparam("of"))

T = TypeVar("T")


def load(connection: Connection, service: str) -> State:
    """The state of one service; a fresh one when it has no row."""
    row = connection.execute(_OF_SERVICE, {"of": service}).mappings().first()
    return State(service) if row is None else _from_row(row)


def load_all(connection: Connection) -> list[State]:
    """The states of all services that were ever asked, by name."""
    return [
        _from_row(row) for row in connection.execute(select(_TABLE).order_by(_TABLE.c.service)).mappings()
    ]


def lock(connection: Connection, service: str) -> State:
    """The state of one service, nobody else's to change until the transaction ends; makes the row if needed.

    On SQLite the transaction itself (BEGIN IMMEDIATE) is the lock.
    """
    row = connection.execute(_LOCKED, {"of": service}).mappings().first()
    if row is None:
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        fresh = insert(_TABLE).values(service=service, **_to_row(State(service), 0.0))
        connection.execute(fresh.on_conflict_do_nothing())
        row = connection.execute(_LOCKED, {"of": service}).mappings().one()
    return _from_row(row)


def store(connection: Connection, state: State, now: float) -> None:
    """Write a state whose row is locked."""
    connection.execute(_CHANGE, {"of": state.service, **_to_row(state, now)})


def _to_row(state: State, now: float) -> dict[str, Any]:
    return {
        **{name: getattr(state, name) for name in _SAME_IN_BOTH},
        "cooldown_reason": None if state.cooldown_reason is None else state.cooldown_reason.value,
        "learning": None if state.learning is None else vars(state.learning),
        "windows": {name: vars(window) for name, window in state.windows.items()},
        "recent": list(state.recent),
        "unsent": [[slot.number, slot.at, slot.tat_before] for slot in state.unsent],
        "updated_at": now,
    }


def _from_row(row: RowMapping) -> State:
    counts = row["windows"] if isinstance(row["windows"], dict) else {}
    windows = {name: _read(partial(_window, counts, name), None) for name in WINDOW_SECONDS}
    return State(
        service=row["service"],
        **{name: row[name] for name in _SAME_IN_BOTH},
        cooldown_reason=_read(lambda: Reason(row["cooldown_reason"]), None),
        learning=_read(lambda: Search(**row["learning"]), None),
        windows={name: window for name, window in windows.items() if window is not None},
        recent=_read(lambda: tuple(float(moment) for moment in row["recent"]), ()),
        unsent=_read(lambda: tuple(Unsent(*slot) for slot in row["unsent"]), ()),
        updated_at=row["updated_at"],
    )


def _window(counts: Mapping[str, Any], name: str) -> WindowCount:
    return WindowCount(**counts[name])


def _read(build: Callable[[], T], otherwise: T) -> T:
    try:
        return build()
    except (TypeError, ValueError, KeyError):
        return otherwise
