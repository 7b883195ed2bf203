"""One seed for all that is random; in CI no test is skipped; live tests do not disturb each other.

Below effort 1 what IPFilter's layouts make of the first bytes of a log is remembered: hundreds of
tests open the same few fixtures, and to try all layouts takes longer than to read one.
In CI a skip is a failure where it happens, with its reason, since pytest-xdist reports no modules
that were skipped: whatever a test needs is to be installed there.
"""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Generator
from typing import Any, TypeVar

import effort
import hypothesis
import pytest

from pylog.formats import ipl

pytest_plugins = ("database_fixtures",)

Report = TypeVar("Report", pytest.CollectReport, pytest.TestReport)
TOGETHER = {
    "tests/live/": "live",  # they would disturb each other
    "tests/services/sql/": "sql",  # their servers are started once
    "tests/test_toy.py": "toy",  # which is built once
    "tests/test_dask.py": "dask",  # these have one cluster
}
"""Tests for one process of pytest-xdist, by what their ids begin with."""
COSTLY = tuple(
    f"tests/{name}.py"
    for name in ("live/test_live_capture", "live/test_live_nftables", "live/test_live_overload",
                 "test_batches", "test_benchmarks", "test_captures", "test_cli", "test_cli_ipmon",
                 "test_cli_live", "test_contract", "test_convert", "test_convert_parts",
                 "test_dask", "test_documentation", "test_files", "test_front_door",
                 "test_inputs", "test_ipl_encode", "test_ipl_output", "test_losses", "test_memo",
                 "test_nft", "test_origins", "test_outputs", "test_parallel",
                 "test_pcapng_output", "test_reader", "test_record", "test_replay", "test_scrub",
                 "test_shown", "test_splits", "test_stats", "test_table", "test_targets",
                 "test_top", "test_toy", "test_unpack", "test_unsaid", "test_where", "test_who")
)  # fmt: skip
"""Files whose tests start many processes or read many logs in many ways; together they would take
most of the time of all."""
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("effort")
    if effort.EFFORT < 1:
        ipl.probe = functools.lru_cache(maxsize=256)(ipl.probe)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half as many processes again as there are processors: tests wait for a part of their time."""
    return (os.cpu_count() or 1) * 3 // 2


def group_of(nodeid: str) -> str:
    """The group of a test: of services its file, else its id if it may run in any process."""
    alone = nodeid.partition("::")[0] if nodeid.startswith("tests/services/") else nodeid
    return next((name for start, name in TOGETHER.items() if nodeid.startswith(start)), alone)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One with the groups of TOGETHER, largest first.

    Marks of xdist_group would say the same, but with pytest 9.2 pytest-xdist 3.8 does not see them.
    """
    from xdist.scheduler import LoadScopeScheduling

    scheduling = LoadScopeScheduling(config, log)
    scheduling._split_scope = group_of
    return scheduling


def pytest_report_header() -> str:
    return f"PYLOG_EFFORT={effort.EFFORT:g} PYLOG_SEED={effort.SEED}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.stats.get("failed") or terminalreporter.stats.get("error"):
        terminalreporter.write_line(f"the same again: {pytest_report_header()}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path)  # see pytest_make_collect_report
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:  # no file was named
        left_out = [item for item in items if _is_left_out(item.nodeid)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not _is_left_out(item.nodeid)]
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            hypothesis.seed(effort.SEED)(item.obj)  # type: ignore[attr-defined]


def _is_left_out(test: str) -> bool:
    return test.startswith(COSTLY) and not effort.is_tried(test)


def pytest_collection_finish() -> None:
    """What was collected stays, and is not looked through again whenever garbage is collected."""
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Every other process of pytest-xdist collects the files from the last to the first.

    What pytest makes of a file for its assertions takes long, and who comes second has it from
    __pycache__.
    """
    report = yield
    if isinstance(collector, pytest.Dir) and WORKER % 2:
        report.result.reverse()
    return refused(report)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return refused((yield))


def refused(report: Report) -> Report:
    """A skip as the failure that it is in CI."""
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which must not be in CI: {report.longrepr}"
    return report
