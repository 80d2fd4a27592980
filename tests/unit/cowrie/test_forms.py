"""Logs of every form: under any name, packed in any way, in arrays, behind prefixes and in wrappers."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from .logs import DAY, Reading, connect, days_touched, event, joined, line, read, read_bytes

CASES = Path(__file__).parents[2] / "data" / "cases" / "logs"
CASE_DAY = date(2024, 5, 1)

Record = dict[str, Any]
RECORDS = [
    connect(),
    event("client.version", at="2025-11-02T10:00:01.5Z", version="SSH-2.0-Go"),
    event("login.success", at="2025-11-02T10:00:02Z", username="root", password='{"eventid": "x"}\\"'),
    event("command.input", at="2025-11-02T10:00:03Z", input='echo {"a": [1, 2]} > \u00e4; \\n'),
    event("client.kex", at="2025-11-02T10:00:04Z", hassh="ab" * 16, kexAlgs=["a", "b"]),
    event("session.closed", at="2025-11-02T10:00:05Z", duration=5.0),
]
MOMENT = "2025-11-02T10:00:00.123456789Z"


def text(record: Record) -> str:
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)


def lines(*records: Record, prefix: str = "") -> bytes:
    return "".join(f"{prefix}{text(record)}\n" for record in records).encode()


def check(reading: Reading, count: int | None = None) -> None:
    """The six events are one session, and no line was lost."""
    assert reading.quarantined == []
    assert [session.event_count for session in reading.sessions] == [6]
    session = reading.sessions[0]
    assert (session.src_ip, session.username, session.commands) == ("8.8.8.8", "root", 1)
    assert (session.client_version, session.hassh, session.duration_ms) == ("SSH-2.0-Go", "ab" * 16, 5000)
    assert reading.report.lines_in == reading.report.lines_parsed


@pytest.mark.parametrize("path", sorted((CASES / "names").iterdir()), ids=lambda path: path.name)
def test_cases_of_names(tmp_path: Path, path: Path) -> None:
    """Whatever the rotation made of the name."""
    reading = read_bytes(tmp_path, path.read_bytes(), path.name, first=CASE_DAY)
    assert [session.event_count for session in reading.sessions] == [6]
    assert reading.quarantined == []


@pytest.mark.parametrize(
    "name",
    [
        "array-one-line.json",
        "array-record-per-line.json",
        "cri-prefix.jsonl",
        "docker-json-file.jsonl",
        "filebeat-message.jsonl",
        "logstash-honeypot-target.jsonl",
    ],
)
def test_cases_of_forms(tmp_path: Path, name: str) -> None:
    """Also under Cowrie's own name, which says nothing about the form."""
    for laid_as in ("cowrie.json", "other"):
        folder = tmp_path / laid_as
        reading = read_bytes(folder, (CASES / name).read_bytes(), laid_as, first=CASE_DAY)
        assert [session.event_count for session in reading.sessions] == [6]
        assert reading.quarantined == []


@pytest.mark.parametrize("name", ["cowrie-sensor1.log", "events", "a.json.old", "pot.ndjson.2", "-json.log"])
def test_any_name(tmp_path: Path, name: str) -> None:
    """Nothing in a name makes a file a log or none."""
    check(read_bytes(tmp_path, lines(*RECORDS), name))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd.compress])
@pytest.mark.parametrize("name", ["cowrie.json", "archive.7", "cowrie.json.2025-11-02.gz"])
def test_any_packing_under_any_suffix(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    """How a file is packed, its first bytes say; also twice, and in parts behind one another."""
    content = lines(*RECORDS)
    check(read_bytes(tmp_path, pack(content), name))
    check(read_bytes(tmp_path, gzip.compress(pack(content)), name))
    check(read_bytes(tmp_path, pack(content[:300]) + pack(content[300:]), name))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd.compress])
