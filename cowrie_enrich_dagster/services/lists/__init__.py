"""Lists of addresses and networks that others publish whole: fetching and reading them.

Finding addresses in them is `matching`, apart, for it needs numpy: a sixth of what a start takes.
"""

from cowrie_enrich_dagster.services.lists.fetching import (
    MAX_BYTES,
    Fetched,
    ListPlace,
    fetch_list,
    is_list,
    list_service_name,
)
from cowrie_enrich_dagster.services.lists.networks import Network, as_text, parse_network
from cowrie_enrich_dagster.services.lists.reading import (
    ListForm,
    ListRefused,
    ReadList,
    read_list,
    refuse_shrunken,
)

__all__ = [
    "MAX_BYTES",
    "Fetched",
    "ListForm",
    "ListPlace",
    "ListRefused",
    "Network",
    "ReadList",
    "as_text",
    "fetch_list",
    "is_list",
    "list_service_name",
    "parse_network",
    "read_list",
    "refuse_shrunken",
]
