"""What may become a cache entry, and the bytes it travels in."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowrie_enrich_dagster.cache import (
    MAX_PAYLOAD_BYTES,
    CacheEntry,
    UndecodableEntry,
    Unstorable,
    is_storable_key,
)
from cowrie_enrich_dagster.cache.entry import decode, encode
from cowrie_enrich_dagster.cache.tiers import newest, storable, versioned
from cowrie_enrich_dagster.vocabulary import LookupStatus

NOW = datetime(2025, 11, 3, 12, tzinfo=timezone.utc)
WEEK = timedelta(days=7)


def entry(key: str = "198.51.100.7", payload: dict | None = None, fetched_at: datetime = NOW) -> CacheEntry:
    return CacheEntry.of_answer("dshield", key, payload or {"n": 1}, fetched_at=fetched_at, ttl=WEEK)


@pytest.mark.parametrize("status", [status for status in LookupStatus if not status.is_answer])
def test_a_status_that_says_nothing_about_the_key_is_refused(status: LookupStatus) -> None:
    """Being limited, refused or deferred can never be kept as if it were an answer."""
    with pytest.raises(Unstorable):
        CacheEntry("dshield", "198.51.100.7", status, None, NOW, NOW + WEEK)


@pytest.mark.parametrize(
    ("status", "payload"),
    [
        (LookupStatus.FOUND, None),
        (LookupStatus.FOUND, {}),
        (LookupStatus.FOUND, ["a"]),
        (LookupStatus.NOT_FOUND, {"a": 1}),
    ],
)
def test_status_and_payload_must_agree(status: LookupStatus, payload: object) -> None:
    """Found means an object with something in it; not found means no payload: blanks are not answers."""
    with pytest.raises(Unstorable):
        CacheEntry("dshield", "198.51.100.7", status, payload, NOW, NOW + WEEK)  # type: ignore[arg-type]


@pytest.mark.parametrize("service", ["", "DShield", "a/b", "../etc", "a:b", "a@2", "a" * 51, "a\x00"])
def test_a_service_name_that_could_lead_elsewhere_is_refused(service: str) -> None:
    """Names become folders and parts of Redis keys, so they are plain words."""
    with pytest.raises(Unstorable):
        CacheEntry(service, "k", LookupStatus.NOT_FOUND, None, NOW, NOW + WEEK)


def test_naive_moments_are_refused() -> None:
    """An age cannot be counted from a moment without a zone."""
    with pytest.raises(Unstorable):
        CacheEntry("dshield", "k", LookupStatus.NOT_FOUND, None, NOW.replace(tzinfo=None), NOW + WEEK)


@pytest.mark.parametrize(
    ("key", "storable_key"),
    [
        ("198.51.100.7", True), ("2001:db8::1", True), ("пример.рф", True), ("a" * 1024, True),
        ("é" * 512, True),
        ("", False), ("a\x00b", False), ("\ud800", False), ("a" * 1025, False), ("é" * 513, False),
    ],
)  # fmt: skip
def test_keys_that_not_every_tier_can_hold_exactly_are_refused(key: str, storable_key: bool) -> None:
    """NUL, lone surrogates, emptiness and great length are refused, not cleaned into another key."""
    assert is_storable_key(key) is storable_key
    assert storable(["k", key, "l", "k"]) == (["k", key, "l"] if storable_key else ["k", "l"])
    if not storable_key:
        with pytest.raises(Unstorable):
            entry(key)


def test_freshness_and_age_count_from_the_fetch() -> None:
    """An entry is fresh up to, and not at, its expiry."""
    answer = entry(fetched_at=NOW - timedelta(days=6, hours=12))
    assert answer.age(NOW) == timedelta(days=6, hours=12)
    assert answer.is_fresh(NOW)
    assert answer.is_fresh(NOW + timedelta(hours=12, microseconds=-1))
    assert not answer.is_fresh(NOW + timedelta(hours=12))


def test_an_answer_dated_by_a_clock_that_runs_ahead_is_not_fresh() -> None:
    """Minutes ahead are tolerated; a container whose clock says next year does not freeze its answers."""
    assert entry(fetched_at=NOW + timedelta(minutes=4)).is_fresh(NOW)
    assert not entry(fetched_at=NOW + timedelta(days=365)).is_fresh(NOW)


def test_payloads_are_what_every_tier_will_give_back() -> None:
    """NUL and lone surrogates are gone, and nothing else has changed, before anybody stores the answer."""
    hostile = {"a\x00b": ["x\x00", {"s": "\ud800", "t": "\\u0000"}], "n": None, "f": 1.25, "big": 2**53}
    clean = {"ab": ["x", {"s": "?", "t": "\\u0000"}], "n": None, "f": 1.25, "big": 2**53}
    assert entry(payload=hostile).payload == clean


def test_an_answer_that_is_too_large_or_not_json_is_refused() -> None:
    """The bound is on the serialised bytes; the message does not quote the payload."""
    room = MAX_PAYLOAD_BYTES - len('{"x":""}')
    assert entry(payload={"x": "a" * room}).payload
    nested: dict = {}
    for _ in range(2000):
        nested = {"n": nested}
    for payload in (
        {"x": "a" * (room + 1)},
        {"x": "é" * (room // 2 + 1)},
        {"x": object()},
        {"x": 2**70},
        nested,
    ):
        with pytest.raises(Unstorable) as caught:
            entry(payload=payload)
        assert len(str(caught.value)) < 100


moments = st.datetimes(
    min_value=datetime(1971, 1, 1), max_value=datetime(9990, 1, 1), timezones=st.just(timezone.utc)
)
json_values = st.recursive(
    st.none() | st.booleans() | st.text() | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(moments, st.dictionaries(st.text(), json_values, min_size=1, max_size=4))
def test_what_was_encoded_is_decoded_unchanged(fetched_at: datetime, payload: dict) -> None:
    """Every payload and moment comes back to the microsecond."""
    original = CacheEntry.of_answer("dshield", "k", payload, fetched_at=fetched_at, ttl=WEEK)
    assert decode("dshield", "k", encode(original)) == original


def test_not_found_is_encoded_too() -> None:
    """A negative answer comes back as one."""
    original = CacheEntry.of_answer("dshield", "k", None, fetched_at=NOW, ttl=WEEK)
    assert decode("dshield", "k", encode(original)) == original
    assert original.status is LookupStatus.NOT_FOUND


@pytest.mark.parametrize(
    "blob",
    [
        b"", b"\x00\xff", b"null", b"1", b"[]", b"{}", b'"x"', b"[1,2,3]", b"[1,1,2,\"found\"]",
        b'[2,1,2,"found",{"a":1}]', b'[1,1,2,"rate_limited",null]', b'[1,1,2,"found",{}]',
        b'[1,1,2,"found",[1]]',
        b'[1,"1",2,"found",{"a":1}]', b'[1,1e300,2,"found",{"a":1}]', b'[1,1,2,["found"],{"a":1}]',
        b'[1,1,2,"not_found",{"a":1}]', b'[1,1,2,"found",{"a":1}', b"a" * (MAX_PAYLOAD_BYTES + 1000),
    ],
)  # fmt: skip
def test_other_bytes_raise_one_exception(blob: bytes) -> None:
    """Whatever lies in Redis under our key, there is one error to handle."""
    with pytest.raises(UndecodableEntry):
        decode("dshield", "k", blob)


@given(st.binary(max_size=60))
def test_random_bytes_raise_one_exception(blob: bytes) -> None:
    """The same for bytes that nobody thought of."""
    with pytest.raises(UndecodableEntry):
        decode("dshield", "k", blob)


def test_the_newest_of_each_key_is_kept_in_order() -> None:
    """A batch holds a key once, in the order in which every writer locks rows."""
    old, new = entry("b", {"v": 1}, NOW), entry("b", {"v": 2}, NOW + WEEK)
    other = entry("a")
    assert newest([new, old, other]) == [other, new]
    assert newest([old, new]) == [new]


def test_one_string_is_not_a_collection_of_keys() -> None:
    """Forgetting the brackets must not ask about single letters."""
    with pytest.raises(TypeError):
        storable("198.51.100.7")
    assert storable(["b", "a", "b", "a\x00"]) == ["b", "a"]


def test_answer_formats_have_their_own_names() -> None:
    """Format 1 is the plain name, so nothing changes for a service that never declared one."""
    assert versioned("spur", {}) == versioned("spur", {"spur": 1}) == "spur"
    assert versioned("spur", {"spur": 2}) == "spur@2"
