"""Moving the reference's files into the database."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from cowrie_enrich_dagster.cache import DatabaseCache, FilesystemCache, ImportReport, import_directory
from tests.integration.cache.conftest import SERVICE, TTLS, Now, answer
from tests.integration.cache.test_filesystem_tier import FILE_HASH, hashed, put


def test_answers_move_with_their_age_and_everything_else_is_reported(
    tmp_path: Path, database_cache: DatabaseCache, now: Now
) -> None:
    """Each file has one outcome, the outcomes add up, and a second run imports nothing."""
    base, week = tmp_path / "cache", 7 * 86_400
    moment = now().timestamp()
    put(base / "dshield/198/51/100/7.json", {"ip": {"number": "198.51.100.7"}}, moment - 3 * 86_400)
    put(base / "dshield/198/51/100/8.json", {"ip": {"number": "198.51.100.8"}}, moment - week - 1)
    put(base / "dshield" / hashed("2001:db8::7"), {"ip": {"number": "2001:db8::7"}}, moment - 86_400)
    put(base / "dshield" / hashed("198.51.100.9"), {"ip": {"count": 3}}, moment)
    put(base / "virustotal" / f"01/23/45/67/{FILE_HASH}.json", {"data": {"id": FILE_HASH}}, moment - 10)
    put(base / "hibp/5B/AA/6/5BAA6.json", {"1E4C9B93F3F0682250B6CF8331B7EE68FD8": 3}, moment - 20)
    put(base / "urlhaus" / hashed("203.0.113.7"), {"urls": [{"host": "203.0.113.7"}]}, moment - 30)
    bad = {
        "dshield/198/51/100/999.json": {"x": 1},
        "dshield/198.51.100.7.json": {"x": 1},
        "dshield/1/2/3/4.json": {},
        "dshield/1/2/3/5.json": b"garbage",
        "dshield/notes.txt": b"hello",
        f"virustotal/ff/23/45/67/{FILE_HASH}.json": {"x": 1},
        "spur/aa/x.json": {"x": 1},
        "top.json": {"x": 1},
    }
    for path, content in bad.items():
        put(base / path, content, moment)
    (base / "hibp" / "link").symlink_to(base / "dshield")
    seen: list[int] = []

    def progress(report: ImportReport) -> None:
        seen.append(report.files)

    report = import_directory(
        FilesystemCache(base, TTLS, clock=now), database_cache, progress=progress, batch=4, clock=now
    )
    reported = {str(Path(path).relative_to(base)) for path, _ in report.bad}
    assert reported == {*bad, "hibp/link"} - {"spur/aa/x.json"} | {"spur"}
    assert all(reason for _, reason in report.bad)
    assert report.key_lost == [str(base / "dshield" / hashed("198.51.100.9"))]
    assert (report.imported, report.expired, report.already_there) == (5, 1, 0)
    assert report.files == 5 + 1 + len(report.key_lost) + len(report.bad)
    assert seen == [4, 8, 12, 16]
    assert json.loads(json.dumps(report.as_dict()))["imported"] == 5

    found = database_cache.get_many(SERVICE, ["198.51.100.7", "198.51.100.8", "2001:db8::7", "198.51.100.9"])
    assert found.keys() == {"198.51.100.7", "2001:db8::7"}
    assert found["198.51.100.7"].fetched_at == now().replace(microsecond=0) - timedelta(days=3) + timedelta(
        microseconds=round(moment % 1 * 1e6)
    )
    assert database_cache.get("virustotal", FILE_HASH)
    assert database_cache.get("hibp", "5BAA6")
    assert database_cache.get("urlhaus", "203.0.113.7")

    again = import_directory(FilesystemCache(base, TTLS, clock=now), database_cache, clock=now)
    assert (again.imported, again.already_there) == (0, 5)
    assert (again.expired, again.bad, again.key_lost) == (report.expired, report.bad, report.key_lost)


def test_newer_answers_in_the_database_stay(tmp_path: Path, sqlite_cache: DatabaseCache, now: Now) -> None:
    """Of two files for one key the newer is imported, and neither replaces what was fetched since."""
    base = tmp_path / "files"
    moment = now().timestamp()
    put(base / "dshield/198/51/100/7.json", {"v": "file"}, moment - 86_400)
    put(base / "dshield/198/51/100/8.json", {"v": "older file", "ip": "198.51.100.8"}, moment - 86_400)
    put(base / "dshield" / hashed("198.51.100.8"), {"v": "newer", "ip": "198.51.100.8"}, moment - 3_600)
    sqlite_cache.set(answer("198.51.100.7", now() - timedelta(hours=1), {"v": "fetched since"}))
    report = import_directory(FilesystemCache(base, TTLS, clock=now), sqlite_cache, clock=now)
    assert (report.imported, report.already_there) == (1, 2)
    found = sqlite_cache.get_many(SERVICE, ["198.51.100.7", "198.51.100.8"])
    assert [found[key].payload["v"] for key in sorted(found)] == ["fetched since", "newer"]  # type: ignore[index]


def test_an_interrupted_import_goes_on(tmp_path: Path, sqlite_cache: DatabaseCache, now: Now) -> None:
    """What was imported before the interruption is not imported again, and nothing is missing."""
    base = tmp_path / "files"
    files = FilesystemCache(base, TTLS, clock=now)
    entries = {f"198.51.100.{n}": answer(f"198.51.100.{n}", now() - timedelta(hours=n)) for n in range(100)}
    files.set_many(entries.values())

    def interrupt(report: ImportReport) -> None:
        if report.files == 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_directory(
            FilesystemCache(base, TTLS, clock=now), sqlite_cache, progress=interrupt, batch=20, clock=now
        )
    report = import_directory(FilesystemCache(base, TTLS, clock=now), sqlite_cache, batch=20, clock=now)
    assert (report.imported, report.already_there) == (40, 60)
    assert sqlite_cache.get_many(SERVICE, list(entries)) == entries


def test_files_in_an_older_answer_format_are_not_imported(
    tmp_path: Path, sqlite_cache: DatabaseCache, now: Now
) -> None:
    """They are reported, not filed under the format that the service has now."""
    put(tmp_path / "files/dshield/198/51/100/7.json", {"v": 1}, now().timestamp())
    newer = DatabaseCache(sqlite_cache.database, versions={SERVICE: 2})
    report = import_directory(
        FilesystemCache(tmp_path / "files", TTLS, versions=newer.versions, clock=now), newer, clock=now
    )
    assert (report.imported, len(report.bad)) == (0, 1)
    assert newer.stats() == {}


def test_a_folder_that_does_not_exist_is_an_error(
    tmp_path: Path, sqlite_cache: DatabaseCache, now: Now
) -> None:
    """A mistyped folder is not an empty cache."""
    with pytest.raises(FileNotFoundError):
        import_directory(FilesystemCache(tmp_path / "missing", TTLS), sqlite_cache, clock=now)


def test_names_that_could_harm_a_terminal_are_escaped(
    tmp_path: Path, sqlite_cache: DatabaseCache, now: Now
) -> None:
    """The report can be printed whatever the files are called."""
    base = tmp_path / "files"
    put(base / "dshield" / "\x1b[2J\udcff.json", {"x": 1}, 0)
    report = import_directory(FilesystemCache(base, TTLS, clock=now), sqlite_cache, clock=now)
    assert report.bad[0][0].endswith("\\x1b[2J\\udcff.json")
