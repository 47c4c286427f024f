"""Test-time augmentation: one image at several scales and mirrored, one set of detections.

Shapes: R proposals of all passes together, C classes, B = C where each class has box deltas of its own, else 1,
D detections, M side of a mask.

Formulas ported from (licences in NOTICE):

- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/core/test.py`` (``im_detect_bbox_aug``, ``im_detect_mask_aug``, ``box_results_with_nms_and_limit``),
  ``detectron/utils/boxes.py`` (``box_voting``), and the configurations of its X-152 models
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from cascadezoo.modeling.network import Network
from cascadezoo.modeling.postprocess import DetectionBatch, best, final_boxes
from cascadezoo.modeling.preprocess import resize
from cascadezoo.ops.boxes import pairwise_iou
from cascadezoo.spec.model import MaskHeadSpec, PreprocessSpec
from cascadezoo.spec.record import Record


class TTASettings(Record):
    """What is done to the image and how the passes agree; the default is that of Detectron's X-152 configurations."""

    scales: tuple[float, ...] = Field(
        default=(0.5, 0.625, 0.75, 0.875, 1.125, 1.25, 1.375, 1.5),
        description="Scales besides the model's own, as multiples of its min_size.",
    )
    max_size: float = Field(
        default=2.5,
        gt=0,
        description="The cap of the longer side at these scales, as a multiple of min_size.  A square that images are"
        " padded to grows and shrinks with the scale, and is a cap too.",
    )
    flip: bool = Field(default=True, description="Also mirror the image at the model's own scale.")
    scale_flip: bool = Field(default=True, description="Also mirror the image at the other scales.")
    masks: Literal["soft_avg", "soft_max"] = Field(
        default="soft_avg", description="How the mask probabilities of all passes become one: their mean or maximum."
    )
    voting: float | None = Field(
        default=0.9,
        gt=0,
        le=1,
        description="The IoU from which candidates of the same class vote on a detection's box, weighted by their"
        " scores; null for no vote.",
    )


class _Pass(NamedTuple):
    """What one augmented run of the network leaves: its candidates, and what their masks will be pooled from."""

    features: list[Tensor]
    scales: Tensor  # ``Batch.scales``
    flipped: bool
    boxes: Tensor  # (1, R, B, 4) original pixels of the image as given
    probabilities: Tensor  # (1, R, C)
    valid: Tensor  # (1, R)


def detect(model: Network, image: NDArray[np.uint8], settings: TTASettings) -> DetectionBatch:
    """The detections on a uint8 (H, W, 3) RGB image, in a batch of one; ``rois`` are in original pixels too."""
    runs = _runs(model.spec.preprocess, settings)
    # the largest image first, while the features of few are held; in their own order the candidates are put together
    largest_first = sorted(range(len(runs)), key=lambda number: -runs[number][0].min_size)
    done = {number: _pass(model, image, *runs[number]) for number in largest_first}
    passes = [done[number] for number in range(len(runs))]
    boxes, probabilities, valid = (torch.cat(each, 1) for each in list(zip(*passes, strict=True))[3:])
    detections = _choose(boxes, probabilities, valid, model, settings)
    if model.spec.mask is None:
        return detections
    width = image.shape[1] - model.spec.stages[-1].extent
    return detections._replace(masks=_masks(model, model.spec.mask, passes, detections, width, settings))


def _runs(spec: PreprocessSpec, settings: TTASettings) -> list[tuple[PreprocessSpec, bool]]:
    """Each run's scale, and whether the image is mirrored."""
    cap = round(settings.max_size * spec.min_size)
    runs = [(spec, True)] * settings.flip
    for scale in settings.scales:
        size = round(scale * spec.min_size)
        longest = min(cap, round(scale * spec.max_size)) if spec.square else cap
        scaled = spec.model_copy(update={"min_size": size, "max_size": max(longest, size)})
        runs += [(scaled, False)] + [(scaled, True)] * settings.scale_flip
    return [*runs, (spec, False)]


def _pass(model: Network, image: NDArray[np.uint8], spec: PreprocessSpec, flipped: bool) -> _Pass:
    given = np.ascontiguousarray(image[:, ::-1]) if flipped else image
    batch = model.prepare([resize(given, spec, model.spec.conventions.resize)], spec)
    features = model.extract(batch.pixels)
    predictions = model.refine(features, model.rpn(features, batch.sizes), batch.sizes)
    coder = model.spec.stages[-1]
    boxes, _ = final_boxes(predictions, batch, coder, model.spec.conventions.selection)
    return _Pass(
        features=features[: len(model.spec.roi_strides)],
        scales=batch.scales,
        flipped=flipped,
        boxes=_mirror(boxes, image.shape[1] - coder.extent) if flipped else boxes,
        probabilities=predictions.probabilities[..., :-1],
        valid=predictions.valid,
    )


def _mirror(boxes: Tensor, width: int) -> Tensor:
    """Boxes (..., 4) mirrored left to right in an image whose largest x is ``width``."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((width - x2, y1, width - x1, y2), -1)


def _choose(boxes: Tensor, scores: Tensor, valid: Tensor, model: Network, settings: TTASettings) -> DetectionBatch:
    rule, extent, classes = model.spec.conventions.selection, model.spec.stages[-1].extent, scores.shape[-1]
    keep, counts = best(boxes, scores, valid, rule)
    keep = keep[:, : int(counts)]
    rows, labels = keep[0] // classes, keep[0] % classes
    chosen = boxes[0].expand(-1, classes, -1)[rows, labels]
    if settings.voting is not None:
        above = (scores[0] > rule.score_thresh) & valid[0][:, None]
        chosen = _vote(chosen, labels, boxes[0], scores[0], above, settings.voting, extent)
    top = scores[0].flatten()[keep[0]]
    return DetectionBatch(chosen[None], top[None], labels[None], counts, rois=chosen[None])


def _vote(
    chosen: Tensor, labels: Tensor, boxes: Tensor, scores: Tensor, above: Tensor, iou: float, extent: int
) -> Tensor:
    """Each chosen box (D, 4) becomes the mean, by score, of its class's candidates that overlap it by ``iou``."""
    voted = chosen.clone()
    for label in labels.unique().tolist():
        candidates = boxes[:, min(label, boxes.shape[1] - 1)][above[:, label]]
        weights = scores[above[:, label], label]
        mine = labels == label
        agree = (pairwise_iou(chosen[mine], candidates, extent) >= iou) * weights
        total = agree.sum(1, keepdim=True)
        # a box without area overlaps nothing, not even itself, and stays as it is
        voted[mine] = torch.where(total > 0, agree @ candidates / total, chosen[mine])
    return voted


def _masks(
    model: Network,
    mask: MaskHeadSpec,
    passes: list[_Pass],
    detections: DetectionBatch,
    width: int,
    settings: TTASettings,
) -> Tensor:
    """Masks (1, D, M, M): each pass's probabilities for the same boxes, mirrored back, then averaged."""
    masks = []
    for run in passes:
        boxes = _mirror(detections.boxes, width) if run.flipped else detections.boxes
        rois = boxes * run.scales.repeat(1, 2)[:, None]
        of_pass = model.mask_probabilities(run.features, rois, detections.labels, mask)
        masks.append(of_pass.flip(-1) if run.flipped else of_pass)
    stacked = torch.stack(masks)
    return stacked.mean(0) if settings.masks == "soft_avg" else stacked.amax(0)
