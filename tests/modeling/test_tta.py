"""Test-time augmentation by hand; the recorded cases in tests/parity prove it whole."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cascadezoo.modeling.tta import TTASettings, _mirror, _passes, _vote

from tiny import lively, tiny


def test_the_default_is_that_of_the_x152_configurations() -> None:
    settings = TTASettings()
    assert [round(800 * s) for s in settings.scales] == [400, 500, 600, 700, 900, 1000, 1100, 1200]
    assert settings.max_size * 800 == 2000
    assert settings.voting == 0.9


@pytest.mark.parametrize("wrong", [{"voting": 0}, {"voting": 1.5}, {"max_size": 0}, {"scale": (1,)}])
def test_wrong_settings(wrong) -> None:
    with pytest.raises(ValidationError):
        TTASettings(**wrong)


def test_passes_are_mirrored_and_scaled_relative_to_min_size() -> None:
    model = lively(tiny("cascade_r50_fpn", "detectron"))  # 64 / 96
    image = np.zeros((50, 100, 3), np.uint8)
    image[:, :10] = 255
    settings = TTASettings(scales=(0.5, 1.5), max_size=1.75)
    with torch.inference_mode():
        runs = list(_passes(model, image, settings))
    # own scale: 96 is the limit of the longer side; half: 32 x 64; one and a half: 112 = 1.75 * 64 is the limit
    assert [run.flipped for run in runs] == [True, False, True, False, True, False]
    assert [run.batch.scales[0, 0].item() for run in runs] == pytest.approx([0.96, 0.64, 0.64, 1.12, 1.12, 0.96])
    bright_left = [(run.batch.pixels[0, :, 0, 0] > 0).all().item() for run in runs]
    assert bright_left == [not run.flipped for run in runs]


def test_no_flips_and_no_scales_is_one_plain_pass(mask_model) -> None:
    image = np.random.default_rng(3).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    plain = mask_model.predict(image)
    alone = mask_model.predict(image, tta=TTASettings(scales=(), flip=False, voting=None))
    assert abs(len(plain) - len(alone)) <= 2  # suppressed in original pixels rather than network pixels
    torch.testing.assert_close(alone.scores[:3], plain.scores[:3])
    torch.testing.assert_close(alone.boxes[:3], plain.boxes[:3], atol=1e-3, rtol=0)
    torch.testing.assert_close(alone.mask_probs[:3], plain.mask_probs[:3], atol=1e-3, rtol=0)


def test_a_mirrored_image_gives_mirrored_boxes(box_model) -> None:
    """Both images are seen from both sides: without the flip a network would answer differently."""
    image = np.random.default_rng(4).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    seen = [box_model.predict(i, tta=TTASettings(scales=())) for i in (image, image[:, ::-1].copy())]
    torch.testing.assert_close(seen[0].scores, seen[1].scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[0].boxes[:5], _mirror(seen[1].boxes, 90)[:5], atol=1e-2, rtol=0)


def test_mirror_is_its_own_inverse_with_either_extent() -> None:
    boxes = torch.tensor([[3.0, 1.0, 10.0, 5.0]])
    assert _mirror(boxes, 20).tolist() == [[10.0, 1.0, 17.0, 5.0]]
    # 20 pixels, x2 the last one inside: 3..10 seen from the other side is 9..16
    assert _mirror(boxes, 20 - 1).tolist() == [[9.0, 1.0, 16.0, 5.0]]
    assert _mirror(_mirror(boxes, 19), 19).tolist() == boxes.tolist()


def test_iou_with_and_without_extent() -> None:
    a, b = torch.tensor([[0.0, 0.0, 9.0, 9.0]]), torch.tensor([[0.0, 0.0, 9.0, 4.0]])
    assert pairwise_iou(a, b, extent=1).item() == 0.5
    assert pairwise_iou(a, b, extent=0).item() == pytest.approx(4 / 9)


def test_votes_are_weighted_by_score_within_class_and_overlap() -> None:
    """Box 0..99 wide: a neighbour moved by 2 overlaps by 98 / 102 = 0.96 and votes; one moved by 20 (0.67) does not.

    x1 = (0.9 * 0 + 0.3 * 2) / 1.2 = 0.5.
    """
    boxes = torch.tensor(
        [[0.0, 0.0, 99.0, 99.0], [2.0, 0.0, 101.0, 99.0], [20.0, 0.0, 119.0, 99.0], [1.0, 0.0, 100.0, 99.0]]
    )
    scores = torch.tensor([[0.9, 0.0], [0.3, 0.0], [0.8, 0.0], [0.0, 0.7]])
    voted = _vote(boxes[:1], torch.tensor([0]), boxes[:, None], scores, scores > 0.05, 0.9, extent=1)
    assert voted[0].tolist() == pytest.approx([0.5, 0.0, 99.5, 99.0])
    alone = _vote(boxes[3:], torch.tensor([1]), boxes[:, None], scores, scores > 0.05, 0.9, extent=1)
    assert alone[0].tolist() == pytest.approx(boxes[3].tolist())


def test_a_box_without_area_stays_as_it_is() -> None:
    boxes, scores = torch.tensor([[5.0, 5.0, 5.0, 9.0]]), torch.tensor([[0.9]])
    voted = _vote(boxes, torch.tensor([0]), boxes[:, None], scores, scores > 0.05, 0.9, extent=0)
    assert voted.tolist() == boxes.tolist()


def test_votes_with_boxes_of_each_class() -> None:
    boxes = torch.zeros(2, 2, 4)
    boxes[:, 0], boxes[:, 1] = torch.tensor([0.0, 0.0, 10.0, 10.0]), torch.tensor([50.0, 50.0, 60.0, 60.0])
    boxes[1, 1, 0] = 50.2
    scores = torch.tensor([[0.5, 0.6], [0.5, 0.2]])
    voted = _vote(boxes[0, 1:], torch.tensor([1]), boxes, scores, scores > 0.05, 0.9, extent=0)
    assert voted[0].tolist() == pytest.approx([50.05, 50.0, 60.0, 60.0])
