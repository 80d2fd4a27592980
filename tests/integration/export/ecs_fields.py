"""The fields of the Elastic Common Schema that exports use, with their types.

From `generated/csv/fields.csv` of https://github.com/elastic/ecs at tag v8.11.0, the version that each
document names.
"""

from __future__ import annotations

VERSION = "8.11.0"
TYPES = {
    "@timestamp": "date",
    "destination.port": "long",
    "ecs.version": "keyword",
    "event.category": "keyword",
    "event.dataset": "keyword",
    "event.duration": "long",
    "event.end": "date",
    "event.kind": "keyword",
    "event.start": "date",
    "event.type": "keyword",
    "file.hash.sha256": "keyword",
    "network.protocol": "keyword",
    "observer.name": "keyword",
    "observer.product": "keyword",
    "observer.type": "keyword",
    "process.command_line": "wildcard",
    "source.address": "keyword",
    "source.as.number": "long",
    "source.as.organization.name": "keyword",
    "source.geo.country_iso_code": "keyword",
    "source.ip": "ip",
    "source.port": "long",
    "url.full": "wildcard",
    "user.name": "keyword",
}
ALLOWED = {"event.kind": {"event"}, "event.category": {"session"}, "event.type": {"info"}}
"""Of what ECS allows in these fields, what a session is."""
