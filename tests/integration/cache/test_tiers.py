"""What every tier does, on real servers: Redis, SQLite, PostgreSQL and the file system."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from cowrie_enrich_dagster.cache import CacheEntry
from tests.integration.cache.conftest import SERVICE, WEEK, Tier, answer

HOSTILE_KEYS = [
    "198.51.100.7", "2001:db8::1", "пример.рф", "\U0001f600", "a b", "a/b", "../../etc/passwd", "/etc/passwd",
    "..", ".", "a:b", "*", "[a]", "'; DROP TABLE enrichment_cache;--", "\\N", "\\.", "a\tb\nc\rd", "{a,b}",
    '"', "\\", "%s", ":keys", "null", "a" * 1024, "CON", "\u2028", "198.51.100.07", "198.51.100.7 ",
    "../1.2.3.4",
]  # fmt: skip
UNSTORABLE_KEYS = ["", "198.51.100.7\x00", "\ud800", "a" * 1025]


def test_what_is_stored_comes_back_and_nothing_else(tier: Tier) -> None:
    """Payload, status and both moments return to the microsecond; an unknown key is absent."""
    moment = tier.now() - timedelta(hours=5)
    entries = [answer(f"198.51.100.{n}", moment + timedelta(microseconds=n)) for n in range(50)]
    assert tier.cache.set_many(entries) == 50
    found = tier.cache.get_many(SERVICE, [*(entry.key for entry in entries), "203.0.113.9"])
    assert found == {entry.key: entry for entry in entries}
    assert tier.cache.get_many("virustotal", ["198.51.100.1"]) == {}
    assert tier.cache.get_many(SERVICE, []) == {}
    assert tier.cache.set_many([]) == 0


def test_negative_answers_come_back_as_such(tier: Tier) -> None:
    """Not found is knowledge; a tier without a place for it does not keep it as something else."""
    entry = CacheEntry.of_answer(
        SERVICE, "198.51.100.7", None, fetched_at=tier.now(), ttl=timedelta(hours=12)
    )
    assert tier.cache.set_many([entry]) == int(tier.keeps_not_found)
    assert tier.cache.get_many(SERVICE, [entry.key]) == ({entry.key: entry} if tier.keeps_not_found else {})


def test_hostile_keys_stay_apart(tier: Tier) -> None:
    """Keys from logs are only data: each comes back with its own answer, whatever it is made of."""
    entries = {key: answer(key, tier.now()) for key in HOSTILE_KEYS}
    assert tier.cache.set_many(entries.values()) == len(entries)
    assert tier.cache.get_many(SERVICE, HOSTILE_KEYS) == entries
    assert tier.cache.delete(SERVICE, ["*", "%s", "..", "198.51.100.7"]) == 4
    assert len(tier.cache.get_many(SERVICE, HOSTILE_KEYS)) == len(HOSTILE_KEYS) - 4


def test_keys_no_tier_can_hold_are_absent_and_harm_nobody(tier: Tier) -> None:
    """They are not cleaned into somebody else's key, and do not spoil the batch they are in."""
    entry = answer("198.51.100.7", tier.now())
    tier.cache.set_many([entry])
    assert tier.cache.get_many(SERVICE, [*UNSTORABLE_KEYS, entry.key]) == {entry.key: entry}
    assert tier.cache.delete(SERVICE, UNSTORABLE_KEYS) == 0


def test_the_answer_fetched_last_wins_whatever_the_order(tier: Tier) -> None:
    """A late writer with an older answer does not undo a newer one; a newer one replaces at once."""
    moment = tier.now() - timedelta(days=1)
    for hours, expected in ((0, 0), (-1, 0), (2, 2), (1, 2)):
        key = "198.51.100.7"
        tier.cache.set_many([answer(key, moment + timedelta(hours=hours), {"hours": hours})])
        assert tier.cache.get_many(SERVICE, [key])[key].payload == {"hours": expected}


def test_one_key_twice_in_a_batch(tier: Tier) -> None:
    """The newer one is kept; the batch does not fail."""
    old, new = answer("k", tier.now() - WEEK / 2, {"v": 1}), answer("k", tier.now(), {"v": 2})
    tier.cache.set_many([new, old])
    assert tier.cache.get_many(SERVICE, ["k"]) == {"k": new}


