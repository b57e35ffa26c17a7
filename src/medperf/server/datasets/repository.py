"""Statements about datasets."""

from __future__ import annotations

import functools
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from medperf.domain.errors import Conflict
from medperf.server.authz import Actor
from medperf.server.datasets import policy
from medperf.server.datasets.tables import FACETS, datasets, opened_datasets
from medperf.server.db import Transaction
from medperf.server.names import name_key
from medperf.server.paging import Listing
from medperf.server.parties.tables import parties
from medperf.server.responses import raw_json
from medperf.server.schema import now

COLUMNS = (
    datasets.c.id,
    datasets.c.uuid,
    datasets.c.name,
    datasets.c.description,
    datasets.c.location,
    datasets.c.site_label,
    datasets.c.preparator_id,
    datasets.c.supersedes_id,
    datasets.c.identity,
    datasets.c.raw_identity,
    datasets.c.state,
    datasets.c.is_valid,
    datasets.c.is_active,
    datasets.c.statistics_digest,
    datasets.c.owner_id,
    parties.c.name.label("owner_name"),
    parties.c.kind.label("owner_kind"),
    datasets.c.version,
    datasets.c.created_at,
    datasets.c.modified_at,
)


def view(row: sa.Row[Any]) -> dict[str, Any]:
    """As `medperf.wire.datasets.DatasetView` in lists."""
    return {
        "id": row.id,
        "uuid": row.uuid,
        "name": row.name,
        "description": row.description,
        "location": row.location,
        "site_label": row.site_label,
        "preparator": row.preparator_id,
        "supersedes": row.supersedes_id,
        "identity": row.identity,
        "raw_identity": row.raw_identity,
        "state": row.state,
        "is_valid": row.is_valid,
        "is_active": row.is_active,
        "statistics_digest": row.statistics_digest,
        "owner": {"id": row.owner_id, "name": row.owner_name, "kind": row.owner_kind},
        "version": row.version,
        "created_at": row.created_at,
        "modified_at": row.modified_at,
    }


def detail(row: sa.Row[Any]) -> dict[str, Any]:
    """With the statistics."""
    return view(row) | {"statistics": None if row.statistics is None else raw_json(row.statistics)}


def select_datasets(*more: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Datasets with their owners."""
    return sa.select(*COLUMNS, *more).join(parties, parties.c.id == datasets.c.owner_id)


@functools.cache
def _one(is_admin: bool) -> sa.Select[Any]:
    statement = select_datasets(datasets.c.statistics)
    return statement.where(datasets.c.id == sa.bindparam("dataset_id"), policy.visible_to(is_admin))


_MINE = datasets.c.owner_id == sa.bindparam("owner")
_BY_UUID = select_datasets(datasets.c.statistics).where(_MINE, datasets.c.uuid == sa.bindparam("uuid"))
_BY_IDENTITY = sa.select(datasets.c.id).where(_MINE, datasets.c.identity == sa.bindparam("identity"))
_BY_NAME = sa.select(datasets.c.id).where(_MINE, datasets.c.name == sa.bindparam("name"))
_LOCKED = (
    sa.select(datasets.c.id, datasets.c.state, datasets.c.statistics_digest, datasets.c.version)
    .where(datasets.c.id == sa.bindparam("dataset_id"))
    .with_for_update(key_share=True)
)


async def get(tx: Transaction, actor: Actor, dataset_id: int) -> sa.Row[Any] | None:
    """One with its statistics, if the actor may see it."""
    return await tx.first(_one(actor.is_admin), {"dataset_id": dataset_id, **actor.sql})


async def by_uuid(tx: Transaction, owner_id: int, uuid: str) -> sa.Row[Any] | None:
    """The one that its owner made with that UUID."""
    return await tx.first(_BY_UUID, {"owner": owner_id, "uuid": uuid})


async def lock(tx: Transaction, dataset_id: int) -> sa.Row[Any]:
    """It is changed by nobody else until this transaction ends. It is there: datasets are never deleted."""
    row = await tx.first(_LOCKED, {"dataset_id": dataset_id})
    assert row is not None
    return row


async def insert(tx: Transaction, values: dict[str, Any]) -> int | None:
    """A new one; returns its id, or None where a name, a UUID or an identity of the owner's is there already."""
    moment = now()
    made = {"version": 1, "created_at": moment, "modified_at": moment, "name_key": name_key(values["name"]), **values}
    return await tx.insert_or_none(datasets, made)


async def check_free(tx: Transaction, owner_id: int, values: dict[str, Any], *, but: int = 0) -> None:
    """Whether the owner has another dataset with that identity or that name.

    Args:
        values: "identity" and "name" of them are looked at.
        but: the id of the one that has them itself.

    Raises:
        Conflict: ``dataset_exists``, ``name_taken``.
    """
    if "identity" in values:
        row = await tx.first(_BY_IDENTITY, {"owner": owner_id, "identity": values["identity"]})
        if row is not None and row.id != but:
            raise Conflict(
                "dataset_exists",
                f"This data is already registered as dataset {row.id}.",
                f"Use that one: medperf dataset view {row.id}",
            )
    if "name" in values:
        row = await tx.first(_BY_NAME, {"owner": owner_id, "name": values["name"]})
        if row is not None and row.id != but:
            raise _name_taken(values["name"])


async def update(tx: Transaction, dataset_id: int, version: int, changes: dict[str, Any]) -> bool:
    """Change a row if it still has that version; returns whether it had.

    Raises:
        Conflict: ``name_taken``: somebody registered the same at this moment.
    """
    if "name" in changes:
        changes = {**changes, "name_key": name_key(changes["name"])}
    statement = sa.update(datasets).where(datasets.c.id == dataset_id, datasets.c.version == version)
    try:
        done = await tx.execute(statement.values(version=version + 1, modified_at=now(), **changes))
    except IntegrityError as error:
        raise _name_taken(changes.get("name", "")) from error
    return done.rowcount == 1


def _name_taken(name: str) -> Conflict:
    return Conflict(
        "name_taken",
        f"You already have a dataset named {name!r}.",
        "Choose another name; see yours with: medperf dataset ls --mine",
    )


# ------------------------------------------------------------------------------------------- shown to benchmarks' owners

_HIDE = sa.delete(opened_datasets).where(
    *(opened_datasets.c[name] == sa.bindparam(f"the_{name}") for name in ("party_id", "dataset_id", "benchmark_id"))
)


async def show(tx: Transaction, dataset_id: int, *, benchmark_id: int, party_id: int, shown: bool) -> None:
    """Whether the members of a benchmark's owner see it because of that benchmark, from now on."""
    values = {"party_id": party_id, "dataset_id": dataset_id, "benchmark_id": benchmark_id}
    if shown:
        await tx.insert_or_none(opened_datasets, values)
    else:
        await tx.execute(_HIDE, {f"the_{name}": value for name, value in values.items()})


LISTING = Listing(
    select_datasets(),
    key=datasets.c.id,
    view=view,
    visible=policy.visible_to,
    filters={"owner": datasets.c.owner_id, "name": datasets.c.name, "preparator": datasets.c.preparator_id},
    facets=FACETS,
    public=policy.PUBLIC,
    names=(datasets.c.name_key, datasets.c.name),
    granted=opened_datasets,
)
