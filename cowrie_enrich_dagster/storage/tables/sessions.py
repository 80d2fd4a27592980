"""What was read off the logs: files, sessions, addresses by day, and lines that could not be used."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, Date, Index, Integer, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from cowrie_enrich_dagster.storage.tables.base import Base, BigId, Json, UtcDateTime, partial_index


class _SessionColumns:
    """What a session and a piece of one have in common. Lists of deeds are null in rows of before v17."""

    sensor: Mapped[str] = mapped_column(
        Text, primary_key=True, doc="Name of the sensor, from its events, else from the folder of its logs"
    )
    session_id: Mapped[str] = mapped_column(
        Text, primary_key=True, doc="Cowrie's id of the session; an id that is used again is another row"
    )
    started_at: Mapped[datetime] = mapped_column(
        UtcDateTime, primary_key=True, doc="When its first event was logged"
    )
    day: Mapped[date] = mapped_column(Date, index=True, doc="UTC day of `started_at`")
    src_ip: Mapped[str | None] = mapped_column(
        Text,
        doc="Source address, IPv6 compressed, IPv4-mapped as IPv4; text that is no address as it was logged",
    )
    src_port: Mapped[int | None] = mapped_column(Integer, doc="Port of the source")
    dst_port: Mapped[int | None] = mapped_column(Integer, doc="Port of the honeypot")
    protocol: Mapped[str | None] = mapped_column(Text, doc="What it spoke: `ssh`, `telnet`, ...")
    ended_at: Mapped[datetime] = mapped_column(UtcDateTime, doc="When its last event was logged")
    closed_at: Mapped[datetime | None] = mapped_column(
        UtcDateTime, doc="When it was first closed; more may have been logged after that"
    )
    duration_ms: Mapped[int] = mapped_column(
        BigInteger, doc="Milliseconds, as Cowrie logged them at the close, else from first to last event"
    )
    has_connect: Mapped[bool] = mapped_column(doc="Whether its connect was seen")
    has_closed: Mapped[bool] = mapped_column(doc="Whether its close was seen")
    event_count: Mapped[int] = mapped_column(
        Integer, doc="Distinct events; a line that is there twice counts once"
    )
    login_failures: Mapped[int] = mapped_column(Integer, doc="Logins that were refused")
    login_successes: Mapped[int] = mapped_column(Integer, doc="Logins that succeeded")
    commands: Mapped[int] = mapped_column(Integer, doc="Commands that were entered")
    commands_failed: Mapped[int] = mapped_column(Integer, doc="Commands that Cowrie does not know")
    downloads: Mapped[int] = mapped_column(Integer, doc="Files that the honeypot was made to fetch or write")
    uploads: Mapped[int] = mapped_column(Integer, doc="Files that were sent to it")
    tunnel_requests: Mapped[int] = mapped_column(
        Integer, doc="Requests to be let through to another host (direct-tcpip)"
    )
    tunnel_data: Mapped[int] = mapped_column(
        Integer, doc="Pieces of data that were sent through such tunnels"
    )
    username: Mapped[str | None] = mapped_column(
        Text, doc="User name of the first login that succeeded, else of the first attempt"
    )
    password: Mapped[str | None] = mapped_column(Text, doc="Password of that login")
    client_version: Mapped[str | None] = mapped_column(
        Text, doc="What the client says it is, the first that was logged, in one spelling (`SSH-2.0-Go`)"
    )
    hassh: Mapped[str | None] = mapped_column(
        Text, doc="Fingerprint of the SSH client's algorithms, the first that was logged"
    )
    arch: Mapped[str | None] = mapped_column(Text, doc="Architecture that the session was shown")
    terminal_width: Mapped[int | None] = mapped_column(Integer, doc="Columns of its terminal")
    terminal_height: Mapped[int | None] = mapped_column(Integer, doc="Lines of its terminal")
    ja4h: Mapped[str | None] = mapped_column(
        Text, doc="JA4H fingerprint of an HTTP request sent through a tunnel, the first that was logged"
    )
    ja4: Mapped[str | None] = mapped_column(
        Text, doc="JA4 fingerprint of a TLS greeting sent through a tunnel, the first that was logged"
    )
    logins: Mapped[list[dict[str, Any]] | None] = mapped_column(
        Json, doc="Each credential that was tried, `{username, password, key, success, attempts}`"
    )
    logins_left_out: Mapped[int] = mapped_column(
        Integer, server_default="0", doc="Attempts that `logins` does not tell"
    )
    command_lines: Mapped[list[str] | None] = mapped_column(
        Json, doc="The lines as they were typed, in order"
    )
    command_lines_left_out: Mapped[int] = mapped_column(
        Integer, server_default="0", doc="Lines that `command_lines` does not tell"
    )
    files: Mapped[list[dict[str, Any]] | None] = mapped_column(
        Json, doc="Files it brought or tried to bring, `{sha256, url, name, how}`"
    )
    files_left_out: Mapped[int] = mapped_column(
        Integer, server_default="0", doc="Files that `files` does not tell"
    )
    tunnels: Mapped[list[dict[str, Any]] | None] = mapped_column(
        Json, doc="Hosts it wanted to be let through to, `{host, port, requests}`"
    )
    tunnels_left_out: Mapped[int] = mapped_column(
        Integer, server_default="0", doc="Requests that `tunnels` does not tell"
    )
    file_hashes: Mapped[list[str] | None] = mapped_column(Json, doc="The distinct SHA-256 in `files`, sorted")
    urls: Mapped[list[str] | None] = mapped_column(Json, doc="The distinct URLs in `files`, sorted")
    passwords_sha1: Mapped[list[str] | None] = mapped_column(
        Json, doc="JSON list of SHA-1, upper case, of the passwords tried; at most 1,000"
    )


class SessionRecord(_SessionColumns, Base):
    """One Cowrie session on one sensor; `day` is the UTC day it started."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ix_sessions_src_ip", "src_ip"),
        # Most sessions brought no file, many tried no password: else each look for keys reads all of a day.
        partial_index("ix_sessions_files", "file_hashes <> '[]'", "day"),
        partial_index("ix_sessions_passwords", "passwords_sha1 <> '[]'", "day"),
    )


