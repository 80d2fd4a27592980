"""Whether a sensor seems to sit behind NAT: then its logs name the translator instead of the attackers."""

from __future__ import annotations

from datetime import date, timedelta

from sqlalchemy import func, or_, select

from cowrie_enrich_dagster.cowrie import address_scope
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import SessionRecord, table_of
from cowrie_enrich_dagster.vocabulary import Days, Scope

NEARLY_ALL = 0.9
FEW_SESSIONS = 20
"""Of fewer sessions nothing can be said."""
_LATELY = timedelta(days=30)
_SESSIONS = table_of(SessionRecord).c
_PERHAPS_PRIVATE = ("10.%", "172.%", "192.168.%", "127.%", "fc%", "fd%", "::1")


@survives_outage
def ask_about_nat(database: Database, days: Days | None = None) -> list[str]:
    """A question for each sensor of which nearly all sessions on `days` have one private source.

    Without `days`: of the last 30 days that there are sessions of.
    """
    with database.read() as connection:
        if days is None:
            newest: date | None = connection.execute(select(func.max(_SESSIONS.day))).scalar_one()
            if newest is None:
                return []
            days = Days(newest - _LATELY, newest)
        on_days = _SESSIONS.day.between(days.first, days.last)
        # That few begin like this is cheaper to see than seven times that they are not LIKE it.
        begins = func.substr(_SESSIONS.src_ip, 1, 2).in_(sorted({start[:2] for start in _PERHAPS_PRIVATE}))
        private = (
            select(_SESSIONS.sensor, _SESSIONS.src_ip, func.count())
            .where(on_days, begins, or_(*(_SESSIONS.src_ip.like(start) for start in _PERHAPS_PRIVATE)))
            .group_by(_SESSIONS.sensor, _SESSIONS.src_ip)
        )
        sources = sorted(tuple(row) for row in connection.execute(private))
        if not sources:
            return []
        total = select(_SESSIONS.sensor, func.count()).where(on_days).group_by(_SESSIONS.sensor)
        sessions = {row[0]: row[1] for row in connection.execute(total)}
        return [
            f"{count} of {sessions[sensor]} sessions of the sensor {sensor} come from {source}, a private "
            "address: does it sit behind NAT or a proxy that hides who connects?"
            for sensor, source, count in sources
            if sessions[sensor] >= FEW_SESSIONS
            and count >= NEARLY_ALL * sessions[sensor]
            and address_scope(source) in (Scope.PRIVATE, Scope.LOOPBACK)
        ]
