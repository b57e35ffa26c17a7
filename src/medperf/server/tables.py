"""Every table, for those who need them all: migrations, reset, tests."""

from __future__ import annotations

from medperf.server.assets.tables import assets
from medperf.server.audit.tables import audit_events
from medperf.server.benchmarks.tables import benchmark_assets, benchmarks
from medperf.server.mlcubes.tables import mlcube_assets, mlcubes
from medperf.server.parties.tables import parties
from medperf.server.schema import idempotency_keys, metadata, settings
from medperf.server.tokens.tables import tokens
from medperf.server.users.tables import users

__all__ = [
    "assets",
    "audit_events",
    "benchmark_assets",
    "benchmarks",
    "idempotency_keys",
    "metadata",
    "mlcube_assets",
    "mlcubes",
    "parties",
    "settings",
    "tokens",
    "users",
]
