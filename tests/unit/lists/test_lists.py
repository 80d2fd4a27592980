"""Lists of networks: what is read, what is refused and why, and which networks hold an address."""

from __future__ import annotations

import random
from ipaddress import ip_address, ip_network

import pytest

from cowrie_enrich_dagster.services.lists import (
    ListForm,
    ListRefused,
    Network,
    as_text,
    parse_network,
    read_list,
    refuse_shrunken,
)
from cowrie_enrich_dagster.services.lists import reading as reading_module
from cowrie_enrich_dagster.services.lists.matching import NetworkTable, Packer

ADDRESSES = ListForm()


def texts(body: str | bytes, form: ListForm = ADDRESSES) -> list[str]:
    data = body.encode() if isinstance(body, str) else body
    return sorted(as_text(network) for network in read_list(data, form).networks)


def test_an_address_or_network_first_on_each_line_is_an_entry() -> None:
    """Comments, blank lines, CRLF, a byte order mark and what follows the first word do not matter."""
    body = (
        b"\xef\xbb\xbf# Tor exits\r\n11.0.0.1\r\n\r\n; old\n11.0.1.7/24 ; SBL1\n11.0.2.1 # Shodan, Inc.\n"
        b"2001:DB8::1\n11.0.3.1,seen\n2A00:1450::/32"
    )
    read = read_list(body, ADDRESSES)
    assert sorted(as_text(one) for one in read.networks) == [
        "11.0.0.1/32", "11.0.1.0/24", "11.0.2.1/32", "11.0.3.1/32", "2001:db8::1/128", "2a00:1450::/32",
    ]  # fmt: skip
    assert (read.bad_lines, read.unroutable) == (0, 0)


def test_json_lines_are_read_by_key_and_lines_about_the_list_are_none() -> None:
    """The last line of Spamhaus's DROP has no network."""
    body = (
        '{"cidr":"11.10.16.0/20","sblid":"SBL1","rir":"apnic"}\n{"cidr":"11.4.0.0/17"}\n'
        '{"type":"metadata","records":2}\nnot json\n'
    )
    read = read_list(body.encode(), ListForm("json", "cidr"))
    assert sorted(as_text(one) for one in read.networks) == ["11.10.16.0/20", "11.4.0.0/17"]
    assert read.bad_lines == 1


def test_csv_is_read_by_title_or_number_with_ports_cut_off() -> None:
    """ThreatFox quotes every cell and has its titles in a comment."""
    rows = '"2025-11-01 10:00:00", "17", "11.0.0.1:443", "ip:port"\n"x", "18", "[2a00::5]:22", "ip:port"\n'
    commented = '# "first_seen_utc","ioc_id","ioc_value","ioc_type"\n' + rows
    assert texts(commented, ListForm("csv", 3)) == ["11.0.0.1/32", "2a00::5/128"]
    assert texts(commented, ListForm("csv", "ioc_value")) == ["11.0.0.1/32", "2a00::5/128"]
    assert texts("when,address\n1,11.0.0.9\n", ListForm("csv", "address")) == ["11.0.0.9/32"]
    with pytest.raises(ListRefused, match="no column is called 'ip'"):
        read_list(b"a,b\n1,2\n", ListForm("csv", "ip"))


def test_titles_and_keys_may_be_in_any_language() -> None:
    """Texts are UTF-8; what is not does no harm beside the addresses."""
    body = "numéro,adresse à bloquer\n1,11.0.0.9\n".encode() + b"\xe9t\xe9,11.0.0.10\n"
    assert texts(body, ListForm("csv", "adresse à bloquer")) == ["11.0.0.10/32", "11.0.0.9/32"]
    assert texts('{"адрес": "11.0.0.9"}\n', ListForm("json", "адрес")) == ["11.0.0.9/32"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<!DOCTYPE html><html>11.0.0.1</html>", "an HTML or XML page"),
        (b"\xef\xbb\xbf\n <html>", "an HTML or XML page"),
        (b"", "it is empty"),
        (b"# nothing today\n", "it is empty"),
        (b"10.0.0.0/8\n192.168.0.1\n", "none of its entries is routed"),
        (b"11.0.0.1\n0.0.0.0/0\n", "0.0.0.0/0, wider than /8"),
        (b"12.0.0.0/7\n", "wider than /8"),
        (b"::/0\n", "wider than /16"),
        (b"2000::/3\n", "wider than /16"),
        (b"\n".join(b"%d.0.0.0/8" % n for n in range(11, 100)), "of all IPv4 addresses"),
        (b"\n".join(b"%x::/16" % n for n in range(0x2000, 0x2500)), "of all IPv6 addresses"),
        (b"hello world\n" * 5 + b"11.0.0.1\n", "5 lines are no entry, 1 are"),
        (b"11.0.0.1\n" + b"x" * 100_000, None),
    ],
)
def test_what_is_no_list_is_refused_with_the_reason(body: bytes, why: str | None) -> None:
    """Pages, nothing, and what would match everybody; a long line alone is only counted."""
    if why is None:
        assert read_list(body, ADDRESSES).bad_lines == 1
        return
    with pytest.raises(ListRefused, match=why):
        read_list(body, ADDRESSES)


