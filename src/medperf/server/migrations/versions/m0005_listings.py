"""Indexes for listings, searches and sorts; names as they are searched; which assets benchmarks open."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from medperf.server.names import name_key

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_CHUNK = 1000
_FACETS = {
    "benchmarks": ("approval", "state", "is_valid", "is_active"),
    "mlcubes": ("kind", "state", "is_valid"),
    "assets": ("is_public",),
}


def upgrade() -> None:
    """Go forward."""
    key = sa.String(384).with_variant(sa.String(384, collation="C"), "postgresql")
    op.add_column("assets", sa.Column("is_public", sa.Boolean(), nullable=False, server_default=sa.false()))
    for table in _FACETS:
        op.add_column(table, sa.Column("name_key", key, nullable=False, server_default=""))
        _fill_keys(table)
    op.create_table(
        "opened_assets",
        sa.Column("party_id", sa.Integer(), nullable=False),
        sa.Column("asset_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["assets.id"], name=op.f("fk_opened_assets_asset_id")),
        sa.ForeignKeyConstraint(["party_id"], ["parties.id"], name=op.f("fk_opened_assets_party_id")),
        sa.PrimaryKeyConstraint("party_id", "asset_id", name=op.f("pk_opened_assets")),
    )
    op.create_index("ix_opened_assets_asset_id", "opened_assets", ["asset_id"], unique=False)
    _fill_opened()
    op.drop_index("ix_assets_owner_id", "assets")
    for table, facets in _FACETS.items():
        op.create_index(f"ix_{table}_owner_id", table, ["owner_id", "id"], unique=False)
        op.create_index(f"ix_{table}_facets", table, [*facets, "id"], unique=False)
        op.create_index(f"ix_{table}_owner_facets", table, ["owner_id", *facets, "id"], unique=False)
        names = ["name_key", "name", "id"]
        op.create_index(f"ix_{table}_name", table, [*facets, *names], unique=False)
        op.create_index(f"ix_{table}_owner_facets_name", table, ["owner_id", *facets, *names], unique=False)
        if len(facets) > 1:
            op.create_index(f"ix_{table}_owner_name", table, ["owner_id", *names], unique=False)
    op.create_index("ix_assets_facets_digest", "assets", ["is_public", "digest", "id"], unique=False)
    op.create_index("ix_assets_owner_facets_digest", "assets", ["owner_id", "is_public", "digest", "id"], unique=False)
    op.create_index("ix_users_facets", "users", ["is_admin", "is_active", "id"], unique=False)
    op.create_index("ix_users_name", "users", ["is_admin", "is_active", "username_key", "username", "id"], unique=False)
    op.drop_index("ix_audit_events_target", "audit_events")
    for column in ("action", "target"):
        op.create_index(f"ix_audit_events_{column}", "audit_events", [column, "id"], unique=False)


def _fill_keys(name: str) -> None:
    table = sa.table(name, sa.column("id", sa.Integer), sa.column("name", sa.String), sa.column("name_key", sa.String))
    page = sa.select(table.c.id, table.c.name).where(table.c.id > sa.bindparam("after", type_=sa.Integer))
    update = sa.update(table).where(table.c.id == sa.bindparam("row_id")).values(name_key=sa.bindparam("row_key"))
    connection, last = op.get_bind(), 0
    while rows := connection.execute(page.order_by(table.c.id).limit(_CHUNK), {"after": last}).all():
        connection.execute(update, [{"row_id": row.id, "row_key": name_key(row.name)} for row in rows])
        last = rows[-1].id


def _fill_opened() -> None:
    """What `medperf.server.assets.openings` keeps from now on."""
    named = """
        SELECT benchmarks.owner_id AS party_id, benchmark_assets.asset_id AS asset_id, benchmarks.id AS benchmark_id
        FROM benchmarks JOIN benchmark_assets ON benchmark_assets.benchmark_id = benchmarks.id
        UNION
        SELECT benchmarks.owner_id, mlcube_assets.asset_id, benchmarks.id
        FROM benchmarks JOIN mlcube_assets
        ON mlcube_assets.mlcube_id = benchmarks.preparator_id OR mlcube_assets.mlcube_id = benchmarks.evaluator_id
    """
    op.execute(
        f"INSERT INTO opened_assets (party_id, asset_id) SELECT DISTINCT party_id, asset_id FROM ({named}) AS named"  # noqa: S608 - our own text
    )
    op.execute(
        f"UPDATE assets SET is_public = true WHERE id IN (SELECT asset_id FROM ({named}) AS named"  # noqa: S608 - our own text
        " JOIN benchmarks ON benchmarks.id = named.benchmark_id"
        " WHERE benchmarks.approval = 'APPROVED' AND benchmarks.state = 'OPERATION')"
    )
