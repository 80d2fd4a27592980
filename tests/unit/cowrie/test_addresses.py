"""Which addresses may be asked about at third parties."""

from __future__ import annotations

import pytest

from cowrie_enrich_dagster.cowrie import address_scope
from cowrie_enrich_dagster.vocabulary import Scope


@pytest.mark.parametrize(
    ("scope", "addresses"),
    [
        (Scope.GLOBAL, "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.0 172.32.0.1 192.0.3.1 223.255.255.255"),
        (Scope.GLOBAL, "2606:4700::1111 2a00:1450::1 2001:470:1:332:: 2001:200::1 ::ffff:8.8.8.8"),
        (Scope.PRIVATE, "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 fd00::1 fc00::1 ::ffff:10.0.0.1"),
        (Scope.LOOPBACK, "127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1"),
        (Scope.RESERVED, "0.0.0.0 169.254.1.1 100.64.0.1 100.127.255.255 192.0.0.8 192.0.2.1 198.51.100.7"),
        (
            Scope.RESERVED,
            "203.0.113.9 198.18.0.1 198.19.255.255 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255",
        ),
        (
            Scope.RESERVED,
            ":: fe80::1 fe80::1%eth0 ff02::1 2001:db8::1 3fff::1 2002:808:808::1 2001::1 64:ff9b::1",
        ),
        (Scope.RESERVED, "100::1 5f00::1 fec0::1 4000::1"),
        (Scope.INVALID, "x 999.1.1.1 1.2.3 1.2.3.4.5 010.1.1.1 1.2.3.4/8 12345 :::: example.org"),
    ],
)
def test_scope(scope: Scope, addresses: str) -> None:
    """Only what is routed on the public internet is global; the rest says why it is not."""
    assert {address: address_scope(address) for address in addresses.split()} == dict.fromkeys(
        addresses.split(), scope
    )


def test_nothing_is_invalid() -> None:
    """An empty address is none."""
    assert address_scope("") is Scope.INVALID
