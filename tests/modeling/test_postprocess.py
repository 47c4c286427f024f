"""From predicted boxes to detections, worked by hand."""

import pytest
import torch

from cascadezoo.modeling.postprocess import BoxPredictions, DetectionBatch, final_boxes, select
from cascadezoo.modeling.preprocess import Batch
from cascadezoo.spec.conventions import BoxCoder, Nms, Selection, Space

from tiny import tiny

ORIGINAL, NETWORK = Space.ORIGINAL, Space.NETWORK
CODER = BoxCoder(stds=(1, 1, 1, 1), log_scale=(-4, 4), extent=0)
RULE = Selection(
    score_thresh=0.05,
    nms=Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=False),
    decode_space=NETWORK,
    nms_space=NETWORK,
    clip_original=False,
    detections_per_img=3,
)


def scored(boxes, scores, classes: int = 2) -> tuple[BoxPredictions, Batch]:
    """Agnostic boxes with no deltas left, all of class 0, on an image of 100 x 100 at twice its scale."""
    n = len(boxes)
    probabilities = torch.zeros(1, n, classes + 1)
    probabilities[0, :, 0] = torch.tensor(scores)
    size, scale = torch.tensor([[200.0, 200.0]]), torch.tensor([[2.0, 2.0]])
    batch = Batch(torch.empty(0), size, scale, size / 2)
    return BoxPredictions(torch.tensor([boxes]), torch.zeros(1, n, 1, 4), probabilities, torch.ones(1, n) > 0), batch


def test_boxes_without_area_take_a_place_and_are_dropped() -> None:
    """Three candidates for two places: the best has no area, so one detection is left where both places were taken."""
    spec = tiny("mask_r50_fpn", "paddle")
    rule = spec.conventions.selection.model_copy(update={"detections_per_img": 2})
    boxes = [[50.0, 50.0, 50.0, 90.0], [10.0, 10.0, 60.0, 60.0], [100.0, 100.0, 160.0, 160.0]]
    found = select(*scored(boxes, [0.9, 0.8, 0.7]), spec.stages[-1], rule)
    assert found.counts.tolist() == [1]
    assert found.boxes[0, 0].tolist() == [5.0, 5.0, 30.0, 30.0]
    assert found.scores[0].tolist() == [pytest.approx(0.8), 0]


def test_the_threshold_is_strict_and_background_never_wins() -> None:
    spec = tiny("mask_r50_fpn", "paddle")
    rule = spec.conventions.selection.model_copy(update={"score_thresh": 0.5})
    found = select(*scored([[0.0, 0.0, 20.0, 20.0], [50.0, 50.0, 90.0, 90.0]], [0.5, 0.75]), spec.stages[-1], rule)
    assert found.counts.tolist() == [1]
    assert found.labels[0, 0] == 0


def test_decoding_in_original_pixels_uses_the_extent_there() -> None:
    """At twice the scale, 20..59 divided first is 10..29.5, 20.5 pixels wide where x2 is the last pixel."""
    spec = tiny("faster_r50_fpn", "detectron")
    given, batch = scored([[20.0, 20.0, 59.0, 59.0]], [0.9])
    deltas = given.deltas.clone()
    deltas[..., 0] = 10.0  # dx = 10 / 10 = one width
    found = select(given._replace(deltas=deltas), batch, spec.stages[-1], spec.conventions.selection)
    assert found.boxes[0, 0].tolist() == pytest.approx([30.5, 10.0, 50.0, 29.5])
    assert found.rois[0, 0].tolist() == pytest.approx([61.0, 20.0, 100.0, 59.0])


def of_classes(boxes, probabilities, deltas=None) -> BoxPredictions:
    """Boxes of one image with the probabilities of each class, background last."""
    boxes, probabilities = torch.tensor([boxes]), torch.tensor([probabilities])
    deltas = torch.zeros(*boxes.shape[:2], 1, 4) if deltas is None else torch.tensor([deltas])
    return BoxPredictions(boxes, deltas, probabilities, torch.ones(boxes.shape[:2]) > 0)


def image(height: float, width: float, scale: tuple[float, float] = (1.0, 1.0)) -> Batch:
    """An image of the given size in network pixels; ``scale`` in x and y."""
    size, scales = torch.tensor([[height, width]]), torch.tensor([scale])
    return Batch(torch.empty(0), size, scales, size / scales.flip(1))


SQUARES = [[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0], [40.0, 40.0, 50.0, 50.0]]