def test_bogons_are_left_out_however_wide() -> None:
    """FireHOL's level 1 has 224.0.0.0/3 and 0.0.0.0/8 in it: nobody there can come to us."""
    read = read_list(b"0.0.0.0/8\n10.0.0.0/8\n224.0.0.0/3\nfe80::/10\n11.1.0.0/16\n", ADDRESSES)
    assert [as_text(one) for one in read.networks] == ["11.1.0.0/16"]
    assert read.unroutable == 4
    own = read_list(b"10.0.0.0/8\n", ADDRESSES, keeps_unroutable=True)
    assert [as_text(one) for one in own.networks] == ["10.0.0.0/8"]
    wide = read_list(b"fd00::/8\n", ADDRESSES, keeps_unroutable=True)
    assert [as_text(one) for one in wide.networks] == ["fd00::/8"]


def test_too_many_entries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a list goes on, no more is held than the bound."""
    monkeypatch.setattr(reading_module, "MAX_ENTRIES", 100)
    with pytest.raises(ListRefused, match="more than 100 entries"):
        read_list("\n".join(f"11.0.{n >> 8}.{n & 255}" for n in range(1000)).encode(), ADDRESSES)
    with pytest.raises(ListRefused, match="more than 100 lines are no entry"):
        read_list(b"a\n" * 1000, ADDRESSES)


def test_half_a_list_is_refused_and_a_small_one_may_shrink() -> None:
    """Less than half of the last good one was cut off; five entries may become two."""
    with pytest.raises(ListRefused, match="49 entries, where the last good one had 100"):
        refuse_shrunken(49, 100)
    refuse_shrunken(50, 100)
    refuse_shrunken(2, 5)


@pytest.mark.parametrize(
    "word",
    ["1.2.3", "01.2.3.4", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/-1", "::1%eth0", "1.2.3.4/٣", "::/129", "\0"],
)  # fmt: skip
def test_what_is_no_network_is_none(word: str) -> None:
    """No shorthand, no octal, no zone."""
    assert parse_network(word) is None


def packed(networks: list[Network], strange: dict[int, str]) -> NetworkTable:
    """From texts, in lots of any size; in the place of some stands what is no network."""
    words = [strange.get(row, as_text(network)) for row, network in enumerate(networks)]
    packer, chance = Packer(), random.Random(7)
    while words:
        size = chance.choice((1, 2, 7, 50))
        packer.add(" ".join(words[:size]))
        words = words[size:]
    return NetworkTable(packer.packed())


@pytest.mark.parametrize(
    "strange", [{}, {3: "x", 40: "1.2.3.4/33", 41: "1.2.3/8", 90: "1.2.3.256/24", 91: "::/129"}]
)
def test_networks_packed_from_texts_are_the_same(strange: dict[int, str]) -> None:
    """Of what is no network there is no row; the others keep their numbers."""
    chance = random.Random(19)
    networks = [
        (4, length, (0x0B000000 | chance.getrandbits(10) << 4) >> (32 - length) << (32 - length))
        for length in (8, 20, 24, 28, 31, 32)
        for _ in range(30)
    ] + [
        (6, length, (0x2A00 << 112 | chance.getrandbits(6) << 62) >> (128 - length) << (128 - length))
        for length in (32, 64, 65, 128)
        for _ in range(20)
    ]
    for order in (networks, chance.sample(networks, len(networks))):
        asked = [str(ip_address(0x0B000000 | chance.getrandbits(14))) for _ in range(100)]
        asked += [str(ip_address(0x2A00 << 112 | chance.getrandbits(6) << 62)) for _ in range(50)]
        found = NetworkTable.of(order).rows_of(asked)
        left = {text: [row for row in rows if row not in strange] for text, rows in found.items()}
        assert packed(order, strange).rows_of(asked) == {text: rows for text, rows in left.items() if rows}


def test_every_row_that_holds_an_address_is_found_as_the_standard_library_says() -> None:
    """Nested networks, the same one twice, both versions, any order: compared with `ipaddress`."""
    chance = random.Random(18)
    networks = [
        (4, length, (0x0B000000 | chance.getrandbits(10) << 4) >> (32 - length) << (32 - length))
        for length in (8, 20, 24, 28, 31, 32)
        for _ in range(60)
    ] + [
        (6, length, (0x2A00 << 112 | chance.getrandbits(6) << 62) >> (128 - length) << (128 - length))
        for length in (16, 32, 62, 64, 65, 96, 128)
        for _ in range(40)
    ]
    networks += networks[:20]
    chance.shuffle(networks)
    asked = [str(ip_address(0x0B000000 | chance.getrandbits(14))) for _ in range(150)]
    asked += [str(ip_address(0x2A00 << 112 | chance.getrandbits(6) << 62)) for _ in range(80)]
    asked += ["no address", "2001:db8::1", "99.0.0.1"]
    found = NetworkTable.of(networks).rows_of(asked)
    standard = [ip_network(as_text(network)) for network in networks]
    for text in asked:
        try:
            address = ip_address(text)
        except ValueError:
            assert text not in found
            continue
        held = [row for row, network in enumerate(standard) if address in network]
        assert found.get(text, []) == held
    assert NetworkTable.of([]).rows_of(asked) == {}
