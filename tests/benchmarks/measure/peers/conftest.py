"""A tiny network with its weights in files, and other programs that run it, made up."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn

import cascadezoo
from cascadezoo.benchmarks.measure import latency
from cascadezoo.benchmarks.measure.peers.contender import CPU, Contender, Made, Setting, setting
from cascadezoo.benchmarks.measure.ways import eager
from cascadezoo.detector import Detector
from cascadezoo.providers import SPECS

from tiny_zoo import ENTRY, narrow

IMAGE = latency.scene(60, 80)
NOWHERE = "a_module_that_nobody_has"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Setting:
    monkeypatch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn", narrow(80))
    monkeypatch.setattr(latency, "CANDIDATES", 100)
    monkeypatch.setattr(latency, "maskrcnn_resnet50_fpn", small_maskrcnn)
    folder = tmp_path / "weights"
    folder.mkdir()
    return setting(latency.random_model(ENTRY, IMAGE, CPU), ENTRY, IMAGE, folder)


def small_maskrcnn(**_: None) -> torch.nn.Module:
    return maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=64, max_size=96, num_classes=4, box_detections_per_img=20,
        rpn_post_nms_top_n_test=40,
    )  # fmt: skip


@pytest.fixture
def faithful() -> Contender[Made]:
    return Contender(partial(_published, lambda _: None), publishers=("mmdet",))


@pytest.fixture
def wrong() -> Contender[Made]:
    return Contender(partial(_published, _shift), publishers=("mmdet",))


@pytest.fixture
def absent() -> Contender[Any]:
    return Contender(partial(_published, _shift), (NOWHERE,))


def _published(change: Callable[[Detector], None], given: Setting) -> Made:
    """A program that reads the publisher's file; ``change``: what it gets wrong."""
    model = cascadezoo.load(given.entry, weights=given.published, box_score_thresh=given.threshold)
    change(model)
    return Made(eager(model, "fp32", [given.image], CPU)._replace(stages=None), partial(model.predict, given.image))


@torch.no_grad()
def _shift(model: Detector) -> None:
    """Its last stage's boxes are some pixels too wide."""
    model.box_heads[-1].get_parameter("bbox_pred.bias")[2] += 2.0
