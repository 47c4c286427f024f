"""Freed memory: kept by glibc for the next image unless its user has said otherwise."""

import ctypes
import os
import subprocess
import sys

import pytest

from cascadezoo.optimizing import memory

GLIBC = os.name == "posix" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
FAULTS = """
import resource
from cascadezoo.optimizing.memory import keep_freed_memory
assert keep_freed_memory() is {kept}
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b'x' * 2**26
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(kept: bool, **environment: str) -> int:
    """Pages of 64 MiB that the kernel clears when as much has been freed before."""
    command = [sys.executable, "-c", FAULTS.format(kept=kept)]
    return int(subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True).stdout)


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_what_is_freed_serves_again() -> None:
    assert faults(kept=True) < 100
    assert faults(kept=False, MALLOC_TOP_PAD_="131072") > 10_000


@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"])
def test_a_users_settings_stay(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "65536")
    assert memory.keep_freed_memory() is False


def test_a_users_tunables_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")
    assert memory.keep_freed_memory() is False
