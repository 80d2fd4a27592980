"""Lists of addresses, proper and hostile ones, with an ETag that is obeyed (RFC 9110, 13.1.2).

`GET /<form>/<first address>-<prefix length>/<percent>` lists that share of the network's addresses (at most
65,536 of them), always the same; `<form>` is `addresses`, `json` (Spamhaus's) or `csv` (ThreatFox's). In its
place `html`, `empty`, `everything` (0.0.0.0/0), `half` (the first half of `addresses`) and `endless` (ten
million lines) are no such lists.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network

from cowrie_enrich_dagster.simulator.model import HeaderStyle
from cowrie_enrich_dagster.simulator.pages._world import draw
from cowrie_enrich_dagster.simulator.pages.base import Page, Reply, Request

MAX_ADDRESSES = 65_536
ENDLESS_LINES = 10_000_000
LAST_MODIFIED = "Mon, 03 Nov 2025 06:00:00 GMT"


class Lists:
    """See `Page`: publishers of lists, whoever asks."""

    name = "lists"
    decoy = ""
    limit_headers: HeaderStyle = "none"

    def keys(self, request: Request) -> tuple[str, ...]:
        return ()

    def refusal(self, request: Request) -> Reply | None:
        return None

    def reply(self, request: Request, keys: tuple[str, ...]) -> Reply:
        form, _, rest = request.path.removeprefix("/").partition("/")
        where, _, percent = rest.partition("/")
        network = _network(where)
        write = _FORMS.get(form)
        if write is None or network is None or not percent.isdecimal():
            return Reply(404, b"no such list", "text/plain")
        body = write(_held(str(network), int(percent)))
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {"ETag": etag, "Last-Modified": LAST_MODIFIED}
        if request.headers.get("If-None-Match") == etag:
            return Reply(304, b"", "text/plain", headers)
        return Reply(200, body, "text/html" if form == "html" else "text/plain", headers)


def _network(where: str) -> IPv4Network | None:
    try:
        network = IPv4Network(where.replace("-", "/"))
    except ValueError:
        return None
    return network if network.num_addresses <= MAX_ADDRESSES else None


@lru_cache(maxsize=16)
def _held(network: str, percent: int) -> tuple[str, ...]:
    chance = draw(b"list", network.encode())
    return tuple(str(address) for address in IPv4Network(network) if chance.random() * 100 < percent)


def _lines(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _addresses(held: Sequence[str]) -> bytes:
    return _lines(["# a simulated list", *held])


def _json(held: Sequence[str]) -> bytes:
    last = f'{{"type":"metadata","records":{len(held)}}}'
    return _lines([*(f'{{"cidr":"{address}/32","sblid":"SBL1"}}' for address in held), last])


def _csv(held: Sequence[str]) -> bytes:
    titles = '# "first_seen_utc","ioc_id","ioc_value","ioc_type"'
    rows = (f'"2025-11-01 00:00:00", "{n}", "{a}:22", "ip:port"' for n, a in enumerate(held))
    return _lines([titles, *rows])


def _endless(held: Sequence[str]) -> bytes:
    return b"11.255.255.255\n" * ENDLESS_LINES


_FORMS: dict[str, Callable[[Sequence[str]], bytes]] = {
    "addresses": _addresses,
    "json": _json,
    "csv": _csv,
    "html": lambda held: b"<!DOCTYPE html><html><body>" + _addresses(held) + b"</body></html>",
    "empty": lambda held: b"# nothing today\n",
    "everything": lambda held: _addresses([*held, "0.0.0.0/0"]),
    "half": lambda held: _addresses(held[: len(held) // 2 - 1])[:-4],
    "endless": _endless,
}

PAGE: Page = Lists()