def test_every_class_of_a_box_is_a_candidate_and_the_best_of_all_come_first() -> None:
    rows = [[0.3, 0.6, 0.1], [0.5, 0.04, 0.46], [0.05, 0.2, 0.75]]
    chosen = select(of_classes(SQUARES, rows), image(60, 60), CODER, RULE)
    assert chosen.counts.tolist() == [3]
    assert chosen.scores[0].tolist() == pytest.approx([0.6, 0.5, 0.3])
    assert chosen.labels.tolist() == [[1, 0, 0]]
    assert chosen.boxes[0].tolist() == [SQUARES[0], SQUARES[1], SQUARES[0]]
    # one more place: the 0.05 of class 0 is not above the threshold, the 0.2 of class 1 is
    four = select(of_classes(SQUARES, rows), image(60, 60), CODER, RULE.model_copy(update={"detections_per_img": 5}))
    assert four.counts.tolist() == [4]
    assert four.scores[0].tolist() == pytest.approx([0.6, 0.5, 0.3, 0.2, 0])
    assert four.labels.tolist() == [[1, 0, 0, 1, 0]]
    assert four.boxes[0, 3:].tolist() == [SQUARES[2], [0, 0, 0, 0]]
    assert four.rois[0, 3:].tolist() == [SQUARES[2], [0, 0, 0, 0]]


def test_boxes_suppress_each_other_within_a_class_only() -> None:
    near = [[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0]]  # IoU 90 / 110
    rows = [[0.5, 0.1, 0.4], [0.4, 0.2, 0.4]]
    chosen = select(of_classes(near, rows), image(60, 60), CODER, RULE)
    assert chosen.counts.tolist() == [2]
    assert chosen.labels[0, :2].tolist() == [0, 1]
    assert chosen.boxes[0, :2].tolist() == [near[0], near[1]]


