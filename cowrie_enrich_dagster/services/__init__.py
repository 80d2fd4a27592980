"""The intelligence services: every module here that holds one is found by being here."""

from __future__ import annotations

from importlib import import_module

from cowrie_enrich_dagster.service_names import service_names
from cowrie_enrich_dagster.services.base import (
    Answer,
    Facts,
    InvalidAnswer,
    Limits,
    Service,
    ServiceConfig,
    Window,
)

__all__ = [
    "ALL",
    "FREE",
    "OWN_MOMENTS",
    "Answer",
    "Facts",
    "InvalidAnswer",
    "Limits",
    "Service",
    "ServiceConfig",
    "Window",
]


def _discover() -> dict[str, Service]:
    services: list[Service] = [import_module(f"{__name__}.{name}").SERVICE for name in service_names()]
    return {service.name: service for service in sorted(services, key=lambda service: service.rank)}


ALL: dict[str, Service] = _discover()
"""Every service by its name, in the order of `Service.rank`."""

FREE = tuple(name for name, service in ALL.items() if service.is_free)
"""The services of which an address more costs no call."""

OWN_MOMENTS: dict[str, tuple[str, ...]] = {
    name: service.own_moment for name, service in ALL.items() if service.own_moment
}
"""By service, where in an answer stands when it was made: all else may be unchanged since the one before."""
