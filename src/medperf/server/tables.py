"""Every table, for those who need them all: migrations, reset, tests."""

from __future__ import annotations

from medperf.server.assets.tables import assets, opened_assets
from medperf.server.associations.tables import association_events, associations
from medperf.server.audit.tables import audit_checkpoints, audit_events, audit_personal
from medperf.server.benchmarks.tables import benchmark_assets, benchmarks
from medperf.server.datasets.tables import datasets, opened_datasets
from medperf.server.executions.tables import attempts, executions, releases
from medperf.server.mlcubes.tables import mlcube_assets, mlcubes
from medperf.server.organisations.tables import invitations, organisations
from medperf.server.parties.tables import memberships, parties
from medperf.server.schema import idempotency_keys, metadata, settings
from medperf.server.tokens.tables import tokens
from medperf.server.uploads.tables import uploads
from medperf.server.users.tables import users

__all__ = [
    "assets",
    "association_events",
    "associations",
    "attempts",
    "audit_checkpoints",
    "audit_events",
    "audit_personal",
    "benchmark_assets",
    "benchmarks",
    "datasets",
    "executions",
    "idempotency_keys",
    "invitations",
    "memberships",
    "metadata",
    "mlcube_assets",
    "mlcubes",
    "opened_assets",
    "opened_datasets",
    "organisations",
    "parties",
    "releases",
    "settings",
    "tokens",
    "uploads",
    "users",
]
