"""What tests of whole runs share."""

import pytest
import torch

from cascadezoo.providers import SPECS

from drawn import Drawn, draw_set
from tiny_zoo import narrow


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small_zoo(monkeypatch):
    """An entry of which the network is small, with five classes."""
    monkeypatch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn", narrow())


@pytest.fixture
def drawn(tmp_path) -> Drawn:
    return draw_set(tmp_path / "images", 4)
