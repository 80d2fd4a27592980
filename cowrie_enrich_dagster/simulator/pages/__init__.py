"""The pages of the simulator: every module here serves one service, and is found by being here."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from cowrie_enrich_dagster.simulator.pages.base import REFUSED_KEY, Page, Reply, Request

__all__ = ["ALL", "REFUSED_KEY", "Page", "Reply", "Request"]


def _discover() -> dict[str, Page]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    pages: list[Page] = [
        import_module(f"{__name__}.{name}").PAGE
        for name in names
        if name != "base" and not name.startswith("_")
    ]
    return {page.name: page for page in pages}


ALL: dict[str, Page] = _discover()
"""Every page by its service's name."""
