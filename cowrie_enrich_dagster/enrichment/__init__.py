"""Logs in, enriched sessions out: everything that can be done with the settings, without Dagster.

    with Enricher(load_settings()) as enricher:
        report = enricher.run(Days.parse("2025-11-01"))

The file `wiring` makes the parts out of settings, `asking` asks services, `pipeline` has the steps of a run,
`upkeep` what is done beside the days. Every other file is one step.
"""

from cowrie_enrich_dagster.enrichment.upkeep import Upkeep
from cowrie_enrich_dagster.enrichment.wiring import ANONYMOUS, configured_pace, open_redis


class Enricher(Upkeep):
    """All of it, for one database: see `Pipeline`, `Upkeep`, `Asking` and `Wiring`."""


__all__ = ["ANONYMOUS", "Enricher", "configured_pace", "open_redis"]
