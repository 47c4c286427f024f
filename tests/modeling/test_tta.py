"""Test-time augmentation by hand; the recorded cases in tests/parity prove it whole."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cascadezoo.modeling.postprocess import BoxPredictions
from cascadezoo.modeling.tta import TTASettings, _mirror, _pass, _runs, _vote, detect
from cascadezoo.providers import SPECS

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


def passes(model, image, settings: TTASettings):
    with torch.inference_mode():
        return [_pass(model, image, *run) for run in _runs(model.spec.preprocess, settings)]


def test_passes_are_mirrored_and_scaled_relative_to_min_size(monkeypatch) -> None:
    model = lively(tiny("cascade_r50_fpn", "detectron"))  # 64 / 96
    image = np.zeros((50, 100, 3), np.uint8)
    image[:, :10] = 255
    settings = TTASettings(scales=(0.5, 1.5), max_size=1.75)
    extract, pixels = model.extract, []
    monkeypatch.setattr(model, "extract", lambda given: pixels.append(given) or extract(given))
    runs = passes(model, image, settings)
    # own scale: 96 is the limit of the longer side; half: 32 x 64; one and a half: 112 = 1.75 * 64 is the limit
    assert [run.flipped for run in runs] == [True, False, True, False, True, False]
    assert [run.scales[0, 0].item() for run in runs] == pytest.approx([0.96, 0.64, 0.64, 1.12, 1.12, 0.96])
    bright_left = [(each[0, :, 0, 0] > 0).all().item() for each in pixels]
    assert bright_left == [not run.flipped for run in runs]


@pytest.mark.parametrize(
    ("scale", "max_size", "size", "expected"),
    [
        (0.9, 2.0, (100, 100), 0.58),  # 57.6 is 58 of 100 pixels
        (1.4, 1.494, (50, 100), 0.96),  # the cap of the longer side: 95.6 is 96 of 100 pixels
        (2.0, 1.5, (50, 100), 1.28),  # a size of 128 lifts the cap of 96
    ],
)
def test_sizes_of_a_pass_are_whole_pixels_and_never_above_their_cap(scale, max_size, size, expected) -> None:
    model = lively(tiny("cascade_r50_fpn", "detectron"))  # min_size 64
    settings = TTASettings(scales=(scale,), max_size=max_size, flip=False, scale_flip=False)
    scaled, own = passes(model, np.zeros((*size, 3), np.uint8), settings)
    assert scaled.scales[0].tolist() == pytest.approx([expected] * 2)
    assert not scaled.flipped
    assert not own.flipped


def test_a_square_grows_and_shrinks_with_the_scale_up_to_the_cap() -> None:
    """600 / 1000 times 0.5, 1.5 and 2, the longer side at most 2.5 times 600."""
    spec = SPECS["detectron2"]["cascade_mask_vitdet_b"].preprocess
    square = spec.model_copy(update={"min_size": 600, "max_size": 1000})
    settings = TTASettings(scales=(0.5, 1.5, 2.0, 2.75), flip=False, scale_flip=False)
    sizes = [(run.min_size, run.max_size) for run, _ in _runs(square, settings)]
    assert sizes == [(300, 500), (900, 1500), (1200, 1500), (1650, 1650), (600, 1000)]


def test_the_largest_image_comes_first_while_the_features_of_few_are_held(monkeypatch) -> None:
    model = lively(tiny("cascade_r50_fpn", "detectron"))  # 64 / 96
    extract, heights = model.extract, []
    monkeypatch.setattr(model, "extract", lambda given: heights.append(given.shape[2]) or extract(given))
    with torch.inference_mode():
        detect(model, np.zeros((50, 50, 3), np.uint8), TTASettings(scales=(0.5, 1.5)))
    assert heights == [96, 96, 64, 64, 32, 32]


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


def test_a_vote_counts_from_the_very_iou() -> None:
    """10 x 10 holds 10 x 5: IoU exactly one half.  y2 = (0.9 * 10 + 0.3 * 5) / 1.2 = 8.75."""
    boxes, scores = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0]]), torch.tensor([[0.9], [0.3]])
    for iou, y2 in ((0.5, 8.75), (0.51, 10.0)):
        voted = _vote(boxes[:1], torch.tensor([0]), boxes[:, None], scores, scores > 0.05, iou, extent=0)
        assert voted[0].tolist() == pytest.approx([0, 0, 10, y2])


def two_sided(monkeypatch, predictions: list[BoxPredictions], **conventions) -> torch.nn.Module:
    """A network of Detectron's whose passes (mirrored first, then plain) give ``predictions`` in turn."""
    model = lively(tiny("cascade_r50_fpn", "detectron"))
    selection = model.spec.conventions.selection.model_copy(update=conventions)
    model.spec = model.spec.model_copy(
        update={"conventions": model.spec.conventions.model_copy(update={"selection": selection})}
    )
    answers = iter(predictions)
    monkeypatch.setattr(model, "refine", lambda *_: next(answers))
    return model


