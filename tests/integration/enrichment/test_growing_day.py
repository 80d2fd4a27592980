"""A day whose logs grow: what came since is read and written alone, and the rows are those of all of it."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import select, text

from cowrie_enrich_dagster.enrichment.ingest import IngestReport, ingest_days
from cowrie_enrich_dagster.storage import tables
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.vocabulary import Days
from tests.fuzz.log_lines import log_of_lines
from tests.integration.enrichment.test_independent_count import docker
from tests.unit.cowrie.logs import connect, event, line

DAY = date(2025, 11, 2)
TODAY = Days(DAY, DAY)
BEGIN = datetime(2025, 11, 1, 22, tzinfo=timezone.utc)
_READ = {
    table.name: select(*(column for column in table.columns if column.name not in ("id", "moved_at")))
    for table in map(
        tables.table_of,
        (tables.SessionRecord, tables.SessionPiece, tables.QuarantinedLine, tables.MovedDay),
    )
}
"""All that reading logs writes, but for numbers of rows and moments of writing."""
_SHA = "ab" * 32


def rows(database: Database) -> dict[str, list[str]]:
    with database.read() as connection:
        return {
            name: sorted(repr(tuple(row)) for row in connection.execute(query))
            for name, query in _READ.items()
        }


def differences(some: dict[str, list[str]], others: dict[str, list[str]]) -> list[str]:
    """Rows that only one of the two has."""
    return [
        f"{sign} {table}: {row}"
        for table in some
        for sign, rows_here, rows_there in (("+", some, others), ("-", others, some))
        for row in sorted(set(rows_here[table]) - set(rows_there[table]))
    ]


def read_whole(database: Database, logs: Path, days: Days = TODAY) -> IngestReport:
    """As if nobody had read it before."""
    with database.write() as connection:
        connection.execute(text("DELETE FROM day_readings"))
    return ingest_days(database, logs, days)


def append(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        file.write(content)


def session(number: int, *, at: datetime, closed: bool = True) -> list[bytes]:
    """A session of five events a second apart: one that logs in, types a line and brings a file."""
    name = f"{number:08x}"

    def stamp(seconds: int) -> str:
        return f"{at + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S.%f}Z"

    source = {"src_ip": f"8.8.{number // 250}.{number % 250}"}
    events = [
        connect(name, stamp(0), **source),
        event("login.success", name, stamp(1), username="root", password=f"p{number}", **source),
        event("command.input", name, stamp(2), input=f"wget http://x/{number}", **source),
        event("session.file_download", name, stamp(3), url=f"http://x/{number}", shasum=_SHA, **source),
        event("session.closed", name, stamp(4), duration="4.0", **source),
    ]
    return [line(one) for one in events[: None if closed else -1]]


NOON = datetime(2025, 11, 2, 12, tzinfo=timezone.utc)


def test_only_what_came_is_read_and_written(database: Database, tmp_path: Path) -> None:
    """A hundred sessions, then ten more and the end of one that was open: as many lines are read."""
    log = tmp_path / "logs" / "cowrie.json"
    append(log, b"".join(b"".join(session(n, at=NOON + timedelta(minutes=n))) for n in range(100)))
    open_one = session(100, at=NOON + timedelta(minutes=101))
    append(log, b"".join(open_one[:3]))
    assert ingest_days(database, log.parent, TODAY).read.events == 503

    append(log, b"".join(open_one[3:]))
    append(log, b"".join(b"".join(session(n, at=NOON + timedelta(minutes=n + 5))) for n in range(101, 111)))
    report = ingest_days(database, log.parent, TODAY)

    assert (report.read.events, report.read.lines_in) == (52, 52)
    assert (report.whole.events, report.whole.lines_parsed) == (555, 555)
    assert report.sessions_by_day == {DAY: 111}
    found = rows(database)
    read_whole(database, log.parent)
    assert found == rows(database)


def test_nothing_new_writes_nothing(database: Database, tmp_path: Path) -> None:
    """And nobody has to look for campaigns."""
    append(tmp_path / "logs" / "cowrie.json", b"".join(session(1, at=NOON)))
    ingest_days(database, tmp_path / "logs", TODAY)
    with database.write() as connection:
        connection.execute(text("DELETE FROM days_without_campaigns"))

    assert ingest_days(database, tmp_path / "logs", TODAY).read.events == 0

    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM days_without_campaigns")).scalar_one() == 0


def test_a_line_that_is_still_being_written_counts_once(database: Database, tmp_path: Path) -> None:
    """First it stands in quarantine, as cut off; when it is whole, nowhere but in its session."""
    log = tmp_path / "logs" / "cowrie.json"
    whole = b"".join(b"".join(session(n, at=NOON)) for n in range(9))
    append(log, whole[:-30])
    assert ingest_days(database, log.parent, TODAY).whole.lines_quarantined == 1
    append(log, whole[-30:])

    report = ingest_days(database, log.parent, TODAY)

    assert (report.read.lines_in, report.whole.lines_in, report.whole.lines_quarantined) == (1, 45, 0)
    assert rows(database)["quarantined_lines"] == []


def test_lines_above_a_mebibyte_are_read_to_their_ends(database: Database, tmp_path: Path) -> None:
    """Their texts are cut before they are decoded; the place after them is that in the file all the same."""
    log = tmp_path / "logs" / "cowrie.json"
    typed = event("command.input", "00000001", "2025-11-02T12:00:02.000000Z", input="x" * (1 << 20))
    append(log, line(typed) + b"".join(session(1, at=NOON)) + line(typed) + b"rubbish\n")
    ingest_days(database, log.parent, TODAY)
    append(log, b"more rubbish\n" + b"".join(session(2, at=NOON)))

    assert ingest_days(database, log.parent, TODAY).read.lines_in == 6

    found = rows(database)
    read_whole(database, log.parent)
    assert found == rows(database)
    with database.read() as connection:
        places = connection.execute(text("SELECT line, byte_offset FROM quarantined_lines ORDER BY line"))
        content = log.read_bytes()
        assert [(line, content.index(word)) for line, word in ((8, b"rubbish"), (9, b"more"))] == [*places]


def test_what_comes_of_a_session_long_closed_is_put_where_it_belongs(
    database: Database, tmp_path: Path
) -> None:
    """It is not known any more what the session was made of, so the day is read whole."""
    log = tmp_path / "logs" / "cowrie.json"
    early = session(1, at=NOON - timedelta(hours=5))
    append(log, b"".join(early[:2] + early[3:] + session(2, at=NOON)))
    ingest_days(database, log.parent, TODAY)
    append(log, early[2])

    assert ingest_days(database, log.parent, TODAY).read.events == 10

    found = rows(database)
    read_whole(database, log.parent)
    assert found == rows(database)


def test_sessions_that_were_deleted_come_back(database: Database, tmp_path: Path) -> None:
    """Reading a day again mends it, though its logs are the same."""
    log = tmp_path / "logs" / "cowrie.json"
    append(log, b"".join(session(1, at=NOON) + session(2, at=NOON)))
    ingest_days(database, log.parent, TODAY)
    with database.write() as connection:
        connection.execute(text("DELETE FROM sessions WHERE session_id = '00000001'"))

    assert ingest_days(database, log.parent, TODAY).sessions_by_day == {DAY: 2}


def test_what_is_kept_of_sessions_is_bounded(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are that nobody closes; what is not kept is read with the whole day."""
    monkeypatch.setattr("cowrie_enrich_dagster.cowrie.day_reading._MAX_BYTES", 2_000)
    log = tmp_path / "logs" / "cowrie.json"
    parts = [session(n, at=NOON + timedelta(minutes=n)) for n in range(40)]
    append(log, b"".join(b"".join(lines[:-1]) for lines in parts))
    ingest_days(database, log.parent, TODAY)
    with database.read() as connection:
        assert len(connection.execute(text("SELECT reading FROM day_readings")).scalar_one()) < 4_000
    for number, events in ((39, 1), (0, 162)):
        append(log, parts[number][-1])
        report = ingest_days(database, log.parent, TODAY)
        assert report.read.events == events
    found = rows(database)
    read_whole(database, log.parent)
    assert found == rows(database)


