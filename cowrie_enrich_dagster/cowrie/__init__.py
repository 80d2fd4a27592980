"""Cowrie's logs to sessions: `read_pieces`, `sessions_of`; `catalogue` tells which file has what days."""

from __future__ import annotations

from .addresses import address_scope
from .catalogue import FileIndex, Scan, catalogue, days_touched, index_file, scan, survey
from .discovery import LogFile, find_log_files
from .ingest import PieceStream, read_pieces
from .processes import ReadingFailed
from .read_days import DayOfPieces
from .reports import DayCounts, PassedOver, QuarantinedLine, ReadRange, ReadReport
from .sessions import Row, Session
from .timeline import sessions_of

__all__ = [
    "DayCounts",
    "DayOfPieces",
    "FileIndex",
    "LogFile",
    "PassedOver",
    "PieceStream",
    "QuarantinedLine",
    "ReadRange",
    "ReadReport",
    "ReadingFailed",
    "Row",
    "Scan",
    "Session",
    "address_scope",
    "catalogue",
    "days_touched",
    "find_log_files",
    "index_file",
    "read_pieces",
    "scan",
    "sessions_of",
    "survey",
]
