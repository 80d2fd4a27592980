"""Cowrie's logs to sessions: `read_pieces`, `sessions_of`; `catalogue` tells which file has what days."""

from __future__ import annotations

from .addresses import address_scope
from .catalogue import FileIndex, Scan, catalogue, days_touched, index_file, scan, survey
from .discovery import LogFile, find_log_files
from .ingest import DayOfPieces, PieceStream, read_pieces
from .reports import DayCounts, PassedOver, QuarantinedLine, ReadProgress, ReadRange, ReadReport
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
    "ReadProgress",
    "ReadRange",
    "ReadReport",
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