def one_class(boxes: list[list[float]], scores: list[float], valid: list[bool] | None = None) -> BoxPredictions:
    """Rows of class 0 of 5, the deltas zero."""
    probabilities = torch.zeros(1, len(boxes), 6)
    probabilities[0, :, 0] = torch.tensor(scores)
    rows = torch.tensor([valid or [True] * len(boxes)])
    return BoxPredictions(torch.tensor([boxes]), torch.zeros(1, len(boxes), 1, 4), probabilities, rows)


IMAGE = np.zeros((64, 96, 3), np.uint8)  # at network scale as it is
ONCE_MIRRORED = TTASettings(scales=(), voting=None)


def test_a_mirrored_box_comes_back_where_x2_is_the_last_pixel(monkeypatch) -> None:
    """Of 96 pixels the last is 95: 10..29 seen in the mirror is 95 - 29 = 66 to 95 - 10 = 85."""
    box = [10.0, 20.0, 29.0, 39.0]
    model = two_sided(monkeypatch, [one_class([box], [0.9]), one_class([box], [0.8])])
    with torch.inference_mode():
        chosen = detect(model, IMAGE, ONCE_MIRRORED)
    assert chosen.boxes[0, :2].tolist() == [[66, 20, 85, 39], box]
    assert chosen.scores[0, :2].tolist() == pytest.approx([0.9, 0.8])


def test_candidates_of_all_passes_meet_in_one_nms(monkeypatch) -> None:
    """The plain pass's box is the mirrored one's image: one is left, the better.  A row without a proposal, however
    good, takes no part, and neither does a score at the threshold."""
    mirrored = one_class([[66.0, 20.0, 85.0, 39.0], [0.0, 0.0, 9.0, 9.0]], [0.8, 0.99], [True, False])
    plain = one_class([[10.0, 20.0, 29.0, 39.0], [40.0, 40.0, 59.0, 59.0]], [0.9, 0.5])
    model = two_sided(monkeypatch, [mirrored, plain], score_thresh=0.5)
    with torch.inference_mode():
        chosen = detect(model, IMAGE, ONCE_MIRRORED)
    assert chosen.counts.tolist() == [1]
    assert chosen.boxes[0].tolist() == [[10, 20, 29, 39]]
    assert chosen.scores[0].tolist() == [pytest.approx(0.9)]


def test_rows_that_hold_nothing_and_scores_at_the_threshold_have_no_vote(monkeypatch) -> None:
    """All four boxes overlap by 0.9: only those above 0.5 in a valid row move x1, (0.9 * 0 + 0.6 * 1) / 1.5 = 0.4."""
    boxes = [[0.0, 0.0, 19.0, 19.0], [1.0, 0.0, 19.0, 19.0], [1.0, 0.0, 19.0, 19.0], [1.0, 0.0, 19.0, 19.0]]
    empty = one_class([[0.0, 0.0, 9.0, 9.0]], [0.0])
    plain = one_class(boxes, [0.9, 0.6, 0.5, 0.8], [True, True, True, False])
    model = two_sided(monkeypatch, [empty, plain], score_thresh=0.5)
    with torch.inference_mode():
        chosen = detect(model, IMAGE, TTASettings(scales=(), voting=0.9))
    assert chosen.boxes[0].tolist() == [pytest.approx([0.4, 0, 19, 19])]


@pytest.mark.parametrize(("way", "left", "right"), [("soft_avg", 0.5, 0.3), ("soft_max", 0.8, 0.4)])
def test_masks_of_all_passes_become_one_in_the_images_direction(way: str, left, right, monkeypatch) -> None:
    """Each pass's mask has a left and a right cell; the mirrored pass's are swapped: 0.4, 0.2 becomes 0.2, 0.4."""
    model = lively(tiny("cascade_mask_r50_fpn", "detectron"))
    answers = iter([one_class([[10.0, 20.0, 29.0, 39.0]], [0.9]), one_class([[10.0, 20.0, 29.0, 39.0]], [0.0])])
    monkeypatch.setattr(model, "refine", lambda *_: next(answers))
    masks, rois = iter([[0.4, 0.2], [0.8, 0.2]]), []

    def mask_probabilities(features, boxes, labels, mask):
        rois.append(boxes[0, 0].tolist())
        return torch.tensor(next(masks)).view(1, 1, 1, 2)

    monkeypatch.setattr(model, "mask_probabilities", mask_probabilities)
    with torch.inference_mode():
        chosen = detect(model, IMAGE, TTASettings(scales=(), voting=None, masks=way))
    assert chosen.masks.flatten().tolist() == pytest.approx([left, right])
    assert rois == [[10, 20, 29, 39], [66, 20, 85, 39]]  # where each pass saw it
