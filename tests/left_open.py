"""What a failed test left open is collected without a word; a plug-in of pytest.

Its warnings are errors, as all are, and would fail a later test that has nothing to do with it.
"""

from __future__ import annotations

import gc
import sys
import warnings

import pytest

FAILED = set[str]()
"""The tests that failed, while they end."""

ROUNDS = 5
"""What one round ends may be held by what only the next one finds."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember that it failed."""
    if report.failed:
        FAILED.add(report.nodeid)


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Collect, once nothing holds the frames of the test any more but what debuggers look at."""
    if nodeid not in FAILED:
        return
    FAILED.discard(nodeid)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("last_exc", "last_type", "last_value", "last_traceback"):
            vars(sys).pop(name, None)
        for _ in range(ROUNDS):
            gc.collect()
