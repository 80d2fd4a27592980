"""What joins sessions to campaigns: artefacts of a session, and the components that shared ones make."""

from .artefacts import Artefact, artefacts_of, set_id
from .components import ArtefactSet, campaigns_of
from .labels import label
from .rules import is_shared_by_all, joins

__all__ = [
    "Artefact",
    "ArtefactSet",
    "artefacts_of",
    "campaigns_of",
    "is_shared_by_all",
    "joins",
    "label",
    "set_id",
]
