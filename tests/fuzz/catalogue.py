"""Every target by its name."""

from __future__ import annotations

from tests.fuzz import header_targets, local_targets, log_targets, service_targets
from tests.fuzz.target import Target

ALL: dict[str, Target] = {
    target.name: target
    for module in (log_targets, service_targets, local_targets, header_targets)
    for target in module.TARGETS
}
