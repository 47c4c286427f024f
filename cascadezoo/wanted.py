"""Which of the detections on an image a caller wants: by class, by score, and at most how many.

Shapes: N images, C classes, D detections per image.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, TypeAlias, TypedDict

import numpy as np
import torch
from torch import Tensor

from cascadezoo.coco.categories import Categories
from cascadezoo.errors import UnknownName, UsageError, WrongType
from cascadezoo.modeling.postprocess import DetectionBatch, HostRows
from cascadezoo.spec.conventions import Selection
from cascadezoo.spec.record import Many

Class: TypeAlias = str | int
Classes: TypeAlias = Class | Collection[Class]
Threshold: TypeAlias = float | Mapping[Class, float]

OTHERS = "*"
"""The key of a mapping of thresholds that stands for all classes not named in it."""


class Asked(TypedDict, total=False):
    """The arguments of ``Detector.predict`` that say what is wanted."""

    classes: Classes | None
    threshold: Threshold | None
    max_detections: int | None


class Wanted(NamedTuple):
    """What is wanted of the detections that a network keeps; by default, all of them.

    Attributes:
        lowest: the lowest score of each class, by label; infinity for a class that is not wanted.
        most: detections per image, the best.
    """

    lowest: tuple[float, ...] | None = None
    most: int | None = None

    @classmethod
    def of(
        cls,
        categories: Categories,
        classes: Classes | None,
        threshold: Threshold | None,
        max_detections: int | None,
        rule: Selection,
    ) -> "Wanted":
        """What the arguments of ``Detector.predict`` ask for; ``rule``: what the network keeps without being asked.

        Raises UsageError: no such class (UnknownName), a threshold outside 0..1, no sound number of detections, or
        another type (WrongType).
        """
        if max_detections is not None and (isinstance(max_detections, bool) or not _is_whole(max_detections)):
            raise WrongType(f"max_detections: give a whole number, not {max_detections!r}")
        if max_detections is not None and not 1 <= max_detections <= Many:
            raise UsageError(f"max_detections {max_detections}: give 1 to {Many:,} detections per image")
        most = None if max_detections is None else int(max_detections)
        if classes is None and threshold is None:
            return cls(None, most)
        lowest = _scores(categories, threshold, rule.score_thresh)
        if classes is not None:
            labels = _labels(categories, classes)
            lowest = [score if label in labels else math.inf for label, score in enumerate(lowest)]
        return cls(tuple(lowest), most)

    def asks(self, rule: Selection) -> Selection:
        """``rule``, or one by which a network keeps lower scores, or more detections, where these are wanted."""
        changes: dict[str, Any] = {}
        if self.lowest is not None and min(self.lowest) < rule.score_thresh:
            changes["score_thresh"] = min(self.lowest)
        if self.most is not None and self.most > rule.detections_per_img:
            changes["detections_per_img"] = self.most
        return rule.model_copy(update=changes) if changes else rule

    def among(self, output: DetectionBatch, host: HostRows) -> tuple[DetectionBatch, HostRows]:
        """The wanted rows of each image, in their order, as many as the image that has the most; ``host``: those of
        ``output``, in the host's memory."""
        if self.lowest is None and self.most is None:
            return output.trim(host.rows), host
        keep = torch.arange(host.scores.shape[1]) < host.counts[:, None]
        if self.lowest is not None:
            keep &= host.scores >= torch.tensor(self.lowest, dtype=torch.float32)[host.labels]
        if self.most is not None:
            keep &= keep.cumsum(1) <= self.most
        counts = keep.sum(1)
        order = (~keep).to(torch.int8).argsort(dim=1, stable=True)[:, : max(counts.tolist(), default=0)]
        on_device = order.to(output.boxes.device)
        boxes, scores, labels, rois = (
            _taken(rows, on_device) for rows in (output.boxes, output.scores, output.labels, output.rois)
        )
        masks = None if output.masks is None else _taken(output.masks, on_device)
        found = DetectionBatch(boxes, scores, labels, counts.to(output.counts.device), rois, masks)
        boxes, scores, labels = (_taken(rows, order) for rows in (host.boxes, host.scores, host.labels))
        return found, HostRows(boxes, scores, labels, counts)


def label_of(categories: Categories, wanted: Class) -> int:
    """The label 0..C-1 of a class by its name, or by its id in the data set, as a number or a text of digits.

    Raises UnknownName, with names that are close, and WrongType.
    """
    if isinstance(wanted, str):
        if wanted in categories:
            return categories.label_of(wanted)
        number = int(wanted) if wanted.isascii() and wanted.isdecimal() and len(wanted) < 20 else None
    elif _is_whole(wanted) and not isinstance(wanted, bool):
        number = int(wanted)
    else:
        raise WrongType(f"a class is given by its name or its id, not as {wanted!r}")
    if number is None:
        return categories.label_of(str(wanted))
    if (label := categories.label_of_id(number)) is None:
        raise UnknownName(
            f"no category has the id {number}: the ids, those of the data set, are {min(categories.ids)} to "
            f"{max(categories.ids)}"
        )
    return label


def _labels(categories: Categories, classes: Classes) -> set[int]:
    given = [classes] if isinstance(classes, str) or not isinstance(classes, Collection) else list(classes)
    if not given:
        raise UsageError("classes is empty: name one class or more, or leave it out for all")
    return {label_of(categories, each) for each in given}


def _scores(categories: Categories, threshold: Threshold | None, own: float) -> list[float]:
    """The lowest score of each label."""
    if not isinstance(threshold, Mapping):
        return [own if threshold is None else _score(threshold)] * len(categories)
    others = threshold.get(OTHERS) if OTHERS not in categories else None
    lowest = [own if others is None else _score(others)] * len(categories)
    for name, score in threshold.items():
        if name != OTHERS or OTHERS in categories:
            lowest[label_of(categories, name)] = _score(score)
    return lowest


def _score(threshold: object) -> float:
    if isinstance(threshold, bool) or not isinstance(threshold, int | float | np.number):
        raise WrongType(f"threshold: give a score from 0 to 1, or one for each class by its name, not {threshold!r}")
    if not 0 <= threshold <= 1:
        raise UsageError(f"threshold {threshold}: give a score from 0 to 1")
    return float(threshold)


def _is_whole(number: object) -> bool:
    return isinstance(number, int | np.integer)


def _taken(rows: Tensor, order: Tensor) -> Tensor:
    """Of ``rows`` (N, D, …) those at ``order`` (N, K): (N, K, …)."""
    index = order.view(*order.shape, *[1] * (rows.ndim - 2))
    return rows.gather(1, index.expand(-1, -1, *rows.shape[2:]))
