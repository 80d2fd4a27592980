"""What services have in common; each says only what is its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import requests

from cowrie_enrich_dagster.services import _reading as read
from cowrie_enrich_dagster.services.base.http import answer_from, json_object
from cowrie_enrich_dagster.services.base.model import Answer, InvalidAnswer, ServiceConfig
from cowrie_enrich_dagster.vocabulary import Subject

Address = IPv4Address | IPv6Address


class Usual:
    """What holds of a service that does not say otherwise. See `Service`."""

    subject = Subject.IP
    not_found_ttl = timedelta(days=1)
    needs_key = True
    limit_statuses = frozenset({429})
    auth_statuses = frozenset({401, 403})
    batch_size = 1
    is_free = False
    own_moment: tuple[str, ...] = ()


class AddressService(Usual, ABC):
    """A service that is asked over HTTP about one address at a time and answers with a JSON object."""

    telling: frozenset[int] = frozenset()
    """The 4xx statuses whose bodies are answers too."""

    @abstractmethod
    def request(self, key: str, http: requests.Session, config: ServiceConfig) -> requests.Response:
        """Send the request about an address, whose text is `key`; see `ask`."""

    @abstractmethod
    def answer(self, body: dict[str, Any], address: Address) -> Answer:
        """What a body says about the address. Raises `InvalidAnswer` for one that is no answer about it."""

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """See `Service.fetch`. Raises ValueError for other than one key, or one that is no IP address."""
        (key,) = keys
        address = ip_address(key)
        response = self.request(key, http, config)
        return {key: answer_from(lambda: self.answer(json_object(response, self.telling), address))}

    def check(self, key: str, payload: Mapping[str, Any]) -> Answer:
        """See `Service.check`."""
        return self.answer(dict(payload), ip_address(key))


def about(address: Address, *named: object) -> None:
    """Raise `InvalidAnswer` unless one of the addresses that an answer names is this one."""
    if address not in map(read.address, named):
        raise InvalidAnswer("it is not about this address")
