"""The order of asking, over all days and for all who ask: plan, queue and report take it from here.

First what an answer is worth (its class: who got in, who left files), then first answers before refreshes of
what is known, then how recently the key was seen (an answer about last month's visitor tells about now, not
about then), then how busy it was, then the key itself.
"""

from __future__ import annotations

from typing import Any

from cowrie_enrich_dagster.lookups.model import Wanted

CLASS_STEP = 5_000
"""A priority is `value_class * CLASS_STEP + business`, with business below it."""

LOGIN, FILES = 2, 1
"""What makes a key's class: 3 got in and left files, 2 got in, 1 left files, 0 neither."""

BY_WORTH = "value_class DESC, is_refresh, last_day DESC, priority DESC, key"
"""The order as SQL, over columns of `lookups`; its index is `ix_lookups_ready`."""


def place_of(want: Wanted) -> tuple[int, int, int, str]:
    """The same for sorting what was never answered."""
    return -(want.priority // CLASS_STEP), -want.last_day.toordinal(), -want.priority, want.key


def places(priorities: Any, days: Any) -> Any:
    """The same as numbers, but for the key, of whole arrays: of their priorities and their days' ordinals."""
    return -((priorities // CLASS_STEP * 2**20 + days) * 2**20 + priorities)


PRIORITY = f"""
    {CLASS_STEP} * (CASE WHEN login_successes > 0 THEN {LOGIN} ELSE 0 END
        + CASE WHEN downloads + uploads > 0 THEN {FILES} ELSE 0 END)
    + CASE WHEN sessions * sensors < {CLASS_STEP} THEN sessions * sensors ELSE {CLASS_STEP - 1} END
"""
"""What an answer about an address is worth, `value_class * CLASS_STEP + business`, as SQL over its sums.

The classes are ordered, not weighed: no number of mere connects outweighs one successful login. Business is
sessions, each counted once for each sensor that saw the address.
"""
