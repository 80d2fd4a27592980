"""ENRICH_WEBHOOK_URL: what an operator is told, once each, over real HTTP; what must not come of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from cowrie_enrich_dagster.enrichment import Enricher, notices, notify, webhook
from cowrie_enrich_dagster.enrichment.notices import Kind, note_report, tell_of_check
from cowrie_enrich_dagster.simulator import Fault, Limit, Simulator, TokenBucket
from cowrie_enrich_dagster.vocabulary import Days
from tests.hook import Hook
from tests.logs import routable_ips, write_logs

Open = Callable[..., Enricher]
NOW = datetime.now(timezone.utc)
OLD = Days.parse("2025-11-01")


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def old_logs(environment: dict[str, str], tmp_path: Path) -> None:
    """Nothing but sessions of long ago."""
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "old", routable_ips(3), sessions_each=3))


@pytest.fixture
def today(tmp_path: Path) -> tuple[str, Days]:
    """A log of a quarter of an hour ago, so that nothing is silent; the days it may be of."""
    start = NOW - timedelta(minutes=15)
    return str(write_logs(tmp_path / "fresh", routable_ips(3), start=start)), Days(start.date(), NOW.date())


def test_a_service_that_bans_us_is_told_once(
    open_enricher: Open, simulator: Simulator, hook: Hook, today: tuple[str, Days]
) -> None:
    """An hour's refusal; not again while it lasts; again when it had answered in between."""
    logs, days = today
    ban = Fault(kind="reply", status=429, retry_after_s=3600)
    simulator.set_fault("dshield", ban)
    enricher = open_enricher(COWRIE_LOG_DIR=logs, ENRICH_WEBHOOK_URL=hook.url())
    for _ in range(2):
        enricher.run(days)
    (text,) = hook.texts
    assert text.startswith("A service has banned us\ndshield says that it was asked too often.")
    free(enricher)
    simulator.set_fault("dshield")
    enricher.run(days)
    assert len(hook.taken) == 1
    simulator.set_fault("dshield", ban)
    enricher.purge()
    enricher.run(days)
    assert len(hook.taken) == 2


def free(enricher: Enricher) -> None:
    """As if the hour were over."""
    with enricher.database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE service_limits SET cooldown_until = 0, penalty_until = 0, credential_blocked_until = 0"
        )


def test_a_short_refusal_and_a_used_up_quota_are_told_to_nobody(
    open_enricher: Open, simulator: Simulator, hook: Hook, today: tuple[str, Days]
) -> None:
    """They are everyday: `quota` shows them."""
    logs, days = today
    simulator.set_limit("dshield", Limit(rules=(TokenBucket(per_minute=1, burst=1),)))
    limits = {"DSHIELD_RATE_LIMIT": "1000", "ENRICH_MAX_WAIT_SECONDS": "1"}
    enricher = open_enricher(COWRIE_LOG_DIR=logs, ENRICH_WEBHOOK_URL=hook.url(), **limits)
    assert enricher.run(days).pending
    capped = open_enricher(COWRIE_LOG_DIR=logs, ENRICH_WEBHOOK_URL=hook.url(), DSHIELD_PER_DAY="1", **limits)
    assert capped.run(days).pending
    assert hook.taken == []


def test_a_key_that_is_refused_is_told_once_for_each_key(
    open_enricher: Open, simulator: Simulator, hook: Hook, today: tuple[str, Days]
) -> None:
    """It names the setting; the key itself is nowhere in the message."""
    logs, days = today
    simulator.set_fault("greynoise", Fault(kind="reply", status=401))
    settings = {
        "COWRIE_LOG_DIR": logs,
        "ENRICH_WEBHOOK_URL": hook.url(),
        "ENRICH_SERVICES": "greynoise",
        "GREYNOISE_API_URL": simulator.url("greynoise"),
    }
    for key in ("SekretOne", "SekretOne", "SekretTwo"):
        enricher = open_enricher(**settings, GREYNOISE_API_KEY=key)
        enricher.run(days)
        free(enricher)
    assert len(hook.texts) == 2
    assert all("greynoise refuses GREYNOISE_API_KEY." in text for text in hook.texts)
    assert "Sekret" not in str(hook.taken)


def test_silence_is_told_once_until_a_session_came(
    open_enricher: Open, hook: Hook, today: tuple[str, Days]
) -> None:
    """The logs are old; with a new session it is over, and the next silence is another."""
    logs, days = today
    old = open_enricher(ENRICH_WEBHOOK_URL=hook.url())
    for _ in range(2):
        old.run(OLD)
    (text,) = hook.texts
    assert text.startswith("No session for 26 hours\nThe newest one began at 2025-11-01 ")
    open_enricher(COWRIE_LOG_DIR=logs, ENRICH_WEBHOOK_URL=hook.url()).run(days)
    with old.database.write() as connection:
        connection.exec_driver_sql(f"DELETE FROM sessions WHERE day >= '{days.first}'")
    notify.tell(old)
    assert len(hook.texts) == 2


def test_a_report_is_told_when_its_day_is_over_and_news(open_enricher: Open, hook: Hook) -> None:
    """Once, however often the page is made; not of a day under way, nor of one long past."""
    told = open_enricher(ENRICH_WEBHOOK_URL=hook.url()).notices
    day = date(2026, 1, 5)
    for today in (day, day + timedelta(days=1), day + timedelta(days=2), day + timedelta(days=8)):
        note_report(told, day, today, f"written on {today}")
        told.deliver()
    assert hook.texts == [f"The report on the day\n2026-01-05\nwritten on {day + timedelta(days=1)}"]