class SessionPiece(_SessionColumns, Base):
    """What one day holds of a session that other pieces belong to, too: its row in `sessions` joins them all.

    Either every piece of an id on a sensor stands here, or none does: then each of its sessions is one piece.
    """

    __tablename__ = "session_pieces"


class SessionIp(Base):
    """One source address on one day, whether it may be asked about (`scope`) and how much it is worth.

    A `known_scanner` is on the operator's list: no call is spent on it, wherever it may be routed.
    """

    __tablename__ = "session_ips"
    day: Mapped[date] = mapped_column(Date, primary_key=True, doc="UTC day on which the sessions began")
    src_ip: Mapped[str] = mapped_column(Text, primary_key=True, doc="Source address, as in `sessions`")
    sessions: Mapped[int] = mapped_column(Integer, doc="Sessions of the address that began on the day")
    sensors: Mapped[int] = mapped_column(Integer, doc="Sensors that saw it on the day")
    first_seen: Mapped[datetime] = mapped_column(UtcDateTime, doc="Earliest start of these sessions")
    last_seen: Mapped[datetime] = mapped_column(UtcDateTime, doc="Latest end of these sessions")
    login_failures: Mapped[int] = mapped_column(Integer, doc="Logins that were refused, in all of them")
    login_successes: Mapped[int] = mapped_column(Integer, doc="Logins that succeeded, in all of them")
    commands: Mapped[int] = mapped_column(Integer, doc="Commands that were entered, in all of them")
    downloads: Mapped[int] = mapped_column(Integer, doc="Files that were fetched or written, in all of them")
    uploads: Mapped[int] = mapped_column(Integer, doc="Files that were sent, in all of them")
    scope: Mapped[str] = mapped_column(
        String(16),
        doc="`global`, or why nobody is asked about it: `private`, `loopback`, `reserved`, `own`, `invalid`",
    )
    priority: Mapped[int] = mapped_column(
        Integer,
        doc="What an answer is worth: 10,000 a login succeeded, 5,000 a file was left, 1 for each "
        "session times the sensors that saw it (at most 4,999)",
    )
    known_scanner: Mapped[bool] = mapped_column(
        server_default=false(), doc="On the operator's list of scanners: no call is spent on it"
    )
    scanner_list: Mapped[str | None] = mapped_column(
        String(64),
        doc="The list of scanners (`list:name`) that holds it now: no call is spent on it; null: none",
    )

    __table_args__ = (Index("ix_session_ips_src_ip", "src_ip"),)


