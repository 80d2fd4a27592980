"""Which intelligence services there are: a service is there because its module is.

Apart from `services`, because settings need the names and not the services.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path


def service_names() -> tuple[str, ...]:
    """The intelligence services: the modules of the package `services`, without those that they share."""
    folder = Path(__file__).parent / "services"
    names = (module.name for module in pkgutil.iter_modules([str(folder)]))
    return tuple(
        name for name in names if not name.startswith("_") and name not in ("base", "feeds", "lists")
    )
