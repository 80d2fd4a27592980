"""What an operator is told by webhook (ENRICH_WEBHOOK_URL), each thing once.

What is noticed is written into `notices` and sent from there, so that a webhook that fails gets it at the
next occasion, whichever process has it. Nothing here raises: a run is never worse for it, and at most
`DEADLINE_S` longer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from enum import Enum
from time import monotonic

from sqlalchemy import or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from cowrie_enrich_dagster.enrichment import webhook
from cowrie_enrich_dagster.settings import Settings
from cowrie_enrich_dagster.storage import tables
from cowrie_enrich_dagster.storage.engine import Database, DatabaseUnusable

logger = logging.getLogger(__name__)

DEADLINE_S = 8.0
"""For all that is sent at one occasion: a stop has to end a process within 10 s."""
MAX_SILENCE = timedelta(hours=26)
KEPT_TRYING = timedelta(days=1)
REPORTED_WITHIN = timedelta(days=7)
_CLAIM = timedelta(seconds=60)

_NOTICES = tables.table_of(tables.Notice)


class Kind(str, Enum):
    """What a notice is about."""

    BANNED = "banned"
    KEY_REFUSED = "key_refused"
    SILENCE = "silence"
    CHECK_FAILED = "check_failed"
    REPORT = "report"

    @property
    def heading(self) -> str:
        """The first line of the message."""
        return {
            Kind.BANNED: "A service has banned us",
            Kind.KEY_REFUSED: "A key is refused",
            Kind.SILENCE: f"No session for {MAX_SILENCE.total_seconds() / 3600:.0f} hours",
            Kind.CHECK_FAILED: "A check has failed",
            Kind.REPORT: "The report on the day",
        }[self]


class Notices:
    """The notices of one database, and the webhook they go to (None: nothing is noticed)."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._url = settings.webhook_url

    @property
    def are_wanted(self) -> bool:
        """Whether there is a webhook."""
        return self._url is not None

    def put(self, kind: Kind, subject: str, text: str) -> None:
        """Notice something, unless it is noticed already."""
        if not self.are_wanted:
            return
        with self._harmless(), self._database.write() as connection:
            insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
            now = self._database.now(connection)
            row = {"kind": kind.value, "subject": subject, "text": text, "noticed_at": now}
            connection.execute(insert(_NOTICES).values(row).on_conflict_do_nothing())

    def over(self, kind: Kind, subject: str) -> None:
        """Something holds no more: when it comes again, it is told again."""
        if not self.are_wanted:
            return
        with self._harmless(), self._database.write() as connection:
            this = (_NOTICES.c.kind == kind.value) & (_NOTICES.c.subject == subject)
            connection.execute(_NOTICES.delete().where(this))

    def deliver(self) -> None:
        """Send what was not sent yet, within `DEADLINE_S`; after a failure the rest waits as well."""
        if self._url is None:
            return
        end = monotonic() + DEADLINE_S
        with self._harmless():
            while (left := end - monotonic()) > 0 and (notice := self._claim()):
                kind, subject, text = notice
                problem = webhook.post(self._url.get_secret_value(), kind.heading, text, left)
                if problem is not None:
                    logger.warning("ENRICH_WEBHOOK_URL: a notice (%s) was not taken: %s", kind.value, problem)
                    return
                this = (_NOTICES.c.kind == kind.value) & (_NOTICES.c.subject == subject)
                with self._database.write() as connection:
                    sent = {"sent_at": self._database.now(connection)}
                    connection.execute(_NOTICES.update().where(this).values(sent))

    def _claim(self) -> tuple[Kind, str, str] | None:
        """The oldest notice that nobody has sent or is sending; for a minute it is ours."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            free = or_(_NOTICES.c.claimed_until.is_(None), _NOTICES.c.claimed_until < now)
            query = select(_NOTICES.c.kind, _NOTICES.c.subject, _NOTICES.c.text)
            query = query.where(
                _NOTICES.c.sent_at.is_(None), _NOTICES.c.noticed_at > now - KEPT_TRYING, free
            ).order_by(_NOTICES.c.noticed_at)
            row = connection.execute(query.limit(1).with_for_update(skip_locked=True)).first()
            if row is None:
                return None
            this = (_NOTICES.c.kind == row.kind) & (_NOTICES.c.subject == row.subject)
            connection.execute(_NOTICES.update().where(this).values(claimed_until=now + _CLAIM))
            return Kind(row.kind), row.subject, row.text

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, DatabaseUnusable) as problem:
            logger.warning("notices could not be kept: %s", type(problem).__name__)


def tell_of_check(notices: Notices, name: str, days: str, *, passed: bool, figures: str) -> None:
    """Notice how a check of severity ERROR ended."""
    subject = f"{name}, {days}"
    if passed:
        notices.over(Kind.CHECK_FAILED, subject)
    else:
        notices.put(Kind.CHECK_FAILED, subject, f"{name}, {days}: {figures}")
        notices.deliver()


def note_report(notices: Notices, day: date, today: date, text: str) -> None:
    """Notice the report on a day, once it is over and while it is news."""
    if day < today <= day + REPORTED_WITHIN:
        notices.put(Kind.REPORT, str(day), f"{day}\n{text}")
