"""The moments in Cowrie's logs."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from cowrie_enrich_dagster.vocabulary import FIRST_DAY, LAST_DAY

_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(?:[Zz]|([+-])([01]\d|2[0-3]):?([0-5]\d))?",
    re.ASCII,
)


def parse_moment(text: str) -> datetime | None:
    """The UTC moment `text` names, without tzinfo; None if it names none, or one outside the years 2000-2100.

    Read is what Cowrie has written over the years: `2025-11-01T10:00:00.123456Z`, the same with `+0000`,
    `+00:00` or another offset, and without zone (then UTC), with or without a fraction of a second.
    """
    match = _MOMENT.fullmatch(text.strip())
    if match is None:
        return None
    day, clock, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}.{(fraction or '0')[:6]:<06}")
    except ValueError:
        return None
    if sign:
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        try:
            moment = moment - offset if sign == "+" else moment + offset
        except OverflowError:
            return None
    return moment if FIRST_DAY.year <= moment.year <= LAST_DAY.year else None
