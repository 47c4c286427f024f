"""The detections of an exported file beside PyTorch's: one set of bounds for every format.

Two images of different sizes go through both, one after the other, then a batch of two; where the file's axes are
fixed, what it takes of these.  Shapes: D detections of one image, M side of a mask.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cascadezoo.detector import Detector
from cascadezoo.errors import DepartsFromModel
from cascadezoo.exporting.graph import Graph, fixed_size
from cascadezoo.modeling.preprocess import ResizedImage
from cascadezoo.ops.boxes import pairwise_iou
from cascadezoo.shapes.dataset import scene

Arrays = dict[str, NDArray[Any]]
Infer = Callable[[Arrays], Mapping[str, NDArray[Any]]]
"""A file's inputs by name to its outputs by name."""

_PAIRED = 0.9  # IoU of boxes from which on two detections of a class are the same one
_NEAR = 0.1  # pixels between edges up to which they are too: a box without area has no IoU
_TIED = 1e-3  # of a score beside a cut, an IoU beside the threshold, a probability beside one half
_REPORT = "please report it with the entry's name and the versions that `cascadezoo doctor` prints"


@dataclass(frozen=True)
class Bounds:
    """How far a file may be from PyTorch.

    Attributes:
        box: largest difference of a coordinate, pixels of the original image.
        score: largest difference of a score.
        mask: least IoU of two masks of a detection.
    """

    box: float = 0.1
    score: float = 1e-3
    mask: float = 0.99


class Check(NamedTuple):
    """What was compared, and how far apart it was at most."""

    images: int
    detections: int
    unpaired: int  # detections of one side alone, ties left out
    box: float
    score: float
    mask: float | None  # the least IoU; None without masks

    def __str__(self) -> str:
        masks = "" if self.mask is None else f", their masks overlap by an IoU of {self.mask:.4f} or more"
        return (
            f"{self.detections} detections on {self.images} images, {self.unpaired} without a partner; boxes differ by "
            f"at most {self.box:.2g} pixels, scores by {self.score:.2g}{masks}"
        )


def check(model: Detector, graph: Graph, infer: Infer, axes: Sequence[str], bounds: Bounds | None = None) -> Check:
    """Compare a file, run by ``infer``, with the model it was made of; ``axes``: those of the file that are dynamic.

    Raises DepartsFromModel where they differ by more than ``bounds``; the default is that of float32.
    """
    found = compared(model, graph, infer, axes)
    limits = bounds or Bounds()
    masks_differ = found.mask is not None and found.mask < limits.mask
    if found.unpaired or found.box > limits.box or found.score > limits.score or masks_differ:
        raise DepartsFromModel(
            f"the exported file does not detect what the model does ({found}), so nothing was written: {_REPORT}"
        )
    return found


def compared(model: Detector, graph: Graph, infer: Infer, axes: Sequence[str]) -> Check:
    """What ``check`` finds, within bounds or not.

    Raises DepartsFromModel where a number of a detection is not finite.
    """
    checks = []
    for images in _batches(graph, axes):
        inputs = {name: tensor.cpu().numpy() for name, tensor in graph.arguments(images).items()}
        with torch.no_grad():
            ours = graph(*graph.arguments(images).values())
        expected = {name: tensor.cpu().numpy() for name, tensor in zip(graph.outputs, ours, strict=True)}
        got = infer(inputs)
        for i in range(len(images)):
            rows = _rows(got, i)
            if not all(np.isfinite(value).all() for value in rows.values()):  # which no bound below would see
                raise DepartsFromModel(
                    f"the exported file gives numbers that are not finite, so nothing was written: {_REPORT}"
                )
            checks.append(_one(model, _rows(expected, i), rows))
    masks = [one.mask for one in checks if one.mask is not None]
    return Check(
        images=len(checks),
        detections=sum(one.detections for one in checks),
        unpaired=sum(one.unpaired for one in checks),
        box=max(one.box for one in checks),
        score=max(one.score for one in checks),
        mask=min(masks) if masks else None,
    )