def test_packed_file_that_breaks_off(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """What can be read of it is read, and the fault is told."""
    content = b"".join(
        line(connect(f"{number:06x}", uuid=f"{number * 77777777:x}")) for number in range(9000)
    )
    whole = pack(content)
    reading = read_bytes(tmp_path, whole[: len(whole) * 9 // 10], "old.bin")
    assert len(reading.sessions) > 1000
    assert reading.reasons[0].endswith("data is cut off before its end")


def test_plain_log_that_ends_in_gz(tmp_path: Path) -> None:
    """Only the name says that it is packed."""
    check(read_bytes(tmp_path, lines(*RECORDS), "cowrie.json.2.gz"))


ARRAYS: dict[str, Callable[[list[Record]], str]] = {
    "one line": lambda records: json.dumps(records),
    "no blanks": lambda records: json.dumps(records, separators=(",", ":")) + "\n",
    "a record a line": lambda records: "[" + ",\n".join(map(text, records)) + "]\n",
    "a record a line, brackets alone": lambda records: "[\n" + ",\n".join(map(text, records)) + "\n]\n",
    "comma first": lambda records: "[" + "\n,".join(map(text, records)) + "\n]",
    "indented by 2": lambda records: json.dumps(records, indent=2),
    "indented by tabs": lambda records: json.dumps(records, indent="\t") + "\n",
    "not indented": lambda records: json.dumps(records, indent=0),
    "braces together": lambda records: json.dumps(records, indent=1).replace("},\n {", "}, {"),
    "CR LF": lambda records: json.dumps(records, indent=4).replace("\n", "\r\n"),
    "behind one another": lambda records: "".join(map(text, records)),
    "behind one another, with commas": lambda records: ",".join(map(text, records)),
}


@pytest.mark.parametrize("form", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("name", ["cowrie.json", "export.json"])
def test_arrays(tmp_path: Path, name: str, form: Callable[[list[Record]], str]) -> None:
    """However the records of an array, or without one, stand."""
    check(read_bytes(tmp_path, form(RECORDS).encode(), name))


@pytest.mark.parametrize("form", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("count", [1, 20, 300, 2000])
def test_arrays_of_any_length(tmp_path: Path, count: int, form: Callable[[list[Record]], str]) -> None:
    """None stops after some records, and each day finds its own."""
    records = [
        event(
            "login.failed", f"{number % 100:04x}", f"2025-11-{2 + 3 * number // count:02}T10:00:00Z", n=number
        )
        for number in range(count)
    ]
    reading = read_bytes(tmp_path, form(records).encode(), "export.json", last=date(2025, 11, 5))
    assert reading.quarantined == []
    assert reading.report.events == count
    alone = [read(tmp_path, date(2025, 11, day)).pieces for day in (5, 3, 4, 2)]
    assert joined(piece for day in alone for piece in day) == reading.sessions


def test_array_that_is_cut_off(tmp_path: Path) -> None:
    """The last record is quarantined, and all before it are read."""
    for name, form in ARRAYS.items():
        content = form(RECORDS * 200).encode()
        reading = read_bytes(tmp_path, content[: len(content) * 2 // 3], "cowrie.json")
        assert reading.report.events in (799, 800), name
        assert reading.report.lines_quarantined >= 1


@pytest.mark.parametrize("form", ARRAYS.values(), ids=ARRAYS)
def test_array_with_a_damaged_record(tmp_path: Path, form: Callable[[list[Record]], str]) -> None:
    """One that is no event, or broken in itself, costs its own lines, not the others' events."""
    records = [connect(f"{number:04x}") for number in range(50)]
    records[30]["timestamp"] = "never"
    reading = read_bytes(tmp_path, form(records).encode())
    assert len(reading.sessions) == 49
    assert {entry.reason for entry in reading.quarantined} == {
        "timestamp: not a moment between the years 2000 and 2100"
    }
    broken = form([connect(f"{number:04x}") for number in range(50)]).replace("001e", "00\x01e")
    assert len(read_bytes(tmp_path, broken.encode()).sessions) == 49


def test_half_a_record_in_an_array_of_lines(tmp_path: Path) -> None:
    """Where a line begins a record, the one before it that broke off costs nothing but its line."""
    content = json.dumps([connect(f"{number:04x}") for number in range(50)]).replace("}, ", "},\n")
    lines_of_array = content.split("\n")
    lines_of_array[20] = lines_of_array[20][:60]
    reading = read_bytes(tmp_path, "\n".join(lines_of_array).encode())
    assert len(reading.sessions) == 49
    assert list(reading.reasons) == [21]


PREFIXES = {
    "cri": f"{MOMENT} stdout F ",
    "cri of stderr": "2025-11-02T12:00:00.5+02:00 stderr F ",
    "docker logs -t": f"{MOMENT} ",
    "compose": "cowrie-1  | ",
    "compose in colour": "\x1b[36mcowrie_1  | \x1b[0m",
    "compose with moments": f"cowrie-1  | {MOMENT} ",
    "kubectl": "[pod/cowrie-5d8/cowrie] ",
    "syslog": "Nov  2 10:00:00 pot1 cowrie[1234]: ",
    "syslog without pid": "<13>Nov 12 10:00:00 pot1.example.org cowrie: ",
    "rsyslog": "2025-11-02T10:00:00.123456+00:00 pot1 cowrie[1]: @cee: ",
    "journalctl": "2025-11-02T10:00:00+0000 pot1 python3[77]: ",
    "busybox": "Nov  2 10:00:00 pot1 user.info cowrie: ",
    "rfc 5424": f'<134>1 {MOMENT} pot1 cowrie 77 - [a@1 b="c d"] ',
    "rfc 5424 without data": "<134>1 2025-11-02T10:00:00Z 10.0.0.5 cowrie - - - \ufeff",
}


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
@pytest.mark.parametrize("name", ["cowrie.json", "messages"])
def test_prefixes(tmp_path: Path, name: str, prefix: str) -> None:
    """What a collector writes in front of each line costs none of them."""
    check(read_bytes(tmp_path, lines(*RECORDS, prefix=prefix), name))
    assert days_touched(tmp_path)[name] == {DAY}


def test_only_whole_lines_behind_the_prefix_count(tmp_path: Path) -> None:
    """Of a collector's file, what is typed amid another line is no event."""
    typed = f"{MOMENT} stdout F 2025-11-02T10:00:00+0000 [HoneyPot] CMD: ".encode() + line(connect("evil"))
    first = lines(*RECORDS * 4, prefix=PREFIXES["cri"])
    content = first + typed + line(connect("evil")) + lines(connect("last"), prefix=PREFIXES["cri"])
    reading = read_bytes(tmp_path, content, "pot.log")
    assert reading.ids == ["aa11", "last"]
    assert reading.reasons == dict.fromkeys((25, 26), "does not begin like the lines of this log")
    assert read_bytes(tmp_path / "first", typed + content, "pot.log").sessions == []


def test_lone_surrogate_behind_a_prefix(tmp_path: Path) -> None:
    """It is no way to hide in any form."""
    hidden = line(event("login.success", "aa12", username="X")).replace(b"X", rb"\udc80")
    content = lines(*RECORDS, prefix=PREFIXES["cri"]) + PREFIXES["cri"].encode() + hidden
    wrapped = [json.dumps({"log": raw + "\n", "stream": "stdout"}) for raw in hidden.decode().split("\n")[:1]]
    for name, log in (("a", content), ("b", "\n".join(wrapped).encode()), ("c", b"[" + hidden + b"]")):
        reading = read_bytes(tmp_path / name, log, "log")
        assert reading.sessions[-1].login_successes == 1, name


WRAPPERS: dict[str, Callable[[Record], Record]] = {
    "docker": lambda r: {"log": text(r) + "\n", "stream": "stdout", "time": MOMENT},
    "docker with attributes": lambda r: {
        "log": text(r),
        "stream": "stderr",
        "attrs": {"tag": "x"},
        "time": MOMENT,
    },
    "fluentd": lambda r: {
        "container_id": "ab",
        "container_name": "/cowrie",
        "source": "stdout",
        "log": text(r),
    },
    "filebeat": lambda r: {"@timestamp": MOMENT, "agent": {"type": "filebeat"}, "message": text(r)},
    "filebeat, log first": lambda r: {
        "log": {"offset": 1, "file": {"path": "x"}},
        "@version": "1",
        "message": text(r),
    },
    "message alone": lambda r: {"message": text(r)},
    "event.original": lambda r: {"@timestamp": MOMENT, "event": {"original": text(r)}, "message": "New"},
    "event.original flat": lambda r: {"@timestamp": MOMENT, "event.original": text(r)},
    "logstash target": lambda r: {"@timestamp": MOMENT, "host": "pot1", "honeypot": r},
    "another target": lambda r: {"cowrie": r, "type": "cowrie"},
    "elasticsearch": lambda r: {"_index": "cowrie", "_id": "x", "_score": 1, "_source": r},
    "elasticsearch of filebeat": lambda r: {
        "_index": "x",
        "_source": {"@timestamp": MOMENT, "message": text(r)},
    },
    "elasticsearch of a target": lambda r: {"_index": "x", "_source": {"json": r}},
    "splunk": lambda r: {"preview": False, "offset": 1, "result": {"_raw": text(r), "_time": MOMENT}},
    "journald": lambda r: {"__REALTIME_TIMESTAMP": "1", "MESSAGE": text(r), "_PID": "1"},
    "loki": lambda r: {"labels": {"job": "cowrie"}, "line": text(r), "timestamp": MOMENT},
    "fluent bit": lambda r: {"date": 1762077600.5, "log": text(r)},
    "splunk's collector": lambda r: {"time": 1762077600, "sourcetype": "cowrie", "event": text(r)},
    "splunk's collector, decoded": lambda r: {"time": 1762077600, "sourcetype": "cowrie", "event": r},
    "cloudwatch": lambda r: {"@timestamp": MOMENT, "@ptr": "x", "@message": text(r)},
    "cloudwatch events": lambda r: (
        {"id": "3", "timestamp": 1, "message": text(r), "ingestionTime": 2} | {"logStreamName": "a"}
    ),
    "graylog": lambda r: (
        {"version": "1.1", "host": "pot1", "short_message": "cowrie"} | {"full_message": text(r)}
    ),
    "google": lambda r: {"insertId": "a", "logName": "x", "textPayload": text(r), "timestamp": MOMENT},
    "google, decoded": lambda r: {"insertId": "a", "jsonPayload": r, "timestamp": MOMENT},
    "vector": lambda r: (
        {"file": "/x", "host": "pot1", "message": text(r), "source_type": "file"} | {"timestamp": MOMENT}
    ),
    "docker of filebeat": lambda r: {
        "log": text({"@timestamp": MOMENT, "message": text(r)}) + "\n",
        "stream": "stdout",
    },
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("name", ["cowrie.json", "shipped"])
def test_wrappers(tmp_path: Path, name: str, wrap: Callable[[Record], Record]) -> None:
    """The one event in each record counts, under the day of its own timestamp."""
    check(read_bytes(tmp_path, lines(*map(wrap, RECORDS)), name))
    assert DAY in days_touched(tmp_path)[name]
    check(read_bytes(tmp_path / "array", json.dumps([wrap(r) for r in RECORDS], indent=1).encode(), name))
    prefix = PREFIXES["cri"]
    check(read_bytes(tmp_path / "prefix", lines(*map(wrap, RECORDS), prefix=prefix), name))


def test_days_in_wrapped_logs(tmp_path: Path) -> None:
    """A day of a long wrapped log is found without reading the rest of it."""
    for name, wrap in WRAPPERS.items():
        days = [wrap(connect(f"{n:06x}", f"2025-11-{2 + n // 500:02}T10:00:00.000000Z")) for n in range(3000)]
        reading = read_bytes(tmp_path / name, lines(*days), "x.log", first=date(2025, 11, 5))
        assert len(reading.sessions) == 500, name
        assert reading.quarantined == [], name
        if MOMENT[:10] not in lines(days[-1]).decode():
            assert reading.report.lines_in == 500, name


def test_what_has_an_event_id_of_its_own_is_the_event(tmp_path: Path) -> None:
    """Never a wrapper of what an attacker put into one of its fields."""
    inner = text(connect("evil"))
    records = [
        event("command.input", message=inner, log=inner, input=inner, stream="stdout"),
        {**event("login.failed", "aa12", username=inner), "_source": connect("evil"), "@timestamp": MOMENT},
    ]
    for name in ("cowrie.json", "other"):
        assert read_bytes(tmp_path / name, lines(*records), name).ids == ["aa11", "aa12"]
    wrapped = [WRAPPERS["docker"](record) for record in records]
    assert read_bytes(tmp_path / "wrapped", lines(*wrapped, *records), "x").ids == ["aa11", "aa12"]


def test_wrapped_line_that_is_no_event(tmp_path: Path) -> None:
    """It is quarantined with the reason, and costs no other."""
    wrap = WRAPPERS["docker"]
    wrapped = [{**wrap(connect("x")), "log": said} for said in ("Starting\n", '{"eventid": 1}\n')]
    content = lines(*map(wrap, RECORDS), *wrapped, {"stream": "stdout"}, wrap(connect("aa12")))
    reading = read_bytes(tmp_path, content)
    assert reading.ids == ["aa11", "aa12"]
    assert reading.reasons == {
        7: "log: not a JSON object",
        8: "eventid: missing, empty or not a string",
        9: "log: missing or not a string",
    }


@pytest.mark.parametrize("maker", ["KIPP", "COW"])
def test_event_ids_of_2015(tmp_path: Path, maker: str) -> None:
    """Numbers are read as the names that took their place."""
    numbered = [
        (1, {"src_ip": "8.8.8.8", "src_port": 1, "dst_ip": "10.0.0.1", "dst_port": 22}),
        (9, {"version": "SSH-2.0-x"}),
        (3, {"username": "a", "password": "b"}),
        (2, {"username": "root", "password": "c"}),
        (10, {"width": 80, "height": 24}),
        (5, {"input": "ls"}),
        (6, {"input": "nonsense"}),
        (8, {"realm": "passwd", "input": "x"}),
        (7, {"url": "http://a.example/x", "outfile": "dl/" + "ab" * 32}),
        (14, {"dst_ip": "1.2.3.4", "dst_port": 80}),
        (11, {}),
    ]
    records = [
        {
            "eventid": f"{maker}{number:04}",
            "session": "1a2b3c4d",
            "timestamp": f"2025-11-02T10:00:{second:02}Z",
        }
        | {"sensor": "hp", **fields}
        for second, (number, fields) in enumerate(numbered)
    ]
    session = read_bytes(tmp_path, lines(*records), "old.json").sessions[0]
    assert (session.src_ip, session.has_connect, session.has_closed) == ("8.8.8.8", True, True)
    assert (session.login_failures, session.login_successes, session.username) == (1, 1, "root")
    assert (session.commands, session.commands_failed, session.downloads) == (2, 1, 1)
    assert (session.client_version, session.terminal_width, session.tunnel_requests) == ("SSH-2.0-x", 80, 1)
    assert session.file_hashes == ("ab" * 32,)
