"""Attackers' addresses: one spelling for each, and whether it may be sent to third parties."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from socket import AF_INET, inet_pton

from cowrie_enrich_dagster.vocabulary import Scope

# IANA special-purpose address registries for IPv4 and IPv6. Written out because `ipaddress.is_global` differs
# between the Python releases we support. Exceptions inside these blocks that IANA calls globally reachable
# (anycast services, Teredo, 6to4) never are an attacker's own address, so the whole blocks stay.
_PRIVATE = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
_LOOPBACK = tuple(map(ip_network, ("127.0.0.0/8", "::1/128")))
_RESERVED = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "100.64.0.0/10",
            "169.254.0.0/16",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",
            "2001::/23",
            "2001:db8::/32",
            "2002::/16",
            "3fff::/20",
        ),
    )
)
_BLOCKS = {
    version: sorted(
        (int(network.network_address), int(network.broadcast_address), scope)
        for scope, networks in (
            (Scope.PRIVATE, _PRIVATE),
            (Scope.LOOPBACK, _LOOPBACK),
            (Scope.RESERVED, _RESERVED),
        )
        for network in networks
        if network.version == version
    )
    for version in (4, 6)
}
"""By version the first and last address of each block, in order; no two overlap."""
_IPV6_UNICAST = (0x2000 << 112, (0x4000 << 112) - 1)
"""2000::/3, the only block of IPv6 that IANA hands out; outside it nothing is routed."""


@lru_cache(maxsize=65536)
def normalised_address(text: str) -> str | None:
    """The one spelling of an address: IPv6 compressed, IPv4-mapped as IPv4, no zone; None if it is none."""
    address = _address(text)
    return None if address is None else str(address)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def address_scope(ip: str) -> Scope:
    """Whether `ip` may be asked about at third parties: `GLOBAL`, or the reason why never.

    What is not certainly routed on the public internet (link-local, multicast, documentation, carrier NAT,
    unassigned IPv6) is `RESERVED`. Which addresses are the operator's `OWN` is not known here.
    """
    try:  # nearly all are IPv4 in the one spelling: a tenth of what it takes to make an object of each
        number, version = int.from_bytes(inet_pton(AF_INET, ip), "big"), 4
    except (OSError, ValueError):
        address = _address(ip)
        if address is None:
            return Scope.INVALID
        number, version = int(address), address.version
    blocks = _BLOCKS[version]
    place = bisect_right(blocks, number, key=lambda block: block[0]) - 1
    if place >= 0 and number <= blocks[place][1]:
        return blocks[place][2]
    if version == 6 and not _IPV6_UNICAST[0] <= number <= _IPV6_UNICAST[1]:
        return Scope.RESERVED
    return Scope.GLOBAL
