"""Team Cymru: the autonomous system and network that announce an address, for many addresses at once."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests

from cowrie_enrich_dagster.services import _reading as read
from cowrie_enrich_dagster.services.base import (
    MAX_ANSWER_BYTES,
    Address,
    Answer,
    Facts,
    Limits,
    Service,
    ServiceConfig,
    Usual,
    about,
    decoded,
    gate_of,
)
from cowrie_enrich_dagster.vocabulary import LookupStatus

COLUMNS = ("as", "ip", "bgp_prefix", "cc", "registry", "allocated", "as_name")
WHOIS_PORT = 43
_COUNTRY = re.compile(r",\s*[A-Z]{2}$")


class Cymru(Usual):
    """Bulk whois (RFC 3912), documented at https://www.team-cymru.com/ip-asn-mapping.

    One connection carries a list of addresses; whoever sends them one by one is null-routed. No key, no
    statuses: a refusal is a connection that is not accepted or says nothing.
    """

    name = "cymru"
    rank = 4
    ttl = timedelta(days=7)
    limits = Limits(
        rate=0.2,
        source="https://www.team-cymru.com/ip-asn-mapping: bulk queries only, 10,000 addresses in a minute;"
        " a list every five seconds is ours (noted 2026-11-23)",
    )
    default_url = "whois://whois.cymru.com:43"
    needs_key = False
    batch_size = 500
    is_free = True
    tells = frozenset({"as_number", "as_organization", "network"})

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """See `Service.fetch`. The payload is `{"ip": key, "origins": [{column: text}]}`, one for each
        network that holds the address and each system that announces it."""
        addresses = {key: _address_of(key) for key in keys}
        if len(addresses) > self.batch_size:
            raise ValueError(f"{len(addresses)} addresses, where {self.batch_size} go at once")
        query = "\n".join(["begin", "verbose", *addresses, "end", ""])
        body = _exchange(query.encode("ascii"), http, config)
        if body is None:
            answer = Answer(LookupStatus.INVALID_RESPONSE, detail="an answer that is too large")
            return dict.fromkeys(keys, answer)
        origins: dict[Address, list[dict[str, str]]] = {}
        for address, row in _rows(body):
            origins.setdefault(address, []).append(row)
        return {key: _answer(key, origins.get(address, [])) for key, address in addresses.items()}

    def check(self, key: str, payload: Mapping[str, Any]) -> Answer:
        """See `Service.check`."""
        address, origins = _address_of(key), read.objects(payload.get("origins"))
        about(address, payload.get("ip"))
        return _answer(key, [{name: str(row.get(name, "")) for name in COLUMNS} for row in origins])

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """See `Service.facts`: the most specific network. The country is the registry's, not the address's
        (as the vendor warns), and so is none of the columns."""
        origins = [origin for origin in read.objects(payload.get("origins")) if _length(origin)]
        origin = max(origins, key=_length, default={})
        name = read.text(origin.get("as_name"))
        return Facts(
            as_number=read.as_number(origin.get("as")),
            as_organization=read.text(_COUNTRY.sub("", name)) if name and name != "NA" else None,
            network=read.network(origin.get("bgp_prefix")),
        )


def _address_of(key: str) -> Address:
    if "%" in key:  # the zone of an IPv6 address may be any text, line breaks included
        raise ValueError("an address with a zone is known on one link only")
    return ip_address(key)


def _exchange(query: bytes, http: requests.Session, config: ServiceConfig) -> bytes | None:
    """Send `query` and read to the end; None for more than `MAX_ANSWER_BYTES`."""
    target = urlsplit(config.api_url)
    where = (target.hostname or "", target.port or WHOIS_PORT)
    body = bytearray()
    gate = gate_of(http)
    try:
        with ExitStack() as stack:
            with gate.slot():
                deadline = time.monotonic() + config.timeout_s
                connection = stack.enter_context(socket.create_connection(where, config.timeout_s))
                stack.enter_context(gate.watched(connection))
                connection.settimeout(_left(deadline))
                connection.sendall(query)
            while chunk := _receive(connection, deadline):
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    return None
    except TimeoutError:
        raise requests.Timeout("no whole answer in time") from None
    except (OSError, UnicodeError) as error:
        raise requests.ConnectionError(f"{target.hostname}: {error}") from None
    if not body:
        raise requests.ConnectionError(f"{target.hostname}: closed without an answer")
    return bytes(body)


def _receive(connection: socket.socket, deadline: float) -> bytes:
    connection.settimeout(_left(deadline))
    return connection.recv(65536)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _rows(body: bytes) -> Iterator[tuple[Address, dict[str, str]]]:
    """The rows that are whole, one for each system that announces the network (a field may name several);
    banner, column titles, error lines and a line cut off at the end are none."""
    for line in filter(None, map(decoded, body.split(b"\n")[:-1])):
        fields = [field.strip() for field in line.split("|", len(COLUMNS) - 1)]
        row = dict(zip(COLUMNS, fields, strict=False))
        address = read.address(row.get("ip"))
        if address is not None and len(row) == len(COLUMNS):
            for system in row["as"].split() or [""]:
                yield address, {**row, "as": system}


def _answer(key: str, origins: list[dict[str, str]]) -> Answer:
    if not origins:
        return Answer(LookupStatus.INVALID_RESPONSE, detail="no line about this address")
    announced = [origin for origin in origins if read.as_number(origin["as"])]
    if announced:
        return Answer(LookupStatus.FOUND, {"ip": key, "origins": announced})
    if all(origin["as"] == "NA" for origin in origins):
        return Answer(LookupStatus.NOT_FOUND)
    return Answer(LookupStatus.INVALID_RESPONSE, detail="neither a system's number nor NA")


def _length(origin: Mapping[str, Any]) -> int:
    network = read.network(origin.get("bgp_prefix"))
    return int(network.rpartition("/")[2]) if network else 0


SERVICE: Service = Cymru()
