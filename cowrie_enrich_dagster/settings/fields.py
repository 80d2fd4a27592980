"""What a setting is declared with: where it is read from and what it accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

Source = Literal["environment", "sensors.toml", "default"]


@dataclass(frozen=True)
class From:
    """Where a field is read. In a service's field, `{SERVICE}` and `{service}` stand for its name.

    `toml` is the table under `[enrichment]` and the key in it; `accepts` completes "accepted: ..." (switches
    state it themselves); `unset` is what None means; `only` names the one service that has the field;
    what `is_private` is no secret and is shown to nobody all the same.
    """

    env: str | None = None
    toml: tuple[str, str] | None = None
    accepts: str = ""
    unset: str = "not set"
    only: str | None = None
    is_private: bool = False


class Frozen(BaseModel):
    """Settings do not change, and their errors do not show what they were given."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
