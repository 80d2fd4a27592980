"""`cowrie-enrich metrics --listen`: the metrics over HTTP, for a Prometheus that scrapes.

Any path answers with them. While the database is away the answer holds `cowrie_enrich_up 0` and nothing else:
the scrape works, and the gap shows.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.metrics import Installation
from cowrie_enrich_dagster.storage.engine import DatabaseUnusable
from cowrie_enrich_dagster.storage.outages import patient_until

logger = logging.getLogger(__name__)


class _Scraped(Collector):
    """The installation's metrics, read anew at each scrape; one at a time."""

    def __init__(self, enricher: Enricher) -> None:
        self._installation = Installation(enricher)
        self._turn = threading.Lock()

    def describe(self) -> list[Metric]:
        """Nothing: else registering would ask the database, which may be away."""
        return []

    def collect(self) -> Iterator[Metric]:
        at_once = threading.Event()
        at_once.set()
        with self._turn, patient_until(at_once):  # a scrape does not wait for the end of an outage
            try:
                found = list(self._installation.collect())
                is_up = 1
            except (SQLAlchemyError, DatabaseUnusable) as problem:
                logger.warning("no metrics: %s", type(problem).__name__)
                found, is_up = [], 0
        yield GaugeMetricFamily("cowrie_enrich_up", "Whether the database could be read.", value=is_up)
        yield from found


def serve(enricher: Enricher, host: str, port: int) -> int:
    """Answer scrapes, in threads of their own, from now on; returns the port (of 0: a free one).

    Raises `OSError` where it cannot be listened.
    """
    registry = CollectorRegistry()
    registry.register(_Scraped(enricher))
    server, _ = start_http_server(port, addr=host, registry=registry)
    return int(server.server_address[1])