def test_a_row_that_holds_no_proposal_is_never_chosen() -> None:
    predictions = of_classes(SQUARES, [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    predictions = predictions._replace(valid=torch.tensor([[False, True, False]]))
    chosen = select(predictions, image(60, 60), CODER, RULE)
    assert chosen.counts.tolist() == [1]
    assert chosen.boxes[0, 0].tolist() == SQUARES[1]
    assert not chosen.boxes[0, 1:].any()
    assert not chosen.scores[0, 1:].any()


def test_each_class_has_the_box_of_its_own_deltas() -> None:
    """Class 1 moves by one width to the right, class 0 stays."""
    deltas = [[[0.0] * 4, [1.0, 0.0, 0.0, 0.0]]]
    chosen = select(of_classes(SQUARES[:1], [[0.3, 0.6, 0.1]], deltas), image(60, 60), CODER, RULE)
    assert chosen.boxes[0, :2].tolist() == [[10, 0, 20, 10], [0, 0, 10, 10]]
    assert chosen.labels[0, :2].tolist() == [1, 0]


def test_original_pixels_follow_from_the_scales_in_x_and_in_y() -> None:
    """A network image of 60 x 80 at 2 in x and 4 in y; moved one width to the right and clipped at 80."""
    predictions = of_classes([[50.0, 20.0, 70.0, 40.0]], [[0.9, 0.1]], [[[0.5, 0.0, 0.0, 0.0]]])
    batch = image(60, 80, (2.0, 4.0))
    for space, original in ((NETWORK, [30, 5, 40, 10]), (ORIGINAL, [30, 5, 40, 10])):
        rule = RULE.model_copy(update={"decode_space": space})
        ours, network = final_boxes(predictions, batch, CODER, rule)
        assert ours[0, 0, 0].tolist() == original
        assert network[0, 0, 0].tolist() == [60, 20, 80, 40]


def test_clipping_happens_where_the_boxes_are_decoded() -> None:
    """In network pixels the limit is 79 where x2 is the last pixel, 39.5 at half the scale; in original pixels 39."""
    coder = CODER.model_copy(update={"extent": 1})
    predictions = of_classes([[60.0, 0.0, 99.0, 59.0]], [[0.9, 0.1]])
    batch = image(60, 80, (2.0, 2.0))
    network = final_boxes(predictions, batch, coder, RULE)
    original = final_boxes(predictions, batch, coder, RULE.model_copy(update={"decode_space": ORIGINAL}))
    assert [boxes[0, 0, 0].tolist() for boxes in network] == [[30, 0, 39.5, 29.5], [60, 0, 79, 59]]
    assert [boxes[0, 0, 0].tolist() for boxes in original] == [[30, 0, 39, 29], [60, 0, 78, 58]]


@pytest.mark.parametrize(("space", "count"), [(NETWORK, 2), (ORIGINAL, 1)])
def test_the_space_of_nms_decides_with_extent(space: Space, count: int) -> None:
    """11 and 6 pixels wide at twice the scale, by the last pixel: IoU 6 / 11 = 0.545 there; 6 / 3.5 original pixels
    give 3.5 / 6 = 0.583.  The threshold lies between."""
    nms = Nms(iou=0.56, extent=1, inclusive=False, rounded_shift=False)
    rule = RULE.model_copy(update={"nms": nms, "nms_space": space})
    predictions = of_classes([[0.0, 0.0, 10.0, 20.0], [0.0, 0.0, 5.0, 20.0]], [[0.9, 0.1], [0.8, 0.2]])
    chosen = select(predictions, image(60, 80, (2.0, 2.0)), CODER, rule)
    assert chosen.counts.tolist() == [count]


def test_empty_boxes_leave_and_the_others_keep_their_order() -> None:
    """Clipped to the original image of 30 x 30, whose padded network input is larger."""
    rule = RULE.model_copy(update={"clip_original": True, "detections_per_img": 4})
    boxes = [[0.0, 0.0, 10.0, 10.0], [35.0, 0.0, 50.0, 10.0], [20.0, 20.0, 40.0, 40.0], [0.0, 31.0, 10.0, 40.0]]
    batch = image(60, 60)._replace(original_sizes=torch.tensor([[30.0, 30.0]]))
    chosen = select(of_classes(boxes, [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]]), batch, CODER, rule)
    assert chosen.counts.tolist() == [2]
    assert chosen.boxes[0].tolist() == [[0, 0, 10, 10], [20, 20, 30, 30], [0] * 4, [0] * 4]
    assert chosen.rois[0].tolist() == [boxes[0], boxes[2], [0] * 4, [0] * 4]
    assert chosen.scores[0].tolist() == pytest.approx([0.9, 0.7, 0, 0])
    kept = select(of_classes(boxes, [[0.9, 0.1]] * 4), batch, CODER, rule.model_copy(update={"clip_original": False}))
    assert kept.counts.tolist() == [4]


def test_rows_of_dropped_detections_are_zero_in_every_image() -> None:
    """Of two images the first loses its better detection, which is of class 1; the second keeps both."""
    rule = RULE.model_copy(update={"clip_original": True, "detections_per_img": 2})
    boxes = torch.tensor([[[35.0, 0.0, 50.0, 10.0], SQUARES[0]], [SQUARES[0], SQUARES[1]]])
    probabilities = torch.tensor([[[0.0, 0.9, 0.1], [0.8, 0.0, 0.2]]] * 2)
    predictions = BoxPredictions(boxes, torch.zeros(2, 2, 1, 4), probabilities, torch.ones(2, 2) > 0)
    sizes = torch.tensor([[60.0, 60.0]] * 2)
    batch = Batch(torch.empty(0), sizes, torch.ones(2, 2), torch.tensor([[30.0, 30.0], [60.0, 60.0]]))
    chosen = select(predictions, batch, CODER, rule)
    assert chosen.counts.tolist() == [1, 2]
    assert chosen.labels.tolist() == [[0, 0], [1, 0]]
    assert chosen.boxes.tolist() == [[SQUARES[0], [0.0] * 4], SQUARES[:2]]
    assert chosen.scores.flatten().tolist() == pytest.approx([0.8, 0, 0.9, 0.8])


def test_trimming_leaves_the_rows_of_the_fullest_image() -> None:
    counts = torch.tensor([1, 2])
    batch = DetectionBatch(
        torch.arange(24.0).view(2, 3, 4), torch.arange(6.0).view(2, 3), torch.arange(6).view(2, 3), counts,
        rois=torch.arange(24.0).view(2, 3, 4) * 2, masks=torch.arange(6.0).view(2, 3, 1, 1),
    )  # fmt: skip
    assert batch.on_host().rows == 2
    trimmed = batch.trim(2)
    assert trimmed.boxes[1].tolist() == [[12, 13, 14, 15], [16, 17, 18, 19]]
    assert trimmed.scores.tolist() == trimmed.labels.tolist() == [[0, 1], [3, 4]]
    assert trimmed.rois[1, 1].tolist() == [32, 34, 36, 38]
    assert trimmed.masks.flatten().tolist() == [0, 1, 3, 4]
    assert trimmed.counts is counts
    assert batch._replace(masks=None).trim(2).masks is None
    nothing = DetectionBatch(*(x[:0] for x in batch))
    assert nothing.on_host().rows == 0
    assert nothing.trim(0).boxes.shape == (0, 0, 4)
