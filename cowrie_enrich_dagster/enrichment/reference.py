"""What the records that cowrieprocessor kept of its lookups mean here.

Its cache files and its table `enrichment_cache` hold, by service:

| service | record |
|---|---|
| `dshield`, `virustotal` | the service's own answer (`dshield_<ip>.json`: under `data`, with `timestamp`) |
| `hibp` | `{suffix: times seen}` |
| `cymru`, `greynoise` | its client's fields (`ip_address`, `asn`, ...; `noise`, ...) with `cached_at` |
| `urlhaus` | `{"tags": "a,b"}`, or the service's own answer (`uh_<ip>`) |
| `spur` | `{"spur_data": [18 values]}`, or the service's own answer (`spur_<ip>.json`) |
| `virustotal_unknown` | anything: VirusTotal did not know the file |

(layouts read from github.com/datagen24/cowrieprocessor, revision 57326ea of 2025-11-26.) A record is turned
into the answer that the service would give, and then has to pass that service's own reading: one about
another key is refused, one that is blank was a failure, and one that says "nothing known" is not found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from cowrie_enrich_dagster.cache import UNKNOWN_FILES, BadRecord, Told, refuse_blank
from cowrie_enrich_dagster.services import ALL, InvalidAnswer
from cowrie_enrich_dagster.vocabulary import LookupStatus

_SUFFIX = re.compile(r"[0-9A-F]{35}")
_SPUR_FIELDS = (
    *("as.organization", "client.behaviors", "client.concentration.country", "client.concentration.geohash"),
    *("client.concentration.skew", "client.countries", "client.count", "client.proxies", "client.spread"),
    *("client.types", "infrastructure", "location.city", "location.country", "location.state"),
    *("organization", "risks", "services", "tunnels"),
)

_Record = Mapping[str, Any]


def read_record(service: str, key: str | None, record: Any) -> Told:
    """The answer that a record amounts to, about `key` or, where that is None, about what it names.

    Raises `BadRecord` for one that is no answer about it.
    """
    if service == UNKNOWN_FILES:
        return Told(_named(key), None)
    if not isinstance(record, dict):
        raise BadRecord(f"JSON {type(record).__name__} instead of an object")
    if service == "virustotal" and isinstance(record.get("error"), dict):
        if record["error"].get("code") != "NotFoundError":
            raise BadRecord("an error written as if it were an answer")
        return Told(_named(key), None)
    fetched_at = _moment(record.get("cached_at")) or _moment(record.get("timestamp"))
    if isinstance(record.get("data"), dict) and "timestamp" in record:
        record = record["data"]
    refuse_blank(record)
    key = _named(key or _own_key(record))
    payload = _TRANSLATED[service](key, record) if service in _TRANSLATED else record
    if payload is None:
        return Told(key, None, fetched_at)
    try:
        answer = ALL[service].check(key, payload)
    except (InvalidAnswer, ValueError) as problem:
        raise BadRecord(str(problem)) from None
    if not answer.status.is_answer:
        raise BadRecord(answer.detail or str(answer.status))
    return Told(key, payload if answer.status is LookupStatus.FOUND else None, fetched_at)


def _named(key: object) -> str:
    if not isinstance(key, str) or not key:
        raise BadRecord("it names no key")
    return key


def _own_key(record: _Record) -> object:
    return record.get("ip_address") or record.get("ip") or record.get("host")


def _hibp(key: str, record: _Record) -> dict[str, Any]:
    if "suffixes" in record:
        return dict(record)
    if not all(_SUFFIX.fullmatch(name) and type(times) is int for name, times in record.items()):
        raise BadRecord("not only suffixes of hashes with their counts")
    return {"prefix": key, "suffixes": {name: times for name, times in record.items() if times > 0}}


def _cymru(key: str, record: _Record) -> dict[str, Any] | None:
    if "origins" in record:
        return dict(record)
    _about(key, record)
    if record.get("asn") is None:
        return None
    names = {"as": "asn", "bgp_prefix": "prefix", "cc": "country_code", "registry": "registry"}
    names |= {"allocated": "allocation_date", "as_name": "asn_org"}
    origin = {ours: str(record.get(theirs) or "NA") for ours, theirs in names.items()}
    return {"ip": key, "origins": [{**origin, "ip": key}]}


def _greynoise(key: str, record: _Record) -> dict[str, Any]:
    if "ip_address" not in record:
        return dict(record)
    kept = {name: record.get(name) for name in ("noise", "riot", "classification", "name", "last_seen")}
    return {"ip": record["ip_address"], **kept}


def _urlhaus(key: str, record: _Record) -> dict[str, Any]:
    if not isinstance(record.get("tags"), str):
        return dict(record)
    tags = [tag.strip() for tag in record["tags"].split(",") if tag.strip()]
    return {"query_status": "ok", "host": key, "urls": [{"tags": tags}]}


def _spur(key: str, record: _Record) -> dict[str, Any]:
    values = record.get("spur_data")
    if not isinstance(values, list):
        return dict(record)
    if len(values) != len(_SPUR_FIELDS):
        raise BadRecord(f"{len(values)} values, where Spur's records have {len(_SPUR_FIELDS)}")
    context: dict[str, Any] = {"ip": key}
    for path, value in zip(_SPUR_FIELDS, values, strict=True):
        *above, name = path.split(".")
        place = context
        if value not in ("", [], None):
            for step in above:
                place = place.setdefault(step, {})
            place[name] = value
    return context


_TRANSLATED: Mapping[str, Callable[[str, _Record], dict[str, Any] | None]] = {
    "hibp": _hibp,
    "cymru": _cymru,
    "greynoise": _greynoise,
    "urlhaus": _urlhaus,
    "spur": _spur,
}


def _about(key: str, record: _Record) -> None:
    if record.get("ip_address") not in (None, key):
        raise BadRecord("it is about another address")


def _moment(value: object) -> datetime | None:
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            return datetime.fromtimestamp(value, timezone.utc)
        moment = datetime.fromisoformat(value.replace("Z", "+00:00")) if isinstance(value, str) else None
    except (ValueError, OverflowError, OSError):
        return None
    return moment and (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc))
