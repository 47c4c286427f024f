"""A plugin of pytest for tests on a GPU: ``-p cascadezoo.benchmarks.measure.gpu.containment``.

After an illegal access a process can use its GPU no more, and every later test of it would fail.  So after each test
the GPU is waited for, and a process whose GPU answers with an error ends: pytest-xdist reports the test and goes on
with another process.
"""

import os

import pytest
import torch

LOST = 70  # exit code of a process that has lost its GPU


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Wait for the GPU; end this process where it answers with an error."""
    if not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        os._exit(LOST)
