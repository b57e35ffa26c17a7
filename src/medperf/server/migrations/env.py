"""Alembic's entry: the caller (`medperf.server.migrate`) passes its connection and owns the transaction."""

from __future__ import annotations

from alembic import context

from medperf.server.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,  # both can; the caller's transaction holds everything
)
context.run_migrations()
