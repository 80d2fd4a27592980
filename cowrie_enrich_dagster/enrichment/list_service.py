"""A list as a service, so that it is fetched through limiter, queue and ledger as everything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import requests

from cowrie_enrich_dagster.enrichment.list_store import Look
from cowrie_enrich_dagster.services import Answer, Facts, Limits, ServiceConfig
from cowrie_enrich_dagster.services.lists import ListPlace, ListRefused, fetch_list, list_service_name
from cowrie_enrich_dagster.settings import ListSettings
from cowrie_enrich_dagster.vocabulary import LookupStatus, Subject

_TTL = timedelta(minutes=1)
_LIMITS = Limits(
    rate=1 / 60, source="ours: a list is looked at once in its refresh hours, of an hour or more"
)


class ListService:
    """A list as a service that knows one key: its name. See `Service`.

    What it reads goes to `keep` before its lookup is closed, so that nothing is lost between the two.
    """

    rank = 0
    subject = Subject.IP
    ttl = not_found_ttl = _TTL
    limits = _LIMITS
    needs_key = False
    limit_statuses = frozenset({429})
    auth_statuses: frozenset[int] = frozenset()
    batch_size = 1
    is_free = False
    own_moment: tuple[str, ...] = ()
    tells: frozenset[str] = frozenset()

    def __init__(
        self, settings: ListSettings, place: ListPlace, keep: Callable[[bytes | None, ListPlace], Look]
    ) -> None:
        self.name = list_service_name(settings.name)
        self.default_url = place.url
        self._place, self._keep = place, keep
        self.look: Look | None = None

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """Fetch it, and keep it. See `Service.fetch`."""
        (key,) = keys
        try:
            got = fetch_list(self._place, http)
            self.look = self._keep(got.body, ListPlace(self._place.url, got.etag, got.last_modified))
        except ListRefused as problem:
            return {key: Answer(LookupStatus.INVALID_RESPONSE, detail=str(problem))}
        return {key: Answer(LookupStatus.FOUND, {"entries": self.look.entries})}

    def check(self, key: str, payload: Mapping[str, Any]) -> Answer:
        """A list is kept in its own tables."""
        return Answer(LookupStatus.FOUND, dict(payload))

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """A list says nothing as a whole."""
        return Facts()
