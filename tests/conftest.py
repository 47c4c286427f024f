"""Shared fixtures."""

import pytest

from tiny import lively, tiny


@pytest.fixture(scope="session")
def mask_model():
    return lively(tiny())


@pytest.fixture(scope="session")
def box_model():
    return lively(tiny("cascade_r50_fpn"))