def _batches(graph: Graph, axes: Sequence[str]) -> list[list[ResizedImage]]:
    """Images as the file takes them: of two sizes where a side is dynamic or both are padded to one square, and two at
    once where the batch is."""
    model = graph.model
    first, second = (scene("val", index).image for index in (0, 2))
    padded = model.spec.preprocess.square and not graph.preprocess
    if padded or {"height", "width"} <= set(axes):
        images = [model.resize(first), model.resize(np.ascontiguousarray(second[: len(second) * 3 // 4]))]
        twin = model.resize(np.ascontiguousarray(first[:, ::-1]))
    else:
        fixed = fixed_size(graph)
        images = [_stretched(first, graph, fixed), _stretched(second, graph, _other_size(graph, axes))]
        twin = _stretched(second, graph, fixed)
    return [[image] for image in images] + ([[images[0], twin]] if "batch" in axes else [])


def _other_size(graph: Graph, axes: Sequence[str]) -> tuple[int, int]:
    """The fixed size with a dynamic side a quarter longer, or in a square shorter."""
    spec = graph.model.spec.preprocess
    divisor = 1 if graph.preprocess else spec.size_divisor
    by = -1 if spec.square else 1
    height, width = (
        size + by * -(-size // 4 // divisor) * divisor if name in axes else size
        for name, size in zip(("height", "width"), fixed_size(graph), strict=True)
    )
    return height, width


def _stretched(image: NDArray[np.uint8], graph: Graph, size: tuple[int, int]) -> ResizedImage:
    """An image of exactly this size at network scale."""
    kind = np.float32 if graph.model.spec.conventions.resize.float32 else np.uint8
    return ResizedImage(cv2.resize(image, size[::-1]).astype(kind), size, 1.0)


def _rows(outputs: Mapping[str, NDArray[Any]], image: int) -> Arrays:
    """The detections of one image of a batch."""
    count = int(outputs["counts"][image])
    return {name: value[image][:count] for name, value in outputs.items() if name != "counts"}


def _one(model: Detector, ours: Arrays, theirs: Arrays) -> Check:
    selection = model.spec.conventions.selection
    one, other = (torch.from_numpy(side["boxes"]).double() for side in (ours, theirs))
    iou = pairwise_iou(one, other, selection.nms.extent).numpy()
    apart = np.abs(ours["boxes"][:, None] - theirs["boxes"][None]).max(-1)
    iou = np.where(apart <= _NEAR, 1, iou) * (ours["labels"][:, None] == theirs["labels"][None])
    pairs, free = [], np.ones(len(theirs["scores"]), dtype=bool)
    for row in range(len(ours["scores"])):
        best = int(np.argmax(np.where(free, iou[row], 0))) if free.any() else -1
        if best >= 0 and free[best] and iou[row, best] >= _PAIRED:
            pairs.append((row, best))
            free[best] = False
    i, j = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    lost = np.ones(len(ours["scores"]), dtype=bool)
    lost[i] = False
    full = selection.detections_per_img
    # rounding decides whether one of two suppresses the other, or which of them
    tied = np.abs(iou - selection.nms.iou) < _TIED
    swapped = (iou > selection.nms.iou) & (np.abs(ours["scores"][:, None] - theirs["scores"][None]) < _TIED)
    tied |= swapped & lost[:, None] & free[None]
    alone = sum(
        int((missing & ~(_at_cut(side["scores"], selection.score_thresh, full) | excused)).sum())
        for missing, side, excused in ((lost, ours, tied.any(1)), (free, theirs, tied.any(0)))
    )
    masks = [_mask_iou(ours["masks"][a], theirs["masks"][b]) for a, b in pairs] if "masks" in ours else None
    return Check(
        images=1,
        detections=len(ours["scores"]),
        unpaired=alone,
        box=float(np.abs(ours["boxes"][i] - theirs["boxes"][j]).max(initial=0)),
        score=float(np.abs(ours["scores"][i] - theirs["scores"][j]).max(initial=0)),
        mask=None if masks is None else min(masks, default=1.0),
    )


def _at_cut(scores: NDArray[Any], threshold: float, most: int) -> NDArray[np.bool_]:
    """The detections that a rounding error leaves out: at the threshold, or last of as many as are kept."""
    at = scores < threshold + _TIED
    return at | (scores < scores.min() + _TIED) if len(scores) >= most else at


def _mask_iou(one: NDArray[Any], other: NDArray[Any]) -> float:
    """The IoU of two masks (M, M), less the cells where either probability is one half except for rounding."""
    sure = (np.abs(one - 0.5) >= _TIED) & (np.abs(other - 0.5) >= _TIED)
    a, b = (one > 0.5) & sure, (other > 0.5) & sure
    union = int((a | b).sum())
    return 1.0 if union == 0 else int((a & b).sum()) / union
