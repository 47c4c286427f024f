"""Fixtures of the reader's tests."""

import copyreg
import os
import posix
import subprocess
from typing import Any

import pytest
from attack_pickles import TRIPWIRE, TRIPWIRE_CODE

from cascadezoo import Checkpoint, read_checkpoint


@pytest.fixture
def read(tmp_path):
    """Reads bytes as the file checkpoint.pth."""

    def read(data: bytes) -> Checkpoint:
        path = tmp_path / "checkpoint.pth"
        path.write_bytes(data)
        return read_checkpoint(path)

    return read


@pytest.fixture
def ran(monkeypatch) -> list[str]:
    """What has been run with the tripwire among its arguments."""
    log: list[str] = []

    def watch(module: Any, name: str) -> None:
        original = getattr(module, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if TRIPWIRE in repr((args, kwargs)):
                log.append(name)
                return None
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, watched)

    for module, name in ((os, "system"), (posix, "system"), (subprocess, "Popen")):
        watch(module, name)
    for name in ("eval", "exec"):
        watch(__import__("builtins"), name)
    copyreg.add_extension("os", "system", TRIPWIRE_CODE)
    yield log
    copyreg.remove_extension("os", "system", TRIPWIRE_CODE)
    copyreg.clear_extension_cache()
