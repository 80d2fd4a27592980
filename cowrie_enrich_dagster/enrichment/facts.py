"""Which columns of `enriched_sessions` the facts fill that services tell."""

from __future__ import annotations

from collections.abc import Mapping

OF_ADDRESSES = {
    "as_number": "source_as_number",
    "as_organization": "source_as_organization_name",
    "country_iso_code": "source_geo_country_iso_code",
    "is_scanner": "source_is_scanner",
    "is_proxy": "source_is_proxy",
    "is_vpn": "source_is_vpn",
    "is_tor": "source_is_tor",
    "abuse_score": "source_abuse_score",
    "classification": "source_classification",
    "reports": "source_reports",
}
"""Which column each shared fact about an address fills."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    **{fact: (column,) for fact, column in OF_ADDRESSES.items()},
    "malicious": ("file_malicious",),
    "file_label": ("file_label",),
    "breached": ("passwords_breached", "passwords_novel"),
}
"""The columns that each fact fills; `breached` is what a range of passwords tells."""