def test_hostile_payloads_come_back_as_every_other_tier_gives_them(tier: Tier) -> None:
    """NUL and surrogates are gone, everything else is as it was: no tier gives another answer."""
    payload = {
        "nul\x00key": "a\x00b", "s": "\ud800", "copy": "\\N\t\\.\n", "html": "<script>", "u": "\\u0000",
        "e": "é\U0001f600", "n": None, "t": True, "i": 2**53, "neg": -1, "f": 0.1, "big": 1e300,
        "small": 5e-324, "l": [[], {}, [None]],
    }  # fmt: skip
    entry = answer("k", tier.now(), payload)
    tier.cache.set_many([entry])
    assert tier.cache.get_many(SERVICE, ["k"])["k"].payload == entry.payload
    assert entry.payload is not None
    assert entry.payload["nulkey"] == "ab"


def test_a_payload_that_cannot_be_stored_is_dropped_and_the_rest_kept(tier: Tier) -> None:
    """One impossible answer is counted, and does not cost its neighbours."""
    good = answer("a", tier.now())
    bad = CacheEntry(SERVICE, "b", good.status, {"x": 2**70}, tier.now(), tier.now() + WEEK)
    huge = CacheEntry(SERVICE, "c", good.status, {"x": "a" * (5 << 20)}, tier.now(), tier.now() + WEEK)
    assert tier.cache.set_many([bad, good, huge]) == 1
    assert tier.cache.get_many(SERVICE, ["a", "b", "c"]) == {"a": good}
    assert tier.cache.metrics.as_dict()["totals"][tier.cache.name]["dropped"] == 2


def test_deleting_keys_a_service_or_everything(tier: Tier) -> None:
    """Each reaches what it names and no more; keys without a service are a mistake."""
    keys = [f"198.51.100.{n}" for n in range(3)]
    tier.cache.set_many(answer(key, tier.now()) for key in keys)
    other = CacheEntry.of_answer("urlhaus", "a", {"x": 1}, fetched_at=tier.now(), ttl=WEEK)
    tier.cache.set_many([other])
    assert tier.cache.delete(SERVICE, []) == 0
    assert tier.cache.delete(SERVICE, [keys[0], "203.0.113.9"]) == 1
    assert tier.cache.get_many(SERVICE, keys).keys() == set(keys[1:])
    assert tier.cache.delete(SERVICE) == 2
    assert tier.cache.get_many("urlhaus", ["a"]) == {"a": other}
    assert tier.cache.delete() == 1
    assert tier.cache.get_many("urlhaus", ["a"]) == {}
    with pytest.raises(ValueError, match="service"):
        tier.cache.delete(None, ["a"])


def test_one_string_for_many_keys_is_a_mistake_everywhere(tier: Tier) -> None:
    """Forgotten brackets are an error, not a lookup of single letters."""
    with pytest.raises(TypeError):
        tier.cache.get_many(SERVICE, "198.51.100.7")
    with pytest.raises(TypeError):
        tier.cache.delete(SERVICE, "198.51.100.7")


def test_more_keys_than_one_chunk(tier: Tier) -> None:
    """2,500 entries go in and come out in bulk."""
    entries = {f"k{n}": answer(f"k{n}", tier.now()) for n in range(2_500)}
    assert tier.cache.set_many(entries.values()) == 2_500
    assert tier.cache.get_many(SERVICE, list(entries)) == entries
    assert tier.cache.delete(SERVICE) == 2_500


def test_threads_share_a_tier(tier: Tier) -> None:
    """Eight threads write and read the same keys without an error or a lost answer."""
    entries = [answer(f"k{n}", tier.now()) for n in range(40)]
    problems: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(3):
                tier.cache.set_many(entries)
                assert len(tier.cache.get_many(SERVICE, [entry.key for entry in entries])) == 40
        except Exception as problem:  # noqa: BLE001 (it belongs to another thread; the test shows it)
            problems.append(problem)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
