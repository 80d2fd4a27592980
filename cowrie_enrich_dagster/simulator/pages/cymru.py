"""Team Cymru's bulk whois: a list of addresses in, a line for each origin out.

Format: https://www.team-cymru.com/ip-asn-mapping. Served over TCP (`simulator.whois`), not HTTP.
"""

from __future__ import annotations

from cowrie_enrich_dagster.simulator.model import HeaderStyle
from cowrie_enrich_dagster.simulator.pages._world import announcement, draw, parse_address
from cowrie_enrich_dagster.simulator.pages.base import Page, Reply, Request

METHOD = "WHOIS"
"""What takes the place of the HTTP method in a request that came over whois; its body is the query."""

BANNER = "Bulk mode; whois.cymru.com [2025-11-03 12:00:00 +0000]"


class Cymru:
    """See `Page`. Some addresses nobody announces."""

    name = "cymru"
    decoy = "192.0.2.1"
    limit_headers: HeaderStyle = "none"

    def keys(self, request: Request) -> tuple[str, ...]:
        lines = request.body.decode("ascii", "replace").split()
        return tuple(line for line in lines if line not in ("begin", "verbose", "end"))

    def refusal(self, request: Request) -> Reply | None:
        """HTTP is not spoken here."""
        return None if request.method == METHOD else Reply(404, b"whois only", "text/plain")

    def reply(self, request: Request, keys: tuple[str, ...]) -> Reply:
        lines = [BANNER, *(_line(number, key) for number, key in enumerate(keys, start=1))]
        return Reply(200, "".join(f"{line}\n" for line in lines).encode(), "text/plain")


def _line(number: int, key: str) -> str:
    address = parse_address(key)
    if address is None:
        return f"Error: no ASN or IP match on line {number}."
    if draw(b"cymru", address.packed).random() < 0.03:
        return f"NA      | {key:<16} | NA                  | NA | other    |            | NA"
    by = announcement(address)
    name = f"{by.name}, {by.country}"
    return f"{by.number:<7} | {key:<16} | {by.network:<19} | {by.country} | other    | 1998-09-25 | {name}"


PAGE: Page = Cymru()
