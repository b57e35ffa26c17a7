"""Datasets, associations and their history; what a benchmark says about who joins it and who sees its results.

What benchmarks open is kept with the benchmark from now on, so that it can be closed again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "datasets",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("description", sa.String(length=1000), nullable=False),
        sa.Column("location", sa.String(length=128), nullable=False),
        sa.Column("site_label", sa.String(length=128), nullable=False),
        sa.Column("preparator_id", sa.Integer(), nullable=False),
        sa.Column("supersedes_id", sa.Integer(), nullable=True),
        sa.Column("identity", sa.String(length=71), nullable=False),
        sa.Column("raw_identity", sa.String(length=71), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("is_valid", sa.Boolean(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("statistics_digest", sa.String(length=71), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("modified_at", sa.String(length=27), nullable=False),
        sa.Column(
            "name_key",
            sa.String(length=384).with_variant(sa.String(length=384, collation="C"), "postgresql"),
            server_default="",
            nullable=False,
        ),
        sa.Column("statistics", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["owner_id"], ["parties.id"], name=op.f("fk_datasets_owner_id")),
        sa.ForeignKeyConstraint(["preparator_id"], ["mlcubes.id"], name=op.f("fk_datasets_preparator_id")),
        sa.ForeignKeyConstraint(["supersedes_id"], ["datasets.id"], name=op.f("fk_datasets_supersedes_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("owner_id", "identity", name="uq_datasets_owner_identity"),
        sa.UniqueConstraint("owner_id", "name", name=op.f("uq_datasets_owner_id")),
        sa.UniqueConstraint("owner_id", "uuid", name="uq_datasets_owner_uuid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_datasets_facets", "datasets", ["state", "is_valid", "is_active", "id"], unique=False)
    op.create_index(
        "ix_datasets_facets_preparator",
        "datasets",
        ["state", "is_valid", "is_active", "preparator_id", "id"],
        unique=False,
    )
    op.create_index(
        "ix_datasets_name", "datasets", ["state", "is_valid", "is_active", "name_key", "name", "id"], unique=False
    )
    op.create_index(
        "ix_datasets_owner_facets", "datasets", ["owner_id", "state", "is_valid", "is_active", "id"], unique=False
    )
    op.create_index(
        "ix_datasets_owner_facets_name",
        "datasets",
        ["owner_id", "state", "is_valid", "is_active", "name_key", "name", "id"],
        unique=False,
    )
    op.create_index(
        "ix_datasets_owner_facets_preparator",
        "datasets",
        ["owner_id", "state", "is_valid", "is_active", "preparator_id", "id"],
        unique=False,
    )
    op.create_index("ix_datasets_owner_id", "datasets", ["owner_id", "id"], unique=False)
    op.create_index("ix_datasets_owner_name", "datasets", ["owner_id", "name_key", "name", "id"], unique=False)
    op.create_table(
        "associations",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("asset_owner_id", sa.Integer(), nullable=False),
        sa.Column("maker_id", sa.Integer(), nullable=False),
        sa.Column("decider_id", sa.Integer(), nullable=False),
        sa.Column("benchmark_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=True),
        sa.Column("mlcube_id", sa.Integer(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("asked_by", sa.String(length=16), nullable=False),
        sa.Column("asks", sa.Integer(), nullable=False),
        sa.Column("is_automatic", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("asked_at", sa.String(length=27), nullable=False),
        sa.Column("decided_at", sa.String(length=27), nullable=True),
        sa.Column("modified_at", sa.String(length=27), nullable=False),
        sa.Column("report", sa.Text(), nullable=True),
        sa.CheckConstraint("(dataset_id IS NULL) <> (mlcube_id IS NULL)", name=op.f("ck_associations_one_asset")),
        sa.ForeignKeyConstraint(["asset_owner_id"], ["parties.id"], name=op.f("fk_associations_asset_owner_id")),
        sa.ForeignKeyConstraint(["benchmark_id"], ["benchmarks.id"], name=op.f("fk_associations_benchmark_id")),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_associations_dataset_id")),
        sa.ForeignKeyConstraint(["decider_id"], ["parties.id"], name=op.f("fk_associations_decider_id")),
        sa.ForeignKeyConstraint(["maker_id"], ["parties.id"], name=op.f("fk_associations_maker_id")),
        sa.ForeignKeyConstraint(["mlcube_id"], ["mlcubes.id"], name=op.f("fk_associations_mlcube_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["parties.id"], name=op.f("fk_associations_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_associations")),
        sa.UniqueConstraint("benchmark_id", "dataset_id", name="uq_associations_dataset"),
        sa.UniqueConstraint("benchmark_id", "mlcube_id", name="uq_associations_mlcube"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_associations_asset_owner_id", "associations", ["asset_owner_id", "id"], unique=False)
    op.create_index(
        "ix_associations_benchmark_id", "associations", ["benchmark_id", "kind", "status", "id"], unique=False
    )
    op.create_index("ix_associations_dataset_id", "associations", ["dataset_id", "kind", "status", "id"], unique=False)
    op.create_index("ix_associations_decider_id", "associations", ["decider_id", "status", "id"], unique=False)
    op.create_index("ix_associations_facets", "associations", ["kind", "status", "id"], unique=False)
    op.create_index("ix_associations_maker_id", "associations", ["maker_id"], unique=False)
    op.create_index("ix_associations_mlcube_id", "associations", ["mlcube_id", "kind", "status", "id"], unique=False)
    op.create_index(
        "ix_associations_owner_benchmark_id",
        "associations",
        ["owner_id", "benchmark_id", "kind", "status", "id"],
        unique=False,
    )
    op.create_index(
        "ix_associations_owner_dataset_id",
        "associations",
        ["owner_id", "dataset_id", "kind", "status", "id"],
        unique=False,
    )
    op.create_index("ix_associations_owner_facets", "associations", ["owner_id", "kind", "status", "id"], unique=False)
    op.create_index("ix_associations_owner_id", "associations", ["owner_id", "id"], unique=False)
    op.create_index(
        "ix_associations_owner_mlcube_id",
        "associations",
        ["owner_id", "mlcube_id", "kind", "status", "id"],
        unique=False,
    )
    op.create_table(
        "opened_datasets",
        sa.Column("party_id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("benchmark_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["benchmark_id"], ["benchmarks.id"], name=op.f("fk_opened_datasets_benchmark_id")),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_opened_datasets_dataset_id")),
        sa.ForeignKeyConstraint(["party_id"], ["parties.id"], name=op.f("fk_opened_datasets_party_id")),
        sa.PrimaryKeyConstraint("party_id", "dataset_id", "benchmark_id", name=op.f("pk_opened_datasets")),
    )
    op.create_index(op.f("ix_opened_datasets_dataset_id"), "opened_datasets", ["dataset_id"], unique=False)
    op.create_table(
        "association_events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("association_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("side", sa.String(length=16), nullable=False),
        sa.Column("is_automatic", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=True),
        sa.Column("uuid", sa.String(length=36), nullable=True),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["association_id"], ["associations.id"], name=op.f("fk_association_events_association_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_association_events")),
        sa.UniqueConstraint("association_id", "uuid", name="uq_association_events_uuid"),
        sa.UniqueConstraint("association_id", "version", name=op.f("uq_association_events_association_id")),
        sqlite_autoincrement=True,
    )
    for name, default in {
        "auto_models": "never",
        "auto_datasets": "never",
        "results_visibility": "owners",
    }.items():
        op.add_column("benchmarks", sa.Column(name, sa.String(length=16), nullable=False, server_default=default))
    for name in ("auto_models_parties", "auto_datasets_parties"):
        op.add_column("benchmarks", sa.Column(name, sa.Text(), nullable=False, server_default="[]"))
    _keep_what_is_open()


def _keep_what_is_open() -> None:
    """What was opened so far, each by the benchmarks that opened it: to the owners of benchmarks."""
    op.drop_table("opened_assets")
    op.create_table(
        "opened_assets",
        sa.Column("party_id", sa.Integer(), nullable=False),
        sa.Column("asset_id", sa.Integer(), nullable=False),
        sa.Column("benchmark_id", sa.Integer(), nullable=False),
        sa.Column("is_joined", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["assets.id"], name=op.f("fk_opened_assets_asset_id")),
        sa.ForeignKeyConstraint(["benchmark_id"], ["benchmarks.id"], name=op.f("fk_opened_assets_benchmark_id")),
        sa.ForeignKeyConstraint(["party_id"], ["parties.id"], name=op.f("fk_opened_assets_party_id")),
        sa.PrimaryKeyConstraint("party_id", "asset_id", "benchmark_id", "is_joined", name=op.f("pk_opened_assets")),
    )
    op.create_index("ix_opened_assets_asset_id", "opened_assets", ["asset_id"], unique=False)
    op.create_index("ix_opened_assets_benchmark_id", "opened_assets", ["benchmark_id"], unique=False)
    op.execute(
        """
        INSERT INTO opened_assets (party_id, asset_id, benchmark_id, is_joined)
        SELECT benchmarks.owner_id, benchmark_assets.asset_id, benchmarks.id, false
        FROM benchmarks JOIN benchmark_assets ON benchmark_assets.benchmark_id = benchmarks.id
        UNION
        SELECT benchmarks.owner_id, mlcube_assets.asset_id, benchmarks.id, false
        FROM benchmarks JOIN mlcube_assets
        ON mlcube_assets.mlcube_id = benchmarks.preparator_id OR mlcube_assets.mlcube_id = benchmarks.evaluator_id
        """
    )
