"""The comparison of detections: what is a difference, and what a tie."""

import numpy as np
import pytest
import torch

from cascadezoo.detector import Detector
from cascadezoo.errors import DepartsFromModel
from cascadezoo.exporting.checking import Arrays, Check, _one, compared
from cascadezoo.exporting.formats import AXES
from cascadezoo.exporting.graph import Graph

from tiny import lively, tiny

# of the tiny mask model: a threshold of 0.05, suppression beyond an IoU of 0.5, at most 100 detections
SQUARE = [10.0, 10.0, 20.0, 20.0]


@pytest.fixture(scope="module")
def model() -> Detector:
    return lively(tiny())


def found(*rows: tuple[list[float], float, int], masks: float | None = None) -> Arrays:
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    result = {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "scores": np.array(scores, np.float32),
        "labels": np.array(labels, np.int64),
    }
    return result if masks is None else {**result, "masks": np.full((len(rows), 4, 4), masks, np.float32)}


def test_the_same_detections(model: Detector) -> None:
    rows = found((SQUARE, 0.9, 1), (SQUARE, 0.8, 2), masks=0.7)
    assert _one(model, rows, rows) == Check(images=1, detections=2, unpaired=0, box=0, score=0, mask=1)
    assert _one(model, found(), found()) == Check(images=1, detections=0, unpaired=0, box=0, score=0, mask=None)


def test_differences_are_those_of_pairs(model: Detector) -> None:
    result = _one(model, found((SQUARE, 0.9, 1)), found(([10.0, 10.0, 20.25, 20.0], 0.875, 1)))
    assert (result.unpaired, result.box) == (0, 0.25)
    assert result.score == pytest.approx(0.025)


def test_a_box_without_area_has_its_partner_at_the_same_place(model: Detector) -> None:
    flat, moved, elsewhere = [5.0, 7.0, 9.0, 7.0], [5.0, 7.0, 9.0625, 7.0], [5.0, 8.0, 9.0, 8.0]
    result = _one(model, found((flat, 0.9, 1)), found((moved, 0.9, 1)))
    assert (result.unpaired, result.box) == (0, 0.0625)
    assert _one(model, found((flat, 0.9, 1)), found((elsewhere, 0.9, 1))).unpaired == 2
    assert _one(model, found((flat, 0.9, 1)), found((moved, 0.9, 2))).unpaired == 2


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_detection_of_one_side_is_counted(model: Detector, ours_first: bool) -> None:
    two, one = found((SQUARE, 0.9, 1), (SQUARE, 0.8, 2)), found((SQUARE, 0.9, 1))
    assert _one(model, *((two, one) if ours_first else (one, two))).unpaired == 1
    assert _one(model, found((SQUARE, 0.9, 1)), found((SQUARE, 0.9, 2))).unpaired == 2


def test_at_the_threshold_a_detection_may_go(model: Detector) -> None:
    assert _one(model, found((SQUARE, 0.9, 1), (SQUARE, 0.0505, 2)), found((SQUARE, 0.9, 1))).unpaired == 0


def test_of_two_that_just_overlap_either_may_stay(model: Detector) -> None:
    beside = [10.0, 10.0, 20.0, 10 + 5.0]  # an IoU of one half
    assert _one(model, found((SQUARE, 0.9, 1), (beside, 0.8, 1)), found((SQUARE, 0.9, 1))).unpaired == 0
    apart = [10.0, 10.0, 20.0, 14.0]
    assert _one(model, found((SQUARE, 0.9, 1), (apart, 0.8, 1)), found((SQUARE, 0.9, 1))).unpaired == 1


