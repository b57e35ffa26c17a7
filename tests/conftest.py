"""What the whole suite shares."""

from __future__ import annotations

import hypothesis
import pytest

# How long an example takes says how busy the machine is, and nothing about the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What shares a costly surrounding, or a port, must come to one process: a pytest that xdist cannot tell so is no good."""
    if not getattr(config.option, "loadgroup", False):
        return
    strays = [item.nodeid for item in items if item.get_closest_marker("xdist_group") and "@" not in item.nodeid]
    if strays:
        raise pytest.UsageError(f"pytest-xdist does not keep groups together with pytest {pytest.__version__}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many processes were killed: part of the promise, so it is said."""
    passed = terminalreporter.stats.get("passed", [])
    kills = sum(value for report in passed for name, value in report.user_properties if name == "kills")
    if kills:
        terminalreporter.write_line(f"Commands killed: {kills}")
