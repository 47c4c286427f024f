"""Small stand-ins of every publisher's checkpoints, with as many classes as are asked for."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from cascadezoo import registry
from cascadezoo.checkpoints.conversion import to_publisher
from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.converter import Model
from cascadezoo.detector import Detector
from cascadezoo.providers import SPECS

from tiny import lively, tiny

ENTRIES = {
    "mmdet": "cascade_mask_r50_fpn_1x.mmdet",
    "internimage": "cascade_mask_internimage_l_fpn_1x.internimage",
    "paddle": "cascade_mask_r50_fpn_1x.paddle",
    "detectron": "cascade_mask_r50_fpn_1x.detectron",
    "detectron2": "cascade_mask_r50_fpn_1x.detectron2",
    "convnext": "mask_convnext_t_fpn_3x.convnext",
}
CLASSES = ("cat", "dog", "eel")


def fine_tuned(publisher: str, patch: pytest.MonkeyPatch, num_classes: int = 3) -> Detector:
    """A model of a publisher's network, made small for as long as the patch lasts, with classes of its own."""
    entry = registry.info(ENTRIES[publisher])
    small = tiny(entry.architecture, publisher)
    patch.setitem(SPECS[publisher], entry.architecture, small)
    return lively(small.with_classes(num_classes))


def write(path: Path, model: Detector, publisher: str, classes: tuple[str, ...] = CLASSES) -> Path:
    """The model as its publisher's own code saves it."""
    entry = registry.info(ENTRIES[publisher])
    state = to_publisher(model.state_dict(), entry.name)
    with path.open("wb") as file:
        CONVERTERS[publisher].write(file, state, Model(entry=entry, spec=model.spec, classes=classes))
    return path


def of_mmdet(model: Detector) -> dict[str, Tensor]:
    """The model's tensors as mmdetection names them."""
    return to_publisher(model.state_dict(), ENTRIES["mmdet"])


def save(path: Path, content: object) -> Path:
    """The path of what torch saved there."""
    torch.save(content, path)
    return path


def same(a: Detector, b: Detector) -> bool:
    """Whether two models hold the same tensors."""
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
