"""How far apart two sets of detections lie, by numbers worked out by hand."""

import pytest
import torch

from cascadezoo.detections import Detections
from cascadezoo.errors import UsageError
from cascadezoo.optimizing.difference import Difference, difference


def found(*rows: tuple[float, float, int], mask: float | None = None, size: tuple[int, int] = (100, 200)) -> Detections:
    """Boxes of 50 x 50 pixels from (x, 10), their scores and labels; masks that fill them."""
    boxes = torch.tensor([[x, 10.0, x + 50, 60.0] for x, _, _ in rows]).view(-1, 4)
    scores, labels = torch.tensor([row[1] for row in rows]), torch.tensor([row[2] for row in rows], dtype=torch.int64)
    probabilities = None if mask is None else torch.full((len(rows), 28, 28), mask)
    return Detections(boxes, scores, labels, size, mask_probs=probabilities)


def test_pairs_are_of_one_class_and_close() -> None:
    before = found((0, 0.9, 1), (100, 0.8, 2), (20, 0.7, 3))
    # moved by a pixel: IoU 49 / 51; of another class; moved by 10: IoU 40 / 60; new
    after = found((1, 0.85, 1), (100, 0.8, 4), (30, 0.7, 3), (150, 0.6, 5))
    apart = difference([before], [after])
    assert (apart.images, apart.before, apart.after, apart.paired) == (1, 3, 4, 1)
    assert apart.score_max == pytest.approx(0.05)
    assert apart.score_p95 == pytest.approx(0.05)
    assert apart.box_max == 1.0
    assert apart.box_p95 == 1.0  # of 1, 0, 1, 0
    assert apart.mask_iou is None


def test_a_detection_has_one_partner() -> None:
    twice = found((0, 0.9, 1), (0, 0.8, 1))
    assert difference([twice], [found((0, 0.9, 1))]).paired == 1
    assert difference([twice], [twice]).paired == 2


def test_images_are_put_together() -> None:
    apart = difference([found((0, 0.9, 1)), found((0, 0.5, 1))], [found((0, 0.8, 1)), found((0, 0.5, 1))])
    assert (apart.before, apart.paired) == (2, 2)
    assert apart.score_max == pytest.approx(0.1)
    assert apart.score_p95 == pytest.approx(0.095)


def test_masks_are_compared_pixel_by_pixel() -> None:
    whole, moved = found((0, 0.9, 1), mask=1.0), found((1, 0.9, 1), mask=1.0)
    assert difference([whole], [moved]).mask_iou == pytest.approx(49 / 51)
    empty = found((0, 0.9, 1), mask=0.0)
    assert difference([whole], [empty]).mask_iou == 0
    assert difference([empty], [empty]).mask_iou == 1


@pytest.mark.parametrize(("one", "other"), [(found(), found((0, 0.9, 1))), (found((0, 0.9, 1)), found())])
def test_nothing_found_differs_in_number_alone(one: Detections, other: Detections) -> None:
    apart = difference([one], [other])
    assert apart == Difference(1, len(one), len(other), 0, 0.0, 0.0, 0.0, 0.0, None)


def test_it_is_a_sentence() -> None:
    apart = difference([found((0, 0.9, 1), mask=1.0)], [found((1, 0.85, 1), mask=1.0)])
    assert str(apart) == (
        "1 and 1 detections on 1 images, 1 of them in both: their scores differ by at most 0.05 (0.05 in 95 %), their "
        "boxes by 1 pixels (1 in 95 %); masks overlap by an IoU of 0.9608 in the mean"
    )


def test_other_images_are_refused() -> None:
    for other in ([found(size=(10, 10))], []):
        with pytest.raises(UsageError, match="not on the same images"):
            difference([found()], other)
