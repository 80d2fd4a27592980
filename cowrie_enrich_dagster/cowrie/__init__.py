"""Cowrie's logs to sessions: `read_pieces`, `sessions_of`; `index_files` tells which file has what days."""

from __future__ import annotations

from .addresses import address_scope
from .day_reading import DayReading
from .discovery import LogFile, find_log_files
from .file_index import FileIndex, Scan, index_file, index_files, scan, survey
from .garbage import few_collections
from .read_days import DayOfPieces
from .read_pieces import DayReadOn, PieceStream, read_on, read_pieces
from .read_report import DayCounts, PassedOver, QuarantinedLine, ReadRange, ReadReport
from .readers import ReadingFailed
from .sessions import NOTHING_DONE, Row, Session
from .timeline import sessions_of

__all__ = [
    "NOTHING_DONE",
    "DayCounts",
    "DayOfPieces",
    "DayReadOn",
    "DayReading",
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
    "few_collections",
    "find_log_files",
    "index_file",
    "index_files",
    "read_on",
    "read_pieces",
    "scan",
    "sessions_of",
    "survey",
]
