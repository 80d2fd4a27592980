"""Lists of addresses and networks that others publish whole: presets, and `[[enrichment.lists]]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from cowrie_enrich_dagster.settings.fields import From, Frozen
from cowrie_enrich_dagster.settings.values import AbsolutePath, did_you_mean, reject, split_words

Says = Literal["tor", "scanner", "malicious", "spam", "own"]
ListFormat = Literal["addresses", "json", "csv"]

MAX_HOURS = 24 * 365.0
USUAL_SHARE = 0.2


def _list_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its message quotes the URL
        valid = False
    if not valid or not re.fullmatch(r"[!-~]+", url):
        raise reject("it is not such a URL")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise reject("it holds credentials, a query or a fragment")
    return url


def _path(value: object) -> object:
    return Path(value) if isinstance(value, str) else value  # TOML knows no paths


class ListSettings(Frozen):
    """One list: `says` what its entries are; it is at `url`, or in `file`.

    `column` is the key of each line's JSON object, or a CSV column's title or number (the first is 1).
    `allowed_share`: a scanners' list may spare this share of our addresses from being asked about at most.
    `terms` is where the publisher says what one may do with it, and how often.
    """

    name: Annotated[
        str,
        Field(pattern=r"^[a-z][a-z0-9_]{0,39}$"),
        From(toml=("lists", "name"), accepts="at most 40 small letters, digits and _"),
    ]
    says: Annotated[
        Says, From(toml=("lists", "says"), accepts='"tor", "scanner", "malicious", "spam" or "own"')
    ]
    url: Annotated[
        Annotated[str, AfterValidator(_list_url)] | None,
        From(
            toml=("lists", "url"),
            accepts="an http:// or https:// URL without credentials, query or fragment",
        ),
    ] = None
    file: Annotated[
        Annotated[AbsolutePath, BeforeValidator(_path)] | None, From(toml=("lists", "file"), accepts="a file")
    ] = None
    refresh_hours: Annotated[
        float,
        Field(ge=1, le=MAX_HOURS, allow_inf_nan=False),
        From(toml=("lists", "refresh_hours"), accepts="a number of hours from 1 to 8760"),
    ] = 24.0
    format: Annotated[
        ListFormat,
        From(
            toml=("lists", "format"),
            accepts='"addresses" (an address or CIDR network first on each line), "json" (an object on each'
            ' line) or "csv"',
        ),
    ] = "addresses"
    column: Annotated[
        Annotated[str, Field(min_length=1, max_length=100)] | Annotated[int, Field(ge=1, le=1000)] | None,
        From(
            toml=("lists", "column"),
            accepts="the key (json), or the title or number of the column (csv; the first is 1)",
        ),
    ] = None
    allowed_share: Annotated[
        float,
        Field(gt=0, le=1, allow_inf_nan=False),
        From(toml=("lists", "allowed_share"), accepts="a share of our addresses, more than 0 and at most 1"),
    ] = USUAL_SHARE
    terms: str = ""

    def __str__(self) -> str:
        where = self.file or self.url
        return f"{self.says}, {where}, every {self.refresh_hours:g} h"

    @property
    def read_as(self) -> str:
        """What decides how a text is read and whether it is taken; once it changes, all is looked at anew."""
        column = "" if self.column is None else f" {self.column!r}"
        return f"{self.says}: {self.format}{column} of {self.file or self.url}, {self.allowed_share:g}"

    def contradictions(self) -> list[str]:
        """What does not fit together, each in words that follow the name of the list."""
        found = []
        if (self.url is None) == (self.file is None):
            found.append("names both a url and a file, or neither; accepted: one of them")
        if self.says == "own" and self.file is None:
            found.append(
                'says "own" of a url; accepted: a file, for such a list decides who is never asked about'
            )
        if (self.format == "addresses") != (self.column is None):
            found.append('has a column without format "json" or "csv", or such a format without a column')
        if self.format == "json" and isinstance(self.column, int):
            found.append('numbers its column; accepted with format "json": a key')
        return found


def _preset(name: str, says: Says, url: str, hours: float, terms: str, **how: Any) -> ListSettings:
    return ListSettings(name=name, says=says, url=url, refresh_hours=hours, terms=terms, **how)


_ABUSE_CH = "https://abuse.ch/terms-of-use/"
PRESETS: Mapping[str, ListSettings] = {
    one.name: one
    for one in (
        # Each was looked up on 2026-11-29; docs/lists.md says what the terms ask.
        _preset(
            "tor_exits", "tor", "https://check.torproject.org/torbulkexitlist", 6,
            "https://gitlab.torproject.org/tpo/tpa/wiki-replica/-/commit/4841b7e7a05971d62c959dd326bbbe96ae61a261",
        ),
        _preset(
            "spamhaus_drop", "malicious", "https://www.spamhaus.org/drop/drop_v4.json", 24,
            "https://www.spamhaus.org/blocklists/drop-fair-use-policy/", format="json", column="cidr",
        ),
        _preset(
            "spamhaus_drop_v6", "malicious", "https://www.spamhaus.org/drop/drop_v6.json", 24,
            "https://www.spamhaus.org/blocklists/drop-fair-use-policy/", format="json", column="cidr",
        ),
        _preset(
            "blocklist_de_ssh", "malicious", "https://lists.blocklist.de/lists/ssh.txt", 12,
            "https://www.blocklist.de/en/export.html",
        ),
        _preset(
            "firehol_level1", "malicious", "https://iplists.firehol.org/files/firehol_level1.netset", 24,
            "https://github.com/firehol/blocklist-ipsets",
        ),
        _preset(
            "threatfox", "malicious", "https://threatfox.abuse.ch/export/csv/ip-port/recent/", 12, _ABUSE_CH,
            format="csv", column=3,
        ),
        _preset(
            "feodo", "malicious", "https://feodotracker.abuse.ch/downloads/ipblocklist.txt", 12, _ABUSE_CH
        ),
        _preset(
            "mass_scanners", "scanner",
            "https://raw.githubusercontent.com/stamparm/maltrail/master/trails/static/mass_scanner.txt", 24,
            "https://github.com/stamparm/maltrail#license",
        ),
    )
}  # fmt: skip
"""Public lists by name: what they say, where they are, how often they are looked at."""


def _preset_names(names: tuple[str, ...]) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(name.lower() for name in names))
    if wanted == ("none",):
        return ()
    for name in wanted:
        if name not in PRESETS:
            raise reject(f"there is no preset {name!r}{did_you_mean(name, tuple(PRESETS))}")
    return wanted


PresetNames = Annotated[tuple[str, ...], BeforeValidator(split_words), AfterValidator(_preset_names)]
"""Names of `PRESETS`, each once; none for `none`."""
