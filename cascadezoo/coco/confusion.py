"""The confusion matrix of a detector: which classes its detections take for which.

Of each image the detections of at least a score, the best first, take the free object that they overlap most, whatever
its class, if that is at least ``iou``; of equal overlaps one of the detection's class, then the first.  What takes none
is background that was detected, an object that nobody takes is missed.  A detection that lies in a crowd of its class,
by as much of its own area, does not count, nor does the crowd.

Sources: the rule of supervision's and Ultralytics' ``ConfusionMatrix``, with COCO's order of matching (by score, not by
overlap: ``pycocotools/cocoeval.py``, ``evaluateImg``) and its crowds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cascadezoo.coco.evaluation import Kind, Truth
from cascadezoo.coco.overlaps import ImageOverlaps, overlaps

SCORE = 0.3  # as supervision
IOU = 0.5
BACKGROUND = "background"

Array = npt.NDArray[np.float64]


class ImageMatches(NamedTuple):
    """One image's detections and objects, as they were matched.

    Attributes:
        overlaps: the image.
        pairs: each detection's and its object's place, whatever their classes.
        spurious: places of detections that took no object.
        missed: places of objects that none took.
    """

    overlaps: ImageOverlaps
    pairs: list[tuple[int, int]]
    spurious: list[int]
    missed: list[int]

    @property
    def mistakes(self) -> int:
        """Objects taken for another class, spurious detections and missed objects together."""
        ours, theirs = self.overlaps.detections, self.overlaps.objects
        mistaken = sum(bool(ours[d]["category_id"] != theirs[t]["category_id"]) for d, t in self.pairs)
        return mistaken + len(self.spurious) + len(self.missed)


@dataclass(frozen=True)
class ConfusionMatrix:
    """How often which class was taken for which; C classes by ascending category id.

    Attributes:
        kind: "bbox" or "segm", whose overlap was meant.
        score, iou: the thresholds, both reached by equality.
        category_ids: the data set's own ids.
        names: the classes', and "background" last.
        counts: (C+1, C+1) whole numbers: row what is annotated, column what was detected; the last row is detections
            of background, the last column objects that were missed.
    """

    kind: Kind
    score: float
    iou: float
    category_ids: tuple[int, ...]
    names: tuple[str, ...]
    counts: npt.NDArray[np.int64]

    def precision(self) -> Array:
        """(C,) of the detections of each class, the share that is right, 0..1; NaN where there is none."""
        return _share(self.counts.diagonal()[:-1], self.counts.sum(axis=0)[:-1])

    def recall(self) -> Array:
        """(C,) of the objects of each class, the share that was found as such, 0..1; NaN where there is none."""
        return _share(self.counts.diagonal()[:-1], self.counts.sum(axis=1)[:-1])

    def shares(self) -> Array:
        """(C+1, C+1) each row divided by its sum, 0..1, for a picture; a row without any is NaN."""
        return _share(self.counts, self.counts.sum(axis=1, keepdims=True))

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and texts; a share of nothing is None."""
        return {
            "kind": self.kind,
            "score": self.score,
            "iou": self.iou,
            "category_ids": list(self.category_ids),
            "names": list(self.names),
            "counts": self.counts.tolist(),
            "precision": [None if np.isnan(value) else float(value) for value in self.precision()],
            "recall": [None if np.isnan(value) else float(value) for value in self.recall()],
        }


def confusion_matrix(
    truth: Truth,
    results: Iterable[Mapping[str, Any]],
    kind: Kind = "bbox",
    image_ids: Iterable[int] | None = None,
    score: float = SCORE,
    iou: float = IOU,
    category_ids: Iterable[int] | None = None,
) -> ConfusionMatrix:
    """The confusion matrix of COCO results (see the module's header for the rule).

    Args:
        truth: as ``cascadezoo.coco.evaluation.read_truth`` gives it, with "segm" among its kinds for "segm".
        results: COCO results.
        kind: "bbox" or "segm".
        image_ids: the images that count; default: all.
        score, iou: thresholds, 0..1, both reached by equality.
        category_ids: the categories that count, as if there were no others; default: all of ``truth``.

    Raises UsageError for results without masks where masks are to be compared.
    """
    counted = {item["id"] for item in truth["categories"]} if category_ids is None else set(category_ids)
    categories = sorted((item["id"], item["name"]) for item in truth["categories"] if item["id"] in counted)
    images = overlaps(truth, results, kind, image_ids, score, category_ids=counted)
    return matrix_of(categories, matches(images, iou), kind, score, iou)


def matrix_of(
    categories: Sequence[tuple[int, str]], matched: Iterable[ImageMatches], kind: Kind, score: float, iou: float
) -> ConfusionMatrix:
    """The matrix of images that ``matches`` gave with these thresholds; ids and names by ascending id."""
    place = {category_id: label for label, (category_id, _) in enumerate(categories)}
    nothing = len(categories)
    counts = np.zeros((nothing + 1, nothing + 1), dtype=np.int64)
    for image in matched:
        ours = [place[one["category_id"]] for one in image.overlaps.detections]
        theirs = [place[one["category_id"]] for one in image.overlaps.objects]
        for detection, one in image.pairs:
            counts[theirs[one], ours[detection]] += 1
        for detection in image.spurious:
            counts[nothing, ours[detection]] += 1
        for one in image.missed:
            counts[theirs[one], nothing] += 1
    ids, names = tuple(own for own, _ in categories), tuple(name for _, name in categories)
    return ConfusionMatrix(kind, score, iou, ids, (*names, BACKGROUND), counts)


def matches(images: Iterable[ImageOverlaps], iou: float = IOU) -> Iterator[ImageMatches]:
    """Each image's detections matched to its objects, whatever their classes (see the module's header)."""
    for image in images:
        theirs = np.array([one["category_id"] for one in image.objects], dtype=object)
        free = ~image.crowd
        pairs: list[tuple[int, int]] = []
        spurious: list[int] = []
        for number, detection in enumerate(image.detections):
            row = image.iou[number]
            same = theirs == detection["category_id"]
            near = np.flatnonzero(free & (row >= iou))
            if len(near):
                best = near[np.lexsort((~same[near], -row[near]))[0]]
                pairs.append((number, int(best)))
                free[best] = False
            elif not (image.crowd & same & (row >= iou)).any():
                spurious.append(number)
        yield ImageMatches(image, pairs, spurious, np.flatnonzero(free).tolist())


def _share(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> Array:
    with np.errstate(invalid="ignore"):
        share: Array = part / whole
    return share
