"""The server's real rate is found with few refusals, and most of it is used."""

from __future__ import annotations

import pytest

from cowrie_enrich_dagster.pacing.model import Policy
from tests.unit.pacing.world import START, BucketServer, Run, simulate

HOUR = 3600.0


def goodput(run: Run, ideal_rate: float, seconds: float) -> float:
    return len(run.served) / (ideal_rate * seconds)


@pytest.mark.parametrize("burst", [1, 20])
@pytest.mark.parametrize("retry_after", [True, False])
@pytest.mark.parametrize(("share", "at_least"), [(0.5, 0.90), (0.8, 0.88)])
def test_a_server_slower_than_configured(
    burst: int, retry_after: bool, share: float, at_least: float
) -> None:
    """At half or four fifths of the configured rate an hour costs at most 5 refusals and little goodput."""
    server = BucketServer(lambda now: share, burst, retry_after)
    run = simulate(Policy("service", rate=1.0), server, HOUR)
    assert len(run.refused) <= 5
    assert goodput(run, share, HOUR) >= at_least
    assert run.state is not None
    assert run.state.learned_rate is not None
    assert run.state.learned_rate <= share * 1.05


@pytest.mark.parametrize("burst", [1, 20])
@pytest.mark.parametrize("retry_after", [True, False])
def test_a_server_that_halves_its_limit_midway(burst: int, retry_after: bool) -> None:
    """A limit halved after half an hour costs at most 5 refusals, and over 90 % of what it allows is used."""
    server = BucketServer(lambda now: 1.0 if now < START + HOUR / 2 else 0.5, burst, retry_after)
    run = simulate(Policy("service", rate=1.0), server, HOUR)
    assert len(run.refused) <= 5
    assert goodput(run, 0.75, HOUR) >= 0.9


def test_a_server_that_keeps_its_word_is_never_refused() -> None:
    """At exactly the configured rate, without burst, an hour passes without a refusal at 98 % of the rate."""
    run = simulate(Policy("service", rate=1.0), BucketServer(lambda now: 1.0), HOUR)
    assert run.refused == []
    assert goodput(run, 1.0, HOUR) >= 0.98
    assert run.state is not None
    assert run.state.learned_rate is None


def test_the_configured_rate_comes_back() -> None:
    """After ten minutes at half the limit the configured rate is in force again within the day."""
    server = BucketServer(lambda now: 0.1 if 600 < now - START < 1200 else 0.2)
    run = simulate(Policy("service", rate=0.2), server, 24 * HOUR)
    assert len(run.refused) <= 5
    assert run.state is not None
    assert run.state.learned_rate is None
    assert goodput(run, 0.2, 24 * HOUR) >= 0.85


def test_a_day_at_half_the_rate_costs_few_refusals() -> None:
    """The search for more becomes rarer each time it fails: at most 10 refusals in 24 hours."""
    run = simulate(Policy("service", rate=0.2), BucketServer(lambda now: 0.1), 24 * HOUR)
    assert len(run.refused) <= 10
    assert goodput(run, 0.1, 24 * HOUR) >= 0.97


def test_one_accident_costs_little() -> None:
    """A single refusal after long good service lowers the rate by a twentieth, not by a third."""
    delayed = [True]

    class OneAccident(BucketServer):
        def answer(self, now: float) -> tuple[int, int | None]:
            if now > START + 600 and delayed:
                delayed.clear()
                return 429, 1
            return super().answer(now)

    run = simulate(Policy("service", rate=1.0), OneAccident(lambda now: 1.0), HOUR)
    assert len(run.refused) == 1
    assert goodput(run, 1.0, HOUR) >= 0.93


def test_a_ban_does_not_starve_the_rate() -> None:
    """A day of refusals climbs the ladder, but lowers the rate once: the ban is over, service is normal."""

    class Banned(BucketServer):
        def answer(self, now: float) -> tuple[int, int | None]:
            return (429, None) if now < START + 24 * HOUR else super().answer(now)

    run = simulate(Policy("service", rate=1.0), Banned(lambda now: 1.0), 30 * HOUR)
    assert len(run.refused) <= 31
    assert len(run.served) >= 0.7 * 4 * HOUR


def test_the_rate_has_a_floor() -> None:
    """A server that refuses every other request is still asked at a 64th of the rate."""

    class Moody(BucketServer):
        served = 0

        def answer(self, now: float) -> tuple[int, int | None]:
            self.served += 1
            return (200, None) if self.served % 2 else (429, 0)

    run = simulate(Policy("service", rate=1.0), Moody(lambda now: 1.0), 4 * HOUR)
    assert run.state is not None
    assert run.state.learned_rate == pytest.approx(1 / 64)