def test_a_failed_check_is_told_until_it_passed(open_enricher: Open, hook: Hook) -> None:
    """Once for its days; it may fail again later."""
    told = open_enricher(ENRICH_WEBHOOK_URL=hook.url()).notices
    for passed in (False, False, True, False):
        tell_of_check(told, "every_session_has_its_row", "2026-01-05", passed=passed, figures="sessions 3")
    assert hook.texts == ["A check has failed\nevery_session_has_its_row, 2026-01-05: sessions 3"] * 2


@pytest.mark.parametrize("fault", ["500", "404", "302", "hang", "gone", "no such host"])
def test_a_run_is_no_worse_for_a_webhook_that_fails(
    open_enricher: Open,
    hook: Hook,
    fault: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends as it would, within the webhook's deadline, with a warning that does not tell the URL."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(notices, "DEADLINE_S", 2.0)
    url = hook.url()
    if fault.isdigit():
        hook.status = int(fault)
    elif fault == "hang":
        hook.hangs = True
    else:
        url = {"gone": "http://127.0.0.1:1/services/SecretPath"}.get(fault, "http://no.invalid/a/SecretPath")
    quiet = open_enricher().run(OLD)
    enricher = open_enricher(ENRICH_WEBHOOK_URL=url)
    started = time.monotonic()
    report = enricher.run(OLD)
    assert time.monotonic() - started < quiet.elapsed_s + 4
    assert (report.status, report.sessions) == (quiet.status, quiet.sessions)
    (said,) = [line for line in caplog.messages if "ENRICH_WEBHOOK_URL" in line]
    assert said.startswith("ENRICH_WEBHOOK_URL: a notice (silence) was not taken: ")
    assert "SecretPath" not in caplog.text
    assert hook.taken == []


def test_what_was_not_taken_is_sent_at_the_next_occasion_for_a_day(
    open_enricher: Open, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whichever process has one, after the minute in which the first might still be at it."""
    first = open_enricher(ENRICH_WEBHOOK_URL=hook.url()).notices
    hook.status = 503
    first.put(Kind.REPORT, "2026-01-05", "the text")
    first.deliver()
    hook.status = 200
    second = open_enricher(ENRICH_WEBHOOK_URL=hook.url())
    second.notices.deliver()
    assert hook.taken == []
    forward(second, "claimed_until", "2020-01-01 00:00:00+00:00")
    second.notices.deliver()
    assert hook.texts == ["The report on the day\nthe text"]
    second.notices.put(Kind.REPORT, "2026-01-06", "of long ago")
    forward(second, "noticed_at", "2020-01-01 00:00:00+00:00")
    second.notices.deliver()
    assert len(hook.taken) == 1


def forward(enricher: Enricher, column: str, moment: str) -> None:
    """Set a moment of what is not sent yet."""
    with enricher.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE notices SET {column} = '{moment}' WHERE sent_at IS NULL")


def test_workers_that_notice_the_same_at_once_tell_it_once(open_enricher: Open, hook: Hook) -> None:
    """Whoever is first claims it."""
    workers = [open_enricher(ENRICH_WEBHOOK_URL=hook.url()) for _ in range(6)]

    def work(enricher: Enricher) -> None:
        for number in range(3):
            enricher.notices.put(Kind.REPORT, f"day {number}", f"text {number}")
        enricher.notices.deliver()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, workers))
    assert sorted(hook.texts) == [f"The report on the day\ntext {number}" for number in range(3)]


def test_without_a_webhook_nothing_is_noticed(open_enricher: Open) -> None:
    """Who sets it later is told of what is then, not of the past."""
    enricher = open_enricher()
    enricher.run(OLD)
    with enricher.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM notices").scalar_one() == 0


# --- the message


HOSTILE = "<!channel> <http://evil|ok> @all &amp; \x1b[31m \u202eexe *b* " + "x" * 5000


def test_hostile_text_in_slacks_form(hook: Hook) -> None:
    """It mentions nobody, links nowhere, turns nothing around, and is clipped."""
    assert webhook.post(hook.url(), "title <b>", HOSTILE, 5) is None
    ((path, body),) = hook.taken
    assert path == "/services/T0/B0/SecretPath"
    assert body["mrkdwn"] is body["unfurl_links"] is body["unfurl_media"] is False
    text = body["text"]
    assert text.startswith("title &lt;b&gt;\n&lt;!channel&gt; &lt;http://evil|ok&gt; @\u200ball &amp;amp; ")
    assert not set("<>\x1b\u202e").intersection(text)
    assert len(text) < 2300
    assert text.endswith("x…")


def test_hostile_text_in_ntfys_form(hook: Hook) -> None:
    """As text: ntfy formats nothing unless it is asked to. Its path names the topic, its query stays."""
    assert webhook.post(hook.url("/my-topic?auth=Sekret"), "title", HOSTILE, 5) is None
    ((path, body),) = hook.taken
    assert path == "/?auth=Sekret"
    assert body.keys() == {"topic", "title", "message"}
    assert (body["topic"], body["title"]) == ("my-topic", "title")
    assert body["message"].startswith("<!channel> <http://evil|ok> @all &amp; \\x1b[31m \\u202eexe *b* x")
    assert len(body["message"]) == webhook.MAX_TEXT
