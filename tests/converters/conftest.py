"""Fixtures of the reader's tests."""

import pytest

from cascadezoo import Checkpoint, read_checkpoint


@pytest.fixture
def read(tmp_path):
    """Reads bytes as the file checkpoint.pth."""

    def read(data: bytes) -> Checkpoint:
        path = tmp_path / "checkpoint.pth"
        path.write_bytes(data)
        return read_checkpoint(path)

    return read
