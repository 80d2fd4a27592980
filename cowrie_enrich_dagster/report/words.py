"""The figures in words: days, changes, and the few sentences that say it all."""

from __future__ import annotations

from datetime import timedelta

from cowrie_enrich_dagster.readable import counted, listed, moment, number
from cowrie_enrich_dagster.report.figures import Outline
from cowrie_enrich_dagster.report.gaps import WHY, Gap
from cowrie_enrich_dagster.vocabulary import Days

_SERVICES_NAMED = 3


def change(now: int, before: int) -> str:
    """How a number differs from the one before it."""
    if now == before:
        return "as many"
    if not before:
        return "none before"
    if now >= 3 * before:
        return (
            f"{now / before:.1f} times as many"
            if now < 10 * before
            else f"{number(now // before)} times as many"
        )
    return f"{abs(now - before) / before:.0%} {'more' if now > before else 'fewer'}".replace("%", " %")


def than(how: str) -> str:
    """The word behind a `change` and before what it is compared with."""
    return "as" if how.endswith("as many") else "than"


def days_in_words(days: Days) -> str:
    """`1–3 November 2025`, `30 October – 2 November 2025`."""
    first, last = days.first, days.last
    if first == last:
        return f"{last.day} {last:%B %Y}"
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}–{last.day} {last:%B %Y}"
    begin = f"{first.day} {first:%B}" if first.year == last.year else f"{first.day} {first:%B %Y}"
    return f"{begin} – {last.day} {last:%B %Y}"


def when_done(gap: Gap) -> str:
    """When what is missing will be there."""
    if not gap.missing:
        return ""
    if gap.never:
        return f"never at this pace: {number(gap.arriving_per_day)} new ones come in a day"
    if gap.done_at is not None:
        is_near = gap.done_at - gap.as_of < timedelta(days=2)
        return f"by {moment(gap.done_at)} UTC" if is_near else f"by {moment(gap.done_at.date())}"
    return "not being asked"


def reasons(gap: Gap) -> list[str]:
    """Why something is missing, and when it will be there."""
    if not gap.missing:
        return ["all there" if gap.keys else "nothing to ask about"]
    told = [f"{number(count)}: {WHY[status]}" for status, count in gap.statuses.items() if status in WHY]
    if gap.held_until is not None:
        told.append(
            f"not to be asked before {moment(gap.held_until)} ({str(gap.held_because).replace('_', ' ')})"
        )
    return [*told, when_done(gap)]


def known(knowledge: str) -> str:
    """`enriched_sessions.knowledge` in words."""
    told = {
        **{"before": "before it", "during": "during it", "unknown": "–"},
        **{"0 days after": "the same day", "1 days after": "1 day after"},
    }
    return told.get(knowledge, knowledge)


def headline(figures: Outline) -> list[str]:
    """What happened, who got in, what is new and what is not known yet: a sentence each."""
    totals = figures.totals
    if not totals.sessions:
        return [_nothing(figures)]
    return [_how_many(figures), _who_got_in(figures), _what_is_new(figures), _what_is_missing(figures)]


def _nothing(figures: Outline) -> str:
    first, last = figures.records.first, figures.records.last
    span = f"there are records from {first} to {last}" if first else "nothing is on record at all"
    return f"No session is on record for {figures.days}: {span}."


def _how_many(figures: Outline) -> str:
    totals, before, earlier = figures.totals, figures.before, figures.days_before
    text = f"{counted(totals.sessions, 'session')} from {counted(totals.sources, 'address', 'addresses')}"
    if before is None:
        return f"{text}; of {days_in_words(earlier)} nothing is on record to compare with."
    how = change(totals.sessions, before.sessions)
    first = figures.records.first
    from_when = f", on record from {moment(first)}" if first and first > earlier.first else ""
    return f"{text}: {how} {than(how)} on {days_in_words(earlier)} ({number(before.sessions)}{from_when})."


def _who_got_in(figures: Outline) -> str:
    totals = figures.totals
    if not totals.sessions_in:
        return f"Nobody got in: {counted(totals.logins, 'login')} tried, none accepted."
    text = (
        f"{counted(totals.sources_in, 'address', 'addresses')} got in, "
        f"in {counted(totals.sessions_in, 'session')}; "
        f"{counted(totals.sessions_with_commands, 'session')} typed commands, "
        f"{number(totals.sessions_with_files)} left files ({number(totals.files)} different)"
    )
    if totals.sessions_malicious:
        text += f", {number(totals.sessions_malicious)} of these one that a service calls malicious"
    return text + "."


def _what_is_new(figures: Outline) -> str:
    news = figures.news
    rare = f"{counted(news.rare_scripts.total, 'script was', 'scripts were')} typed by one address alone."
    if not figures.has_past:
        return f"These are the first days on record, so nothing can be called new; {rare}"
    kinds = {"campaign": news.campaigns, "network": news.networks, "file": news.files, "key": news.keys}
    new = [counted(top.total, kind) for kind, top in kinds.items() if top and top.total]
    return f"Never seen before: {listed(new) or 'no campaign, no network, no file, no key'}; {rare}"


def _what_is_missing(figures: Outline) -> str:
    missing = [gap for gap in figures.gaps if gap.missing]
    if not missing:
        return "Every service has told what it can."
    missing.sort(key=lambda gap: -gap.missing)
    told = [
        f"{gap.service} says of {number(gap.missing)} of {number(gap.keys)} {gap.about} ({when_done(gap)})"
        for gap in missing[:_SERVICES_NAMED]
    ]
    more = len(missing) - _SERVICES_NAMED
    if more > 0:
        told.append(f"{counted(more, 'other service')} of others")
    return f"Not known yet: what {listed(told)}."