def test_readings_of_old_days_are_not_kept(database: Database, tmp_path: Path) -> None:
    """In whatever order the days are read: of the newest and the one before it."""
    days = [DAY - timedelta(days=number) for number in range(4)]
    for day in days:
        at = datetime(day.year, day.month, day.day, 12, tzinfo=timezone.utc)
        append(tmp_path / "logs" / f"cowrie.json.{day}", b"".join(session(day.day, at=at)))
    for day in (days[2], *days):
        ingest_days(database, tmp_path / "logs", Days(day, day))
    with database.read() as connection:
        kept = select(tables.table_of(tables.DayReading).c.day)
        assert sorted(connection.execute(kept).scalars()) == sorted(days[:2])


def test_a_run_that_was_overtaken_reads_the_day_whole(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs over the same day: one writes while the other still reads."""
    log = tmp_path / "logs" / "cowrie.json"
    append(log, b"".join(session(1, at=NOON)))
    ingest_days(database, log.parent, TODAY)
    append(log, b"".join(session(2, at=NOON + timedelta(minutes=1))))
    from cowrie_enrich_dagster.enrichment import ingest

    read_on = ingest.read_on

    def meanwhile(*args: Any, **options: Any) -> Any:
        more = read_on(*args, **options)
        monkeypatch.setattr(ingest, "read_on", read_on)
        append(log, b"".join(session(3, at=NOON + timedelta(minutes=2))))
        ingest_days(database, log.parent, TODAY)
        return more

    monkeypatch.setattr(ingest, "read_on", meanwhile)
    assert ingest_days(database, log.parent, TODAY).sessions_by_day == {DAY: 3}
    found = rows(database)
    read_whole(database, log.parent)
    assert found == rows(database)


class Sensor:
    """Writes a log over two midnights as sensors and their keepers do: late, cut off, rotated, twice."""

    def __init__(self, rng: Random, folder: Path) -> None:
        self._rng, self._folder = rng, folder
        self._log = folder / "cowrie.json"
        self._now = BEGIN
        self._open: list[list[bytes]] = []
        self._written: list[bytes] = []
        self._sessions = 0
        self._torn = b""
        self.moves: list[Callable[[], None]] = [
            *[self.goes_on] * 8,
            *[self.tears] * 2,
            *(self.repeats, self.is_late, self.raves, self.rotates, self.is_cut, self.is_packed),
            *(self.comes_in, self.uses_an_id_again, self.prints, self.is_taken_away, self.ships),
        ]

    def goes_on(self) -> None:
        lines = []
        for _ in range(self._rng.randrange(1, 6)):
            self._now += timedelta(minutes=self._rng.randrange(40))
            self._sessions += 1
            self._open.append(session(self._sessions, at=self._now, closed=self._rng.random() < 0.8))
        for events in self._rng.sample(self._open, min(4, len(self._open))):
            number = self._rng.randrange(1, len(events) + 1)
            lines += events[:number]
            del events[:number]
        self._open = [events for events in self._open if events]
        self._append(b"".join(lines))
        self._written += lines

    def tears(self) -> None:
        """Half a record, or one without its end of line."""
        if self._open:
            content = self._open.pop()[0]
            at = self._rng.choice([len(content) // 2, len(content) - 1])
            self._append(content[:at])
            self._torn = content[at:] if self._rng.random() < 0.8 else b"\n"

    def repeats(self) -> None:
        self._append(b"".join(self._rng.choices(self._written or [b""], k=3)))

    def is_late(self) -> None:
        self._sessions += 1
        at = self._now - timedelta(hours=self._rng.randrange(9))
        self._append(b"".join(session(self._sessions, at=at)))

    def raves(self) -> None:
        self._append(log_of_lines(self._rng, [b'{"eventid": 1}', *(self._written[:9] or [b"{}"])], 4) + b"\n")

    def rotates(self) -> None:
        if self._log.exists():
            self._log.rename(self._folder / f"cowrie.json.{self._rng.randrange(10**9)}")

    def is_cut(self) -> None:
        if self._log.exists():
            content = self._log.read_bytes()
            self._log.write_bytes(content[: self._rng.randrange(len(content) + 1)])

    def is_packed(self) -> None:
        for path in self._folder.glob("cowrie.json.*[0-9]"):
            path.with_suffix(f"{path.suffix}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
            break

    def comes_in(self) -> None:
        self._sessions += 1
        append(self._folder / "other" / "cowrie.json", b"".join(session(self._sessions, at=self._now)))

    def uses_an_id_again(self) -> None:
        at = self._now + timedelta(minutes=self._rng.choice([-70, -1, 3]))
        self._append(b"".join(session(self._rng.randrange(self._sessions + 1), at=at)))

    def prints(self) -> None:
        self._sessions += 1
        lines = session(self._sessions, at=self._now)
        self._append(b"".join(one.replace(b",", b",\n ") for one in lines))

    def is_taken_away(self) -> None:
        for path in self._folder.glob("cowrie.json.*"):
            path.unlink()
            break

    def ships(self) -> None:
        self._sessions += 1
        lines = session(self._sessions, at=self._now)
        append(self._folder / "shipped" / "cowrie.json", docker(lines))

    def _append(self, content: bytes) -> None:
        append(self._log, self._torn + content)
        self._torn = b""


@pytest.mark.parametrize("seed", range(8))
def test_however_a_day_grows_its_rows_are_those_of_a_whole_reading(
    tmp_path: Path, sqlite_template: Path, seed: int
) -> None:
    """Two databases see the same runs; one forgets before each of them how far it had read."""
    rng = Random(seed)
    logs = tmp_path / "logs"
    logs.mkdir()
    sensor = Sensor(rng, logs)
    sensor.goes_on()
    counts = {"on": 0, "whole": 0}
    on_path, whole_path = (shutil.copy(sqlite_template, tmp_path / name) for name in ("on.db", "whole.db"))
    with (
        closing(Database(f"sqlite:///{on_path}")) as on,
        closing(Database(f"sqlite:///{whole_path}")) as whole,
    ):
        for turn in range(40):
            for _ in range(rng.randrange(1, 3)):
                rng.choice(sensor.moves)()
            days = TODAY if rng.random() < 0.8 else rng.choice(
                [Days(DAY - timedelta(1), DAY - timedelta(1)), Days(DAY + timedelta(1), DAY + timedelta(1)),
                 Days(DAY - timedelta(1), DAY + timedelta(1))]
            )  # fmt: skip
            of_on, of_whole = ingest_days(on, logs, days), read_whole(whole, logs, days)
            counts["on" if of_on.read.bytes < of_whole.read.bytes else "whole"] += 1
            assert differences(rows(on), rows(whole)) == [], f"turn {turn}"
            assert of_on.whole.sums() == of_whole.read.sums(), f"turn {turn}"
            assert of_on.sessions_by_day == of_whole.sessions_by_day
    assert counts["on"] > 5, counts
    shutil.rmtree(logs)
