"""Models that a person at this site accepted or refused, by the digest of all that runs. An answer holds for this digest and form alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from medperf.domain.digests import Digest
from medperf.workspace.database import Database


@dataclass(frozen=True)
class Acceptance:
    """One answer of a person here.

    Attributes:
        digest: `medperf.domain.sitepolicy.ModelOffer.digest`.
        accepted: False: the person refused it.
        model, name, owner, owner_name: the MLCube as it was shown.
        resources: the limits that were shown, as one line.
        who: the account that was logged in.
        at: ISO 8601, UTC.
    """

    digest: Digest
    form: str
    accepted: bool
    model: int
    name: str
    owner: int
    owner_name: str
    resources: str
    who: str
    at: str = ""


_COLUMNS = "digest, form, accepted, model, name, owner, owner_name, resources, who, at"


class Acceptances:
    """All answers of a workspace; the newest of a digest counts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, acceptance: Acceptance) -> Acceptance:
        """Write down an answer; an earlier one for the same digest and form counts no more."""
        one = acceptance
        with self._database.writing() as connection:
            connection.execute(
                f"INSERT OR REPLACE INTO acceptances ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - names of ours
                (
                    *(one.digest, one.form, int(one.accepted), one.model, one.name, one.owner, one.owner_name),
                    *(one.resources, one.who, datetime.now(UTC).isoformat(timespec="seconds")),
                ),
            )
        found = self.find(one.digest, one.form)
        assert found is not None, "it was written just now"
        return found

    def find(self, digest: Digest, form: str) -> Acceptance | None:
        """The answer for this digest and form; None: nobody was asked."""
        return next((one for one in self.ls() if (one.digest, one.form) == (digest, form)), None)

    def ls(self) -> list[Acceptance]:
        """All of them, newest first."""
        query = f"SELECT {_COLUMNS} FROM acceptances ORDER BY at DESC, model DESC"  # noqa: S608 - names of ours
        with self._database.reading() as connection:
            rows = connection.execute(query).fetchall() if connection else []
        return [Acceptance(Digest(row[0]), row[1], bool(row[2]), *row[3:]) for row in rows]
