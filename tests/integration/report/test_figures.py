"""The figures of a report are those of the logs, counted here once more by a few lines of their own."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, fields, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from cowrie_enrich_dagster.cowrie.fields import TEXT_CHARS
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.report.cards import address_card, session_cards
from cowrie_enrich_dagster.report.figures import figures_of, outline_of
from cowrie_enrich_dagster.report.page import render_page
from cowrie_enrich_dagster.report.words import headline, known
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.vocabulary import Days
from tests.conftest import SAMPLE_DAYS, SAMPLE_LOGS
from tests.integration.report.conftest import settings_of


@dataclass
class Logged:
    """One session as the lines of the logs have it."""

    start: str
    source: str
    events: list[dict[str, Any]] = field(default_factory=list)

    def count(self, *kinds: str) -> int:
        return sum(event["eventid"] in kinds for event in self.events)


@cache
def logged() -> dict[tuple[str, str], Logged]:
    """Every session of the sample logs."""
    events = defaultdict(list)
    for path in SAMPLE_LOGS.rglob("*.gz"):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            event = json.loads(line)
            events[event["sensor"], event["session"]].append(event)
    return {
        key: Logged(min(event["timestamp"] for event in of_session), of_session[0]["src_ip"], of_session)
        for key, of_session in events.items()
    }


def of_days(days: Days) -> list[Logged]:
    """The sessions that began on the days."""
    return [one for one in logged().values() if str(days.first) <= one.start[:10] <= str(days.last)]


FAILED, SUCCEEDED = "cowrie.login.failed", "cowrie.login.success"
FILES = ("cowrie.session.file_download", "cowrie.session.file_upload")


@pytest.mark.parametrize("span", ["2025-11-01..2025-11-03", "2025-11-02", "2025-11-03"])
def test_the_totals_are_those_of_the_logs(enriched: Enricher, span: str) -> None:
    """Sessions, addresses, logins, commands and files of the days, and of those before them."""
    days = Days.parse(span)
    figures, sessions = figures_of(enriched, days), of_days(days)
    totals = figures.totals
    came_in = [one for one in sessions if one.count(SUCCEEDED)]
    assert (totals.sessions, totals.sources) == (len(sessions), len({one.source for one in sessions}))
    assert (totals.sessions_in, totals.sources_in) == (len(came_in), len({one.source for one in came_in}))
    assert totals.logins == sum(one.count(FAILED, SUCCEEDED) for one in sessions)
    assert totals.logins_accepted == sum(one.count(SUCCEEDED) for one in sessions)
    assert totals.commands == sum(one.count("cowrie.command.input") for one in sessions)
    assert totals.sessions_with_commands == sum(bool(one.count("cowrie.command.input")) for one in sessions)
    assert totals.transfers == sum(one.count(*FILES) for one in sessions)
    assert totals.files == len(
        hashes := {e["shasum"] for one in sessions for e in one.events if "shasum" in e}
    )
    assert hashes
    assert totals.tunnels == sum(one.count("cowrie.direct-tcpip.request") for one in sessions)
    earlier = of_days(figures.days_before)
    assert (figures.before.sessions if figures.before else 0) == len(earlier)


def test_the_timeline_and_the_lists_are_those_of_the_logs(enriched: Enricher) -> None:
    """By hour, by credential, by target; and what is not shown is counted."""
    figures, sessions = figures_of(enriched, SAMPLE_DAYS), of_days(SAMPLE_DAYS)
    by_hour = Counter(one.start[:13] for one in sessions)
    assert {f"{s.start:%Y-%m-%dT%H}": s.sessions for s in figures.timeline if s.sessions} == by_hour
    assert len(figures.timeline) == 72
    events = [event for one in sessions for event in one.events]
    logins = [event for event in events if event["eventid"] in (FAILED, SUCCEEDED)]
    pairs = Counter((event["username"], event["password"]) for event in logins)
    shown = {(pair.username, pair.password): pair.attempts for pair in figures.credentials.shown}
    assert shown == {pair: pairs[pair] for pair in shown}
    assert min(shown.values()) >= max(number for pair, number in pairs.items() if pair not in shown)
    assert figures.credentials.left_out == len(pairs) - len(shown)
    assert figures.usernames.total == len({username for username, _ in pairs})
    asked = [event for event in events if event["eventid"] == "cowrie.direct-tcpip.request"]
    targets = Counter((event["dst_ip"], event["dst_port"]) for event in asked)
    assert {(target.host, target.port): target.requests for target in figures.tunnels.shown} == targets
    files = {event["shasum"] for event in events if "shasum" in event}
    assert {file.sha256 for file in figures.files.shown} <= files
    assert figures.files.total == len(files)


def test_what_sums_up_to_all_does(enriched: Enricher) -> None:
    """Networks, countries and since when a source was known share all sessions among them."""
    figures = figures_of(enriched, SAMPLE_DAYS)
    assert sum(row.sessions for row in figures.known_since) == figures.totals.sessions == 1400
    assert figures.countries.left_out == 0 or sum(row.sessions for row in figures.countries.shown) < 1400
    assert figures.sources.total == figures.totals.sources
    (gap,) = figures.gaps
    assert (gap.service, gap.keys, gap.answered, gap.missing) == ("dshield", 174, 174, 0)


def test_only_what_no_earlier_day_had_is_new(enriched: Enricher) -> None:
    """On the third day; on the first there is nothing to compare with, which is said."""
    third = figures_of(enriched, Days.parse("2025-11-03"))
    earlier, later = of_days(Days.parse("2025-11-01..2025-11-02")), of_days(Days.parse("2025-11-03"))

    def hashes(sessions: list[Logged]) -> set[str]:
        return {event["shasum"] for one in sessions for event in one.events if "shasum" in event}

    assert third.news.files is not None
    assert {file.value for file in third.news.files.shown} == hashes(later) - hashes(earlier)
    marked = {file.sha256 for file in third.files.shown if file.is_new}
    assert marked == hashes(later) - hashes(earlier)
    new = {source.address for source in third.sources.shown if source.is_new}
    assert new == {one.source for one in later} - {one.source for one in earlier} & new
    first = figures_of(enriched, Days.parse("2025-11-01"))
    assert (first.news.files, first.news.campaigns) == (None, None)
    assert "nothing can be called new" in " ".join(headline(first))


def test_campaigns_are_new_on_the_day_of_their_first_session(enriched: Enricher) -> None:
    """Told in the list of what is new, in the first sentences, and marked in the list of campaigns."""
    second = figures_of(enriched, Days.parse("2025-11-02"))
    with enriched.database.read() as connection:
        rows = connection.execute(text("SELECT campaign_id, session_id FROM session_campaigns")).all()
    starts = {session: one.start[:10] for (_, session), one in logged().items()}
    began: dict[str, str] = {}
    for campaign, session in rows:
        began[campaign] = min(starts[session], began.get(campaign, "9"))
    new = {campaign for campaign, day in began.items() if day == "2025-11-02"}
    assert new
    assert second.news.campaigns is not None
    assert {campaign.value for campaign in second.news.campaigns.shown} == new
    assert {one.campaign_id for one in second.campaigns.shown if one.is_new} <= new
    assert f"Never seen before: {len(new)} campaigns" in " ".join(headline(second))


def test_one_is_no_plural_on_the_page(enriched: Enricher) -> None:
    """Whatever is counted there once: days, countries that are left out, addresses."""
    page = re.sub("<[^>]*>", "", render_page(figures_of(enriched, Days.parse("2025-11-02"))))
    many = "days|sessions|addresses|files|lines|scripts|networks|countries|campaigns|targets|pairs|commands"
    assert re.findall(rf"(?<![\d,.])1 (?:\w+ )?(?:{many})\b", page) == []
    assert known("1 days after") == "1 day after"


@pytest.mark.parametrize("span", ["2025-11-02", "2025-11-01..2025-11-03", "2024-01-01"])
def test_the_first_sentences_are_those_of_the_whole_report(enriched: Enricher, span: str) -> None:
    """What is computed for them alone is equal, field by field; so are the sentences."""
    days = Days.parse(span)
    outline, figures = outline_of(enriched, days), figures_of(enriched, days)
    moving = {"made_at", "gaps"}
    for name in {one.name for one in fields(outline)} - moving:
        assert getattr(outline, name) == getattr(figures, name), name
    still = [replace(gap, as_of=outline.made_at, done_at=None) for gap in outline.gaps]
    assert still == [replace(gap, as_of=outline.made_at, done_at=None) for gap in figures.gaps]
    assert headline(outline) == headline(figures)


def test_campaigns_are_told(enriched: Enricher) -> None:
    """Those that have sessions on the days, by the sources they have there."""
    figures = figures_of(enriched, SAMPLE_DAYS)
    assert figures.days_without_campaigns == 0
    assert figures.campaigns.total == 14
    sources = [campaign.sources for campaign in figures.campaigns.shown]
    assert sources == sorted(sources, reverse=True)
    assert all(campaign.artefacts.shown for campaign in figures.campaigns.shown)


def test_days_without_a_session_say_so(enriched: Enricher) -> None:
    """And from when to when there are any."""
    (sentence,) = headline(figures_of(enriched, Days.parse("2025-12-24")))
    assert sentence == (
        "No session is on record for 2025-12-24: there are records from 2025-11-01 to 2025-11-03."
    )


def test_what_was_not_asked_yet_is_a_gap_with_an_end(
    database: Database, database_url: str, sample_logs: Path, tmp_path: Path
) -> None:
    """Rows stand before anything is asked: then the report tells how many are missing, and until when."""
    given = settings_of(tmp_path, database_url, sample_logs, DSHIELD_RATE_LIMIT="1")
    with Enricher(load_settings(given, cwd=tmp_path)) as enricher:
        enricher.ingest(SAMPLE_DAYS)
        enricher.summarise_addresses(SAMPLE_DAYS)
        enricher.plan_and_open(SAMPLE_DAYS)
        enricher.enrich(SAMPLE_DAYS)
        figures = figures_of(enricher, SAMPLE_DAYS)
    (gap,) = figures.gaps
    assert (gap.missing, gap.statuses, gap.backlog) == (174, {"deferred": 174}, 174)
    assert gap.done_at is not None
    assert 150 < (gap.done_at - figures.made_at).total_seconds() < 200
    assert "what dshield says of 174 of 174 addresses (by " in headline(figures)[-1]


def test_the_card_of_an_address_is_what_the_logs_have_of_it(enriched: Enricher) -> None:
    """Its sessions, logins, lines and files; what DShield says, as of when."""
    busiest, number = Counter(one.source for one in logged().values()).most_common(1)[0]
    card = address_card(enriched.database, busiest)
    assert card is not None
    sessions = [one for one in logged().values() if one.source == busiest]
    events = [event for one in sessions for event in one.events]
    logins = Counter(
        (event["username"][:TEXT_CHARS], event["password"][:TEXT_CHARS], event["eventid"] == SUCCEEDED)
        for event in events
        if event["eventid"] in (FAILED, SUCCEEDED)
    )
    told = {(one["username"], one["password"], one["success"]): one["attempts"] for one in card.logins}
    assert card.sessions == number
    assert told == dict(logins)
    lines = {event["input"] for event in events if event["eventid"] == "cowrie.command.input"}
    assert set(card.command_lines) == lines
    assert {file["sha256"] for file in card.files} == {e["shasum"] for e in events if "shasum" in e}
    assert [str(day) for day in card.days] == sorted({one.start[:10] for one in sessions})
    assert card.services["dshield"].status == "found"
    assert card.services["dshield"].facts["as_number"] == card.facts["as_number"]  # type: ignore[index]
    assert set(card.as_dict()) == {
        *("address", "scope", "first_seen", "last_seen", "days", "sessions", "sensors", "logins"),
        *("command_lines", "files", "tunnels", "campaigns", "facts", "services"),
    }


def test_cards_tell_the_campaigns(enriched: Enricher) -> None:
    """A session its own, an address those of its sessions, with figures of the whole campaign."""
    with enriched.database.read() as connection:
        member = connection.execute(
            text("SELECT session_id, src_ip, campaign_id FROM session_campaigns ORDER BY session_id LIMIT 1")
        ).one()
    (card,) = session_cards(enriched.database, member.session_id)
    (told,) = card.campaigns
    assert (told["campaign_id"], told["sessions"]) == (member.campaign_id, 1)
    of_address = address_card(enriched.database, member.src_ip)
    assert of_address is not None
    (own,) = (one for one in of_address.campaigns if one["campaign_id"] == member.campaign_id)
    assert 1 <= own["sessions"] <= of_address.sessions
    shared = ("label", "sources", "first_seen", "last_seen")
    assert {name: own[name] for name in shared} == {name: told[name] for name in shared}


def test_an_id_used_on_two_sensors_is_two_cards(enriched: Enricher) -> None:
    """Each with its own address and lines, in order of time."""
    (sensor, identity), one = next(item for item in logged().items() if item[1].count("cowrie.command.input"))
    other = "other-sensor"
    with enriched.database.write() as connection:
        connection.execute(
            text("UPDATE enriched_sessions SET sensor = :sensor, session_id = :id WHERE session_id = :other"),
            {"sensor": other, "id": identity, "other": next(i for s, i in logged() if i != identity)},
        )
    cards = session_cards(enriched.database, identity)
    assert {card.columns["sensor"] for card in cards} == {sensor, other}
    own = next(card for card in cards if card.columns["sensor"] == sensor)
    assert own.columns["source_ip"] == one.source
    inputs = [event["input"] for event in one.events if event["eventid"] == "cowrie.command.input"]
    assert own.as_dict()["command_lines"] == inputs
    assert session_cards(enriched.database, "no such id") == []
    assert address_card(enriched.database, "9.9.9.9") is None


def test_a_long_range_is_told_by_day(enriched: Enricher) -> None:
    """A slot for each day, those without sessions too."""
    timeline = figures_of(enriched, Days(date(2025, 10, 20), date(2025, 11, 10))).timeline
    assert [slot.sessions for slot in timeline if slot.sessions] == [447, 478, 475]
    assert len(timeline) == 22
