"""Objects' outlines as polygons, and the targets that are drawn from them on the cells of a mask.

T objects of one image, some of them with polygons; F positive boxes; M the side of a mask target.

Formulas ported from (licences in NOTICE):

- PaddlePaddle/PaddleDetection 2.6.0 (93e2d433), Copyright (c) PaddlePaddle Authors, Apache-2.0:
  ``ppdet/modeling/proposal_generator/target.py`` (``rasterize_polygons_within_box``)
- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/roi_data/mask_rcnn.py``, ``detectron/utils/segms.py`` (``polys_to_mask_wrt_box``, ``polys_to_boxes``)
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cascadezoo.coco.segmentations import bitmap
from cascadezoo.ops.boxes import pairwise_iou

Points = npt.NDArray[np.float64]  # (K, 2) x and y


class Polygons(NamedTuple):
    """Q polygons of the objects that have some; all tensors on the CPU, where they are drawn."""

    points: Tensor  # (sum of the polygons' points, 2) float64 x and y, network pixels, one polygon after the other
    lengths: Tensor  # (Q,) int64 how many points each polygon has
    objects: Tensor  # (Q,) int64 the object of each polygon, ascending

    @classmethod
    def of(cls, shapes: Sequence[Sequence[Points]]) -> "Polygons":
        """From the polygons of each of T objects, network pixels; an empty sequence for an object without."""
        polygons = [polygon for shape in shapes for polygon in shape]
        return cls(
            torch.from_numpy(np.concatenate([np.zeros((0, 2)), *polygons])),
            torch.tensor([len(polygon) for polygon in polygons], dtype=torch.int64),
            torch.arange(len(shapes)).repeat_interleave(torch.tensor([len(shape) for shape in shapes]).long()),
        )

    def where(self, keep: Tensor) -> "Polygons":
        """The polygons of the objects that ``keep`` (T,) bool on the CPU marks, which are counted anew."""
        kept = keep[self.objects]
        points = self.points[kept.repeat_interleave(self.lengths)]
        return Polygons(points, self.lengths[kept], (keep.cumsum(0) - 1)[self.objects[kept]])

    def nearest(self, boxes: Tensor, extent: int) -> Tensor:
        """The object (F,) int64 whose polygons' bounds, corners of the points, overlap each of boxes (F, 4) most."""
        objects, which = self.objects.unique(return_inverse=True)
        rows = which.repeat_interleave(self.lengths)[:, None].expand(-1, 2)
        low, high = (
            self.points.new_zeros(len(objects), 2).scatter_reduce(0, rows, self.points, how, include_self=False)
            for how in ("amin", "amax")
        )
        bounds = torch.cat((low, high), 1).to(boxes)
        chosen: Tensor = objects.to(boxes.device)[pairwise_iou(boxes, bounds, extent).argmax(1)]
        return chosen

    def draw(self, boxes: Tensor, objects: Tensor, side: int, least_side: float) -> Tensor:
        """The polygons of each object (F,), moved and scaled so that its box (F, 4) is the mask's M x M cells, and
        filled by pycocotools: float32 (F, M, M) zeros and ones.

        A side of a box counts as at least ``least_side``.
        """
        polygons = defaultdict(list)
        for index, points in zip(self.objects.tolist(), self.points.split(self.lengths.tolist()), strict=True):
            polygons[index].append(points.numpy())
        drawn = np.empty((len(boxes), side, side), dtype=np.float32)
        for cells, box, index in zip(drawn, boxes.double().cpu().numpy(), objects.tolist(), strict=True):
            corner, scale = box[:2], side / np.maximum(box[2:] - box[:2], least_side)
            cells[:] = bitmap([(points - corner) * scale for points in polygons[index]], side, side)
        return torch.from_numpy(drawn).to(boxes.device)
