"""Targets as callers give them: scaled to the network's pixels, or refused with image and object."""

import numpy as np
import pytest
import torch

from cascadezoo.errors import BadTarget, UsageError
from cascadezoo.losses.targets import checked_targets
from cascadezoo.modeling.preprocess import ResizedImage

from tiny import tiny

THREE = tiny(num_classes=3)
TWICE = ResizedImage(np.zeros((40, 60, 3), np.uint8), (20, 30), 2.0)


def good() -> dict[str, torch.Tensor]:
    mask = torch.zeros(1, 20, 30, dtype=torch.bool)
    mask[0, 5:10, 3:9] = True
    return {"boxes": torch.tensor([[3.0, 5, 9, 10]]), "labels": torch.tensor([2]), "masks": mask}


def test_boxes_and_masks_follow_the_image() -> None:
    found = checked_targets(good(), TWICE, 0, THREE)
    assert found.boxes.tolist() == [[6, 10, 18, 20]]
    assert found.masks is not None
    assert found.masks.windows.tolist() == [[6, 10, 18, 20]]
    (mask,) = found.masks.bitmaps(torch.tensor([0]))
    assert mask.shape == (40, 60)
    assert mask[10:20, 6:18].all()
    assert mask.sum() == 120
    assert found.crowd.tolist() == [False]


def test_boxes_are_those_of_the_publishers_pixels() -> None:
    # an image of 20 x 30 at a scale of 1.99 has 39.8 x 59.7 pixels, that is 40 x 60
    image = TWICE._replace(scale=1.99)
    paddle = checked_targets(good(), image, 0, tiny("cascade_mask_r50_fpn", "paddle"))
    torch.testing.assert_close(paddle.boxes, torch.tensor([[3, 5, 9, 10]]) * 1.99)
    # columns 3 to 8 and rows 5 to 9: the last pixels inside count
    detectron = checked_targets(good(), image, 0, tiny("cascade_mask_r50_fpn", "detectron"))
    torch.testing.assert_close(detectron.boxes, torch.tensor([[3, 5, 8, 9]]) * 1.99)


def test_no_objects_are_legal() -> None:
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "masks": torch.zeros(0, 20, 30)}
    masks = checked_targets(none, TWICE, 0, THREE).masks
    assert (masks.size, len(masks.windows), len(masks.pixels)) == ((40, 60), 0, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"boxes": torch.tensor([[3.0, 5, 31, 10]])}, r"image 4, object 0: box \(3, 5, 31, 10\) lies outside"),
        ({"boxes": torch.tensor([[-1.0, 5, 9, 10]])}, "object 0: .* lies outside its image of 30 x 20"),
        ({"boxes": torch.tensor([[9.0, 5, 9, 10]])}, "object 0: .* has no area"),
        ({"boxes": torch.tensor([[3.0, float("nan"), 9, 10]])}, "object 0: .* is not finite"),
        ({"boxes": None}, "image 4: boxes must be a tensor of shape"),
        ({"labels": torch.tensor([3])}, r"image 4, object 0: label 3 is not in 0\.\.2"),
        ({"labels": torch.tensor([-1])}, "label -1"),
        ({"labels": torch.tensor([1.0])}, "labels must be integers"),
        ({"labels": torch.tensor([1, 2])}, r"labels must be a tensor of shape \(1,\)"),
        ({"masks": torch.zeros(1, 19, 30)}, r"masks must be a tensor of shape \(1, 20, 30\), not shape \(1, 19, 30\)"),
        ({"masks": None}, r"masks must be a tensor of shape \(1, 20, 30\), not nothing"),
        ({"iscrowd": torch.zeros(2)}, "iscrowd must be a tensor of shape"),
    ],
)
def test_what_cannot_be_learned_is_named(change: dict, words: str) -> None:
    with pytest.raises(BadTarget, match=words):
        checked_targets({**good(), **change}, TWICE, 4, THREE)


def test_training_mode_wants_targets_and_predicts_nothing(mask_model) -> None:
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    mask_model.train()
    try:
        with pytest.raises(UsageError, match="needs targets"):
            mask_model([image])
        with pytest.raises(BadTarget, match="1 images with 0 targets"):
            mask_model([image], [])
        with pytest.raises(UsageError, match="training mode"):
            mask_model.predict(image)
    finally:
        mask_model.eval()
