"""Suites of pytest whose results are in the report as they come, spread over processes that fail apart."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cascadezoo.benchmarks.measure.gpu.report import Report

ONE_TEST = 120  # seconds that a test may take: a kernel that hangs ends with its process
EVERY = 1.0  # seconds between two writes of the report
_TESTS_FAILED, _INTERRUPTED = 1, 2


class Recorder:
    """A plugin of pytest: counts what passed, takes down what failed, and ends the session when time is up.

    Attributes:
        counts: in the report, by the name of the suite: ``collected``, ``passed``, ``skipped``, ``failed``, and the
            tests that are ``running``, which after a cut are those that hung or were too slow.
    """

    def __init__(self, report: Report, suite: str, seconds: float) -> None:
        self._report, self._suite = report, suite
        self._end = time.monotonic() + seconds
        self._written = 0.0
        self.counts: dict[str, Any] = {"collected": 0, "passed": 0, "skipped": 0, "failed": 0, "running": []}
        report.data[suite] = self.counts

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Of a session in one process."""
        self.counts["collected"] = max(self.counts["collected"], len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Of a session in several: each collects all."""
        self.counts["collected"] = len(ids)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        self.counts["running"].append(nodeid)
        self._write_now_and_then()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test, or what comes before or after it, has ended."""
        if report.failed:
            self.counts["failed"] += 1
            self._report.fail(report.nodeid, first_line(report))
        elif report.skipped:
            self.counts["skipped"] += 1
        elif report.when == "call":
            self.counts["passed"] += 1

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A test is done."""
        if nodeid in self.counts["running"]:
            self.counts["running"].remove(nodeid)
        self._write_now_and_then()
        if time.monotonic() > self._end:
            pytest.exit("the time is up", returncode=_INTERRUPTED)

    def _write_now_and_then(self) -> None:
        if time.monotonic() > self._written + EVERY:
            self._report.write()
            self._written = time.monotonic()


def first_line(report: pytest.TestReport) -> str:
    """Why a test failed, in a line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    return text.strip().split("\n")[0]


def run_suite(
    report: Report, suite: str, arguments: Sequence[str], seconds: float, processes: int | None = None
) -> dict[str, Any]:
    """Run pytest with ``arguments`` for at most ``seconds``; the counts, which are in the report by ``suite``.

    What was not begun is named among what was left out; that nothing was collected is a failure.
    """
    recorder = Recorder(report, suite, seconds)
    count = min(8, os.cpu_count() or 1) if processes is None else processes
    spread = ["-n", str(count), "--dist", "worksteal", "--max-worker-restart", "100"] if count else []
    contained = ["-p", "cascadezoo.benchmarks.measure.gpu.containment"]
    limits = ["--timeout", str(ONE_TEST), "--timeout-method", "thread"]
    code = pytest.main([*spread, *contained, *limits, "-p", "no:cacheprovider", *arguments], plugins=[recorder])
    counts = recorder.counts
    done = counts["passed"] + counts["skipped"] + counts["failed"]
    if counts["collected"] > done:
        report.data["left_out"].append(f"{counts['collected'] - done} tests of {suite}")
    if not counts["collected"]:
        report.fail(suite, f"no test was collected (pytest's code {int(code)})")
    elif code not in (0, _TESTS_FAILED, _INTERRUPTED):
        report.fail(suite, f"pytest ended with code {int(code)}")
    return counts


def tests_folder() -> Path:
    """The checkout's tests, which are not installed.

    Raises:
        FileNotFoundError: started elsewhere than in the root of a checkout.
    """
    folder = Path("tests")
    if not (folder / "ops").is_dir():
        raise FileNotFoundError("there is no tests/ops here: start in the root of a checkout")
    return folder
