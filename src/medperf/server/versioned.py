"""Rows that have an owner, a name of their own among the owner's, and a version that counts their changes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from medperf.domain.errors import Conflict
from medperf.server.db import Columns, Transaction
from medperf.server.names import name_key
from medperf.server.schema import now


class Versioned:
    """The writes of one such table.

    Args:
        table: with ``owner_id``, ``name``, ``version``, ``created_at`` and ``modified_at``.
        links: names the assets that a row is made of; its first column is the row, its second the asset.
        label: for people, e.g. ``"a benchmark"``.
        noun: of the command line.
        returned: what `insert_row` gives besides the id.
    """

    def __init__(self, table: sa.Table, links: sa.Table, *, label: str, noun: str, returned: Columns = ()) -> None:
        self._table, self._label, self._noun, self._returned = table, label, noun, returned
        self._link = sa.insert(links)
        self._row, self._asset = (column.name for column in links.columns)

    async def insert(self, tx: Transaction, values: dict[str, Any], asset_ids: Collection[int]) -> int:
        """As `insert_row`; only the id."""
        return int((await self.insert_row(tx, values, asset_ids))[0])

    async def insert_row(self, tx: Transaction, values: dict[str, Any], asset_ids: Collection[int]) -> sa.Row[Any]:
        """A new row; returns its id and what else was asked for.

        Raises:
            Conflict: ``name_taken`` or ``asset_deleted``.
        """
        moment = now()
        row = await tx.insert_row_or_none(
            self._table,
            {
                "version": 1,
                "created_at": moment,
                "modified_at": moment,
                "name_key": name_key(values["name"]),
                **values,
            },
            self._returned,
        )
        if row is None:
            raise self.name_taken(values["name"])
        try:
            await tx.execute_many(self._link, [{self._row: row[0], self._asset: asset_id} for asset_id in asset_ids])
        except IntegrityError as error:
            raise Conflict(
                "asset_deleted", "An asset that it names was deleted meanwhile.", "Upload the file again."
            ) from error
        return row

    async def update(self, tx: Transaction, row_id: int, version: int, changes: dict[str, Any]) -> bool:
        """Change a row if it still has that version; returns whether it had.

        Raises:
            Conflict: ``name_taken``.
        """
        table = self._table
        if "name" in changes:
            changes = {**changes, "name_key": name_key(changes["name"])}
        statement = sa.update(table).where(table.c.id == row_id, table.c.version == version)
        try:
            done = await tx.execute(statement.values(version=version + 1, modified_at=now(), **changes))
        except IntegrityError as error:
            raise self.name_taken(changes.get("name", "")) from error
        return done.rowcount == 1

    def name_taken(self, name: str) -> Conflict:
        """The error of a name that its owner uses already."""
        return Conflict(
            "name_taken",
            f"You already have {self._label} named {name!r}.",
            f"Choose another name; see yours with: medperf {self._noun} ls --mine",
        )
