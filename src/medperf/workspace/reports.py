"""Reports of compatibility tests, kept for good."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from medperf.domain.digests import Digest, canonical_json
from medperf.domain.errors import InvalidInput, NotFound
from medperf.workspace.database import Database

_FIX = "List them with: medperf test ls"


@dataclass(frozen=True)
class StoredReport:
    """One report. ``created_at``: when it was saved (ISO 8601, UTC)."""

    id: Digest
    created_at: str
    report: dict[str, Any]


class Reports:
    """All reports of a workspace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, report: dict[str, Any]) -> Digest:
        """Keep a report (JSON types). The same content saved again keeps its id and becomes the newest.

        Returns:
            its id: the digest of its canonical form.
        """
        data = canonical_json(report)
        report_id = Digest.of(data)
        created_at = datetime.now(UTC).isoformat(timespec="seconds")
        with self._database.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO reports (id, created_at, report) VALUES (?, ?, ?)",
                (report_id, created_at, data.decode()),
            )
        return report_id

    def ls(self) -> list[StoredReport]:
        """All reports, newest first."""
        with self._database.reading() as connection:
            rows = (
                connection.execute("SELECT id, created_at, report FROM reports ORDER BY number DESC").fetchall()
                if connection
                else []
            )
        return [_stored(row) for row in rows]

    def get(self, id_or_prefix: str | None = None) -> StoredReport:
        """One report by its id or an unambiguous beginning of it; None = the newest.

        Raises:
            NotFound: there is none.
            InvalidInput: several begin like this, or it is no beginning of a digest.
        """
        prefix = (id_or_prefix or "").strip().lower().removeprefix("sha256:")
        if not re.fullmatch(r"[0-9a-f]{0,64}", prefix) or (id_or_prefix is not None and not prefix):
            raise InvalidInput("bad_report_id", f"{id_or_prefix!r} is no beginning of a report's id.", _FIX)
        query = "SELECT id, created_at, report FROM reports WHERE substr(id, 8, ?) = ? ORDER BY number DESC LIMIT 2"
        with self._database.reading() as connection:
            rows = connection.execute(query, (len(prefix), prefix)).fetchall() if connection else []
        if not rows:
            wanted = f"No report begins with {prefix!r}." if prefix else "No compatibility test has been run here yet."
            raise NotFound("unknown_report", wanted, _FIX if prefix else "Run one with: medperf test run")
        if len(rows) > 1 and prefix:
            raise InvalidInput(
                "ambiguous_report", f"More than one report begins with {prefix!r}.", f"Give more of its digits. {_FIX}"
            )
        return _stored(rows[0])


def _stored(row: tuple[str, str, str]) -> StoredReport:
    return StoredReport(id=Digest(row[0]), created_at=row[1], report=json.loads(row[2]))
