"""MaxMind: where an address is, from database files on this machine (GeoLite2, GeoIP2, or any MMDB)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import maxminddb
import orjson
import requests

from cowrie_enrich_dagster.services import _reading as read
from cowrie_enrich_dagster.services.base import (
    Answer,
    Facts,
    InvalidAnswer,
    Limits,
    Service,
    ServiceConfig,
    Usual,
)
from cowrie_enrich_dagster.vocabulary import LookupStatus

_DAMAGED = (
    maxminddb.InvalidDatabaseError,
    OSError,
    ArithmeticError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
"""What reading a damaged database may raise: its reader trusts lengths, types and pointers."""


class DatabaseUnreadable(requests.RequestException):
    """There is no database where there should be, or it is damaged; the message names the file."""


class MaxMind(Usual):
    """MMDB files (https://maxmind.github.io/MaxMind-DB/), read where they lie: nothing is sent anywhere.

    `ServiceConfig.database` is a file, or a folder whose `*.mmdb` are all asked. It stands for the key: the
    service takes no part without one.
    """

    name = "maxmind"
    rank = 6
    ttl = timedelta(days=1)
    limits = Limits(rate=1e6, source="none: it is a file (https://dev.maxmind.com/geoip/docs/databases)")
    default_url = ""
    batch_size = 1000
    is_free = True
    tells = frozenset(
        {"as_number", "as_organization", "country_iso_code", "network", "is_proxy", "is_vpn", "is_tor"}
    )

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """See `Service.fetch`. The payload is `{"ip": key, "databases": {type: {"built", "network",
        "record"}}}`; raises `DatabaseUnreadable` where others cannot be reached."""
        for key in keys:
            ip_address(key)
        with ExitStack() as stack:
            readers = {path: stack.enter_context(_open(path)) for path in _files(config.database)}
            return {key: _answer(key, readers) for key in keys}

    def check(self, key: str, payload: Mapping[str, Any]) -> Answer:
        """See `Service.check`."""
        if payload.get("ip") != key or not read.obj(payload.get("databases")):
            raise InvalidAnswer("no record of this address")
        return Answer(LookupStatus.FOUND, dict(payload))

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """See `Service.facts`: from each database what it has."""
        parts = [read.obj(part) for part in read.obj(payload.get("databases")).values()]
        records = [read.obj(part.get("record")) for part in parts]
        system = next((record for record in records if "autonomous_system_number" in record), {})
        country = next((read.obj(record["country"]) for record in records if "country" in record), {})
        networks = [read.network(part.get("network")) for part in parts if part.get("record") is not None]
        return Facts(
            as_number=read.as_number(system.get("autonomous_system_number")),
            as_organization=read.text(system.get("autonomous_system_organization")),
            country_iso_code=read.country(country.get("iso_code")),
            network=next((network for network in networks if network), None),
            is_proxy=_told(records, "is_public_proxy", "is_residential_proxy"),
            is_vpn=_told(records, "is_anonymous_vpn"),
            is_tor=_told(records, "is_tor_exit_node"),
        )


def _told(records: Sequence[Mapping[str, Any]], *flags: str) -> bool | None:
    """Whether one of these flags of the Anonymous IP database is set; None where no record has any.

    Such records leave out what is false (https://dev.maxmind.com/geoip/docs/databases/anonymous-ip); other
    databases have the flags under `traits`.
    """
    parts = [part for record in records for part in (record, read.obj(record.get("traits")))]
    telling = [part for part in parts if any(name.startswith(_ANONYMOUS) for name in part)]
    return any(part.get(name) is True for part in telling for name in flags) if telling else None


_ANONYMOUS = ("is_anonymous", "is_tor_exit_node", "is_public_proxy", "is_residential_proxy")


def database_types(database: Path | None) -> list[str]:
    """What the files are, by their own word; raises `DatabaseUnreadable` for one that cannot be opened."""
    types = []
    for path in _files(database):
        with _open(path) as reader:
            types.append(str(reader.metadata().database_type))
    return types


def _files(database: Path | None) -> list[Path]:
    if database is None:
        raise DatabaseUnreadable("no database is configured")
    files = sorted(database.glob("*.mmdb")) if database.is_dir() else [database]
    if not files:
        raise DatabaseUnreadable(f"{database} has no *.mmdb")
    return files


def _open(path: Path) -> maxminddb.Reader:
    try:
        # In Python: the library in C ends the whole process at some damaged files.
        return maxminddb.open_database(path, maxminddb.MODE_MMAP)
    except _DAMAGED as error:
        raise DatabaseUnreadable(f"{path}: {error}") from error


def _answer(key: str, readers: Mapping[Path, maxminddb.Reader]) -> Answer:
    databases: dict[str, dict[str, Any]] = {}
    for path, reader in readers.items():
        try:
            databases |= _entry(key, reader)
        except _DAMAGED as error:
            raise DatabaseUnreadable(f"{path}: {error}") from error
    if not databases:
        return Answer(LookupStatus.NOT_FOUND)
    return Answer(LookupStatus.FOUND, {"ip": key, "databases": databases})


def _entry(key: str, reader: maxminddb.Reader) -> dict[str, dict[str, Any]]:
    """What one database has on an address, by the database's type; empty for nothing."""
    metadata = reader.metadata()
    if metadata.ip_version == 4 and ip_address(key).version == 6:
        return {}
    record, length = reader.get_with_prefix_len(key)
    if not record:  # networks are listed with empty records, too
        return {}
    orjson.dumps(record)  # a database may hold what JSON lacks
    built = datetime.fromtimestamp(metadata.build_epoch, timezone.utc).date()
    network = ip_network(f"{key}/{length}", strict=False)
    return {
        str(metadata.database_type): {
            "built": built.isoformat(),
            "network": str(network),
            "record": record,
        }
    }


SERVICE: Service = MaxMind()