def test_of_two_with_equal_scores_either_may_suppress_the_other(model: Detector) -> None:
    wide = [10.0, 10.0, 20.0, 10 + 7.0]  # an IoU of 0.7
    assert _one(model, found((SQUARE, 0.9, 1)), found((wide, 0.9005, 1))).unpaired == 0
    assert _one(model, found((SQUARE, 0.9, 1)), found((wide, 0.9015, 1))).unpaired == 2
    assert _one(model, found((SQUARE, 0.9, 1)), found((wide, 0.9005, 2))).unpaired == 2
    assert _one(model, found((SQUARE, 0.9, 1)), found(([10.0, 10.0, 20.0, 14.0], 0.9, 1))).unpaired == 2
    both = found((SQUARE, 0.9, 1), (wide, 0.9, 1))  # neither was suppressed
    assert _one(model, found((SQUARE, 0.9, 1)), both).unpaired == 1


def test_the_last_of_as_many_as_are_kept_may_go(model: Detector) -> None:
    many = [([20.0 * i, 0.0, 20.0 * i + 10, 10.0], 0.9 - 0.001 * i, 1) for i in range(100)]
    assert _one(model, found(*many), found(*many[:-1])).unpaired == 0
    assert _one(model, found(*many), found(*many[1:])).unpaired == 1


@pytest.mark.parametrize(
    ("architecture", "publisher", "preprocess", "axes", "taken"),
    [
        ("cascade_r50_fpn", "mmdet", False, (), [(1, 64, 96), (1, 64, 96)]),
        ("cascade_r50_fpn", "mmdet", False, ("batch",), [(1, 64, 96), (1, 64, 96), (2, 64, 96)]),
        ("cascade_r50_fpn", "mmdet", False, ("height",), [(1, 64, 96), (1, 96, 96)]),
        ("cascade_r50_fpn", "mmdet", False, ("batch", "width"), [(1, 64, 96), (1, 64, 128), (2, 64, 96)]),
        ("cascade_r50_fpn", "mmdet", True, ("height",), [(1, 64, 96), (1, 80, 96)]),
        ("cascade_mask_vitdet_b", "detectron2", True, ("width",), [(1, 64, 96), (1, 64, 72)]),
    ],
)
def test_a_side_that_is_dynamic_alone_has_two_sizes(
    architecture: str, publisher: str, preprocess: bool, axes: tuple[str, ...], taken: list[tuple[int, ...]]
) -> None:
    network = lively(tiny(architecture, publisher))
    graph, met = Graph(network, preprocess).eval(), []

    def infer(inputs: Arrays) -> Arrays:
        n, *sides = next(iter(inputs.values())).shape
        met.append((n, *(sides[:2] if preprocess else sides[1:])))
        with torch.no_grad():
            outputs = graph(*map(torch.from_numpy, inputs.values()))
        return {name: output.numpy() for name, output in zip(graph.outputs, outputs, strict=True)}

    result = compared(network, graph, infer, axes)
    assert met == taken
    assert (result.images, result.unpaired) == (sum(n for n, *_ in taken), 0)


@pytest.mark.parametrize("output", ["scores", "masks"])
def test_numbers_that_are_not_finite_are_refused(model: Detector, output: str) -> None:
    graph = Graph(model).eval()

    def infer(inputs: Arrays) -> Arrays:
        with torch.no_grad():
            outputs = graph(*map(torch.from_numpy, inputs.values()))
        got = {name: value.numpy().copy() for name, value in zip(graph.outputs, outputs, strict=True)}
        got[output][0, 0] = np.nan
        return got

    with pytest.raises(DepartsFromModel, match="gives numbers that are not finite"):
        compared(model, graph, infer, AXES)


def test_masks_are_compared_at_one_half(model: Detector) -> None:
    one = found((SQUARE, 0.9, 1), masks=0.7)
    other = found((SQUARE, 0.9, 1), masks=0.7)
    other["masks"][0, 0, 0] = 0.4  # one of sixteen cells
    assert _one(model, one, other).mask == 15 / 16
    other["masks"][0, 0, 0] = 0.4995
    one["masks"][0, 0, 0] = 0.5005
    assert _one(model, one, other).mask == 1
