"""Networks as numbers: read from text, spelt as text, and which of them are routed on the internet."""

from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network

Network = tuple[int, int, int]
"""IP version (4 or 6), prefix length, first address as a number (host bits are 0)."""

BITS = {4: 32, 6: 128}
_MASKS = {
    version: [((1 << length) - 1) << (bits - length) for length in range(bits + 1)]
    for version, bits in BITS.items()
}


def parse_network(word: str) -> Network | None:
    """An address or CIDR network, with a port behind it or not; None for anything else.

    IPv4 in four decimal parts (no shorthand, no leading zeros), IPv6 in any spelling without a zone; an
    IPv4-mapped address is the IPv4 one. Host bits beside a prefix length are cleared.
    """
    text, slash, length_text = word.partition("/")
    if ":" in text:
        text = _without_port(text)
    version = 6 if ":" in text else 4
    try:
        packed = socket.inet_pton(socket.AF_INET6 if version == 6 else socket.AF_INET, text)
    except (OSError, ValueError):  # ValueError: a NUL, or what cannot be encoded
        return None
    length = bits = BITS[version]
    if slash:
        if not (length_text.isascii() and length_text.isdigit() and len(length_text) <= 3):
            return None
        length = int(length_text)
        if length > bits:
            return None
    if version == 6 and packed[:12] == _MAPPED and length >= 96:
        version, length, packed = 4, length - 96, packed[12:]
    return version, length, int.from_bytes(packed, "big") & _MASKS[version][length]


_MAPPED = b"\0" * 10 + b"\xff\xff"


def _without_port(text: str) -> str:
    """`192.0.2.1:443` and `[2001:db8::1]:443` without the port."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def as_text(network: Network) -> str:
    """In CIDR notation, single addresses too (`192.0.2.1/32`); IPv6 compressed."""
    version, length, first = network
    packed = first.to_bytes(BITS[version] // 8, "big")
    if version == 4:
        return f"{packed[0]}.{packed[1]}.{packed[2]}.{packed[3]}/{length}"
    return f"{ip_address(packed).compressed}/{length}"


def is_unroutable(network: Network) -> bool:
    """Whether all of it is outside what is routed on the internet (IANA's special-purpose registries)."""
    version, length, first = network
    if version == 6:
        return length >= 3 and first >> 125 != _GLOBAL_UNICAST
    return any(length >= of and first & mask == base for of, base, mask in _SPECIAL)


_GLOBAL_UNICAST = 0b001  # 2000::/3
_SPECIAL = tuple(
    (network.prefixlen, int(network.network_address), _MASKS[4][network.prefixlen])
    for network in map(
        ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "224.0.0.0/3"),
        ),
    )
)
"""https://www.iana.org/assignments/iana-ipv4-special-registry, and multicast and reserved above 224.0.0.0."""
