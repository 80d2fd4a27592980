"""The assets, in the order of the lineage."""

from dagster import with_source_code_references

from cowrie_enrich_dagster.defs.assets.address_lists import address_lists
from cowrie_enrich_dagster.defs.assets.campaigns import campaigns
from cowrie_enrich_dagster.defs.assets.cowrie_sessions import cowrie_logs, cowrie_sessions
from cowrie_enrich_dagster.defs.assets.enriched_sessions import enriched_sessions
from cowrie_enrich_dagster.defs.assets.enrichment_cache import enrichment_cache
from cowrie_enrich_dagster.defs.assets.feeds import abuseipdb_feed, dshield_feed
from cowrie_enrich_dagster.defs.assets.session_ips import session_ips

assets = with_source_code_references(
    [
        cowrie_logs,
        cowrie_sessions,
        session_ips,
        address_lists,
        dshield_feed,
        abuseipdb_feed,
        enrichment_cache,
        enriched_sessions,
        campaigns,
    ]
)
"""Each with the place in the code where it is defined."""
