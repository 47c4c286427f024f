"""Detections whose masks are drawn by hand: a ring, two parts, a disc, an empty one."""

import numpy as np
import torch

from cascadezoo.coco.categories import Categories
from cascadezoo.detections import Detections
from cascadezoo.ops.mask_paste import Crop
from cascadezoo.outputs.found import Shown

HEIGHT, WIDTH = 120, 160
CATEGORIES = Categories(["cat", "traffic light", "été <&>"], [3, 7, 40])  # ids with gaps


def masks_of(height=HEIGHT, width=WIDTH):
    """(4, height, width) bool: a disc with a hole, two parts, a disc, and nothing."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    masks = np.zeros((4, height, width), bool)
    centre = np.hypot(rows - 60, columns - 50)
    masks[0] = (centre < 45) & (centre >= 20)
    masks[1] = (np.hypot(rows - 35, columns - 120) < 28) | ((abs(rows - 95) < 17) & (abs(columns - 125) < 30))
    masks[2] = np.hypot(rows - 60, (columns - 60) / 2) < 18  # over the first
    return masks


def painted(with_masks=True):
    """Four detections, best first; the last has a box of three pixels and a mask of none."""
    masks = masks_of()
    boxes = []
    for mask in masks[:3]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append([columns[0] - 0.25, rows[0] - 0.25, columns[-1] + 1.25, rows[-1] + 1.25])
    boxes.append([10, 10, 13, 13])

    def paste(probabilities, *_):  # each detection's single cell holds the number of its mask
        for cell in probabilities.flatten().long().tolist():
            yield Crop(0, 0, torch.from_numpy(masks[cell]))

    return Detections(
        torch.tensor(np.array(boxes), dtype=torch.float32),
        torch.tensor([0.9, 0.8, 0.7, 0.6]),
        torch.tensor([0, 1, 2, 0]),
        (HEIGHT, WIDTH),
        CATEGORIES,
        torch.arange(4.0).reshape(4, 1, 1) if with_masks else None,
        paste_method=paste,
    )


def pixels_of(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def shown(number=1, stem="a", path=None):
    return Shown(number, f"photos/{stem}.jpg" if path is None else str(path), stem, pixels_of(number), path)


def overlap(one, other):
    """The IoU of two masks."""
    return (one & other).sum() / (one | other).sum()
