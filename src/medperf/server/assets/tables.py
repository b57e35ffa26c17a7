"""Table of assets. Rows with one digest share one file; nobody can tell."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.domain import limits
from medperf.server.names import name_key_column
from medperf.server.schema import id_column, metadata, table, time_column

assets = table(
    "assets",
    id_column(),
    sa.Column("owner_id", sa.ForeignKey("parties.id"), nullable=False),
    sa.Column("name", sa.String(limits.NAME_LENGTH), nullable=False),
    sa.Column("digest", sa.String(71), nullable=False, index=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    time_column("created_at"),
    # named by an approved benchmark in OPERATION, as demo data or as a file of its preparator or evaluator; never again not
    sa.Column("is_public", sa.Boolean, nullable=False, server_default=sa.false()),
    name_key_column(),
    # for listings, see medperf.server.paging
    sa.Index("ix_assets_owner_id", "owner_id", "id"),
    sa.Index("ix_assets_facets", "is_public", "id"),
    sa.Index("ix_assets_owner_facets", "owner_id", "is_public", "id"),
    sa.Index("ix_assets_name", "is_public", "name_key", "name", "id"),
    sa.Index("ix_assets_owner_facets_name", "owner_id", "is_public", "name_key", "name", "id"),
    sa.Index("ix_assets_facets_digest", "is_public", "digest", "id"),
    sa.Index("ix_assets_owner_facets_digest", "owner_id", "is_public", "digest", "id"),
)

#: What is opened to the members of a party, by a benchmark each: the same for any benchmark, to its owner, who sees it before everybody
#: does; and ``is_joined``: files of models that joined it, to the owners of datasets that joined it.
opened_assets = sa.Table(
    "opened_assets",
    metadata,
    sa.Column("party_id", sa.ForeignKey("parties.id"), primary_key=True),
    sa.Column("asset_id", sa.ForeignKey("assets.id"), primary_key=True, index=True),
    sa.Column("benchmark_id", sa.ForeignKey("benchmarks.id"), primary_key=True, index=True),
    sa.Column("is_joined", sa.Boolean, primary_key=True),
)
