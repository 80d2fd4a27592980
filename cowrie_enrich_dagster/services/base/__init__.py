"""What services are made of: the protocol, asking over HTTP, and what most of them have in common."""

from __future__ import annotations

from cowrie_enrich_dagster.services.base.http import (
    MAX_ANSWER_BYTES,
    VERSION,
    answer_from,
    ask,
    content,
    decoded,
    json_object,
    json_value,
    media_type,
    no_error,
)
from cowrie_enrich_dagster.services.base.kinds import Address, AddressService, Usual, about
from cowrie_enrich_dagster.services.base.model import (
    Answer,
    Facts,
    Gate,
    InvalidAnswer,
    Limits,
    Service,
    ServiceConfig,
    Window,
    gate_of,
)

__all__ = [
    "MAX_ANSWER_BYTES",
    "VERSION",
    "Address",
    "AddressService",
    "Answer",
    "Facts",
    "Gate",
    "InvalidAnswer",
    "Limits",
    "Service",
    "ServiceConfig",
    "Usual",
    "Window",
    "about",
    "answer_from",
    "ask",
    "content",
    "decoded",
    "gate_of",
    "json_object",
    "json_value",
    "media_type",
    "no_error",
]
