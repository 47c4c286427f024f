"""Masks resized to boxes of whole pixels, against the bilinear formula written out."""

import numpy as np
import torch

from cascadezoo.coco.rle import encode_crop
from cascadezoo.ops.mask_paste import paste, paste_integer_box


def expected(cells: np.ndarray, box: list[float], height: int, width: int) -> np.ndarray:
    """Rim, widen, truncate, sample at half-pixel centres with repeated borders, compare."""
    rimmed = np.pad(cells.astype(np.float64), 1)
    n = len(rimmed)
    scale = n / len(cells)
    sides = []
    for low, high in ((box[0], box[2]), (box[1], box[3])):
        centre, half = (low + high) / 2, (high - low) / 2 * scale
        sides.append((int(centre - half), int(centre + half)))  # int() truncates towards zero
    out = np.zeros((height, width), bool)
    (x1, x2), (y1, y2) = sides
    for y in range(max(y1, 0), min(y2 + 1, height)):
        for x in range(max(x1, 0), min(x2 + 1, width)):
            out[y, x] = sample(
                rimmed, (y - y1 + 0.5) * n / (y2 - y1 + 1) - 0.5, (x - x1 + 0.5) * n / (x2 - x1 + 1) - 0.5
            )
    return out


def sample(cells: np.ndarray, y: float, x: float) -> bool:
    top, left = int(np.floor(y)), int(np.floor(x))
    fy, fx = y - top, x - left
    rows, columns = (np.clip([a, a + 1], 0, len(cells) - 1) for a in (top, left))
    corners = cells[np.ix_(rows, columns)]
    return bool(np.array([1 - fy, fy]) @ corners @ np.array([1 - fx, fx]) > 0.5)


def test_equals_the_formula_in_and_at_the_edges_of_the_image() -> None:
    rng = np.random.default_rng(0)
    for box in ([10.0, 12.0, 40.3, 50.9], [0.0, 0.0, 20.0, 33.0], [30.0, 20.0, 79.0, 59.0], [5.2, 5.1, 5.9, 5.3]):
        cells = rng.random((28, 28), dtype=np.float32)
        pasted = paste(torch.from_numpy(cells)[None], torch.tensor([box]), 60, 80, paste_integer_box)
        assert (pasted[0].numpy() == expected(cells, box, 60, 80)).mean() > 0.999, box
        assert pasted.shape == (1, 60, 80)


def test_a_full_mask_fills_its_box() -> None:
    """20..75 is widened to 18.04..76.96, 18..76 in whole pixels: 59 for 30 cells.

    A pixel is set where its centre lies more than one cell inside: (i + 0.5) * 30 / 59 > 1, from i = 2, x = 20.
    """
    pasted = paste(torch.ones(1, 28, 28), torch.tensor([[20.0, 20.0, 75.0, 75.0]]), 100, 100, paste_integer_box)[0]
    rows = pasted.any(1).nonzero()[:, 0]
    assert (rows[0].item(), rows[-1].item()) == (20, 74)
    assert pasted.sum() == 55 * 55


def test_one_half_is_not_enough() -> None:
    boxes = torch.tensor([[10.0, 10.0, 30.0, 30.0]])
    assert not paste(torch.full((1, 28, 28), 0.5), boxes, 50, 50, paste_integer_box).any()
    assert paste(torch.full((1, 28, 28), 0.51), boxes, 50, 50, paste_integer_box).any()


def test_a_box_outside_the_image_is_empty() -> None:
    boxes = torch.tensor([[200.0, 200.0, 220.0, 220.0]])
    (crop,) = paste_integer_box(torch.ones(1, 28, 28), boxes, 50, 60)
    assert crop.mask.numel() == 0
    assert not paste(torch.ones(1, 28, 28), boxes, 50, 60, paste_integer_box).any()
    assert encode_crop(crop.mask.numpy(), crop.top, crop.left, 50, 60)["size"] == [50, 60]
