"""In CI nothing is skipped: whatever a test needs is to be installed there."""

from __future__ import annotations

import os

import pytest


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("tests were skipped, which must not be in CI", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
