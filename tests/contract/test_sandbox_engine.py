"""The engine `sandbox` against the contract of engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medperf.runtime.engines.base import Engine
from medperf.runtime.engines.sandbox.engine import SandboxEngine
from medperf.testing.engines import EngineContract, Mode, modes


class TestSandbox(EngineContract):
    @staticmethod
    def make_engine(cache: Path, **options: Any) -> Engine:
        return SandboxEngine(cache=cache, **options)

    @pytest.fixture(params=modes(), ids=lambda mode: mode.name)
    def mode(self, request: pytest.FixtureRequest) -> Mode:
        return request.param
