"""Shared fixtures."""

import signal

import pytest

from tiny import lively, tiny


def pytest_configure() -> None:
    """Who is started in the background by a shell ignores Ctrl-C, and so do all its children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def mask_model():
    return lively(tiny())


@pytest.fixture(scope="session")
def box_model():
    return lively(tiny("cascade_r50_fpn"))