class MovedDay(Base):
    """A UTC day of which another one's logs changed a session: what follows from `sessions` does not yet."""

    __tablename__ = "moved_days"
    day: Mapped[date] = mapped_column(
        Date, primary_key=True, doc="A UTC day of which another one's logs changed a session"
    )
    moved_at: Mapped[datetime] = mapped_column(
        UtcDateTime, doc="When; the row is gone once `session_ips` and `enriched_sessions` follow"
    )


class ChangedSession(Base):
    """A session that was written since a table was that follows from `sessions`: a tick looks at it alone."""

    __tablename__ = "changed_sessions"
    day: Mapped[date] = mapped_column(Date, primary_key=True, doc="UTC day of the session")
    follower: Mapped[str] = mapped_column(
        String(32),
        primary_key=True,
        doc="What does not follow yet: `session_ips` or `enriched_sessions`; the row is gone once it does",
    )
    token: Mapped[str] = mapped_column(
        String(16), primary_key=True, doc="Of the writing: who follows takes away what was said before"
    )
    sensor: Mapped[str] = mapped_column(Text, primary_key=True, doc="Sensor of the session")
    session_id: Mapped[str] = mapped_column(
        Text, primary_key=True, doc="Its id; empty: any sessions of the day may have been written"
    )
    src_ip: Mapped[str] = mapped_column(Text, primary_key=True, doc="Its source address; empty: it has none")


class DayReading(Base):
    """How far the logs of a growing day were read, so that what comes after that is read alone."""

    __tablename__ = "day_readings"
    day: Mapped[date] = mapped_column(Date, primary_key=True, doc="A UTC day that was read by itself")
    token: Mapped[str] = mapped_column(
        String(32), doc="Of the run that wrote the day's sessions last: another one's reading is not theirs"
    )
    sessions: Mapped[int | None] = mapped_column(
        Integer, doc="Sessions of the day then; where their number is another one it is read whole"
    )
    reading: Mapped[str | None] = mapped_column(
        Text,
        doc="JSON: where in each file the reading ended, and the sessions that may go on; null: the day is "
        "read whole next time",
    )


class LogFile(Base):
    """Where each day begins and ends in one log file, so that an unchanged file is scanned once."""

    __tablename__ = "log_files"
    path: Mapped[str] = mapped_column(Text, primary_key=True, doc="The file, relative to the log root")
    file_index: Mapped[dict[str, Any]] = mapped_column(
        Json,
        doc="JSON: in which form it holds events, and where each day begins and ends in it, so that "
        "an unchanged file is scanned once; of a file that is no log the reason, and nothing of "
        "its content",
    )


class QuarantinedLine(Base):
    """A log line that could not be used, and why. `line` 0 stands for the file itself."""

    __tablename__ = "quarantined_lines"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True, doc="Number")
    path: Mapped[str] = mapped_column(Text, doc="The file, relative to the log root")
    line: Mapped[int] = mapped_column(BigInteger, doc="Number of the line; 0 is the file itself")
    byte_offset: Mapped[int] = mapped_column(BigInteger, doc="Where the line begins, in decompressed bytes")
    reason: Mapped[str] = mapped_column(Text, doc="Why it could not be used")
    excerpt: Mapped[str] = mapped_column(Text, doc="At most 200 printable characters of it")

    __table_args__ = (Index("ix_quarantined_lines_path_line", "path", "line"),)
