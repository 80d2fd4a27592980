"""Cowrie's log files to sessions: `read_sessions`; `catalogue` tells which file holds which days."""

from __future__ import annotations

from .addresses import address_scope
from .catalogue import FileIndex, Scan, catalogue, days_touched, index_file, scan, survey
from .discovery import LogFile, find_log_files
from .ingest import DayOfSessions, SessionStream, read_sessions
from .reports import DayCounts, PassedOver, QuarantinedLine, ReadProgress, ReadRange, ReadReport
from .sessioniser import SESSION_HORIZON
from .sessions import Session

__all__ = [
    "SESSION_HORIZON",
    "DayCounts",
    "DayOfSessions",
    "FileIndex",
    "LogFile",
    "PassedOver",
    "QuarantinedLine",
    "ReadProgress",
    "ReadRange",
    "ReadReport",
    "Scan",
    "Session",
    "SessionStream",
    "address_scope",
    "catalogue",
    "days_touched",
    "find_log_files",
    "index_file",
    "read_sessions",
    "scan",
    "survey",
]
