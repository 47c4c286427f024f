"""Networks small enough for checkpoints of every kind."""

import pytest

from cascadezoo.detector import Detector
from cascadezoo.providers import SPECS

from tiny import lively, tiny


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Detector:
    """A model of mmdet's R50 entry; its caffe twin has the same shapes."""
    for architecture in ("cascade_mask_r50_fpn", "cascade_mask_r50_caffe_fpn"):
        monkeypatch.setitem(SPECS["mmdet"], architecture, tiny(architecture))
    return lively(tiny())
