"""Which mistakes cost how much average precision: TIDE's kinds of error.

Detections are matched as COCO does at one IoU threshold, ``iou``.  One that took no object is of the first of these
kinds that fits; overlaps are with objects that are no crowds, and ``background`` is a lower threshold:

- Loc: it overlaps an object of its class by ``background`` to ``iou``;
- Cls: it overlaps an object of another class by at least ``iou``;
- Dupe: it overlaps an object of its class by at least ``iou`` that a better detection took;
- Bkg: it overlaps nothing by more than ``background``;
- Both: any other: wrong class and badly placed.

Miss: an object that nothing took, and that no Loc or Cls would have taken.  Fixing a kind makes the best Loc or Cls of
each free object right, and takes its other detections away; a missed object counts no more.  FalsePos puts all wrong
detections last, FalseNeg takes away all objects that nothing took.  The gain is what average precision then is, less
what it was; the gains do not add up.

Source: Bolya, Foley, Hays, Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, and
the authors' ``tidecv`` 1.0.1 (``quantify.py``), whose numbers these are, except that equal scores keep COCO's order and
recall is sampled at COCO's very points, which differ from theirs in the last bit.  As there, a wrong detection in a
crowd of its class has a kind, though it lowers no precision; and, other than in COCO's AP50, a class that is detected
but not annotated counts as 0.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cascadezoo.coco.curves import RECALLS, Array
from cascadezoo.coco.evaluation import Kind, Truth
from cascadezoo.coco.overlaps import ImageOverlaps, overlaps

IOU, BACKGROUND = 0.5, 0.1
MOST = 100  # detections per image, as COCO
KINDS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
SPECIAL = ("FalsePos", "FalseNeg")


@dataclass(frozen=True)
class ErrorBreakdown:
    """What the mistakes of a detector are, and what each kind of them costs.

    Attributes:
        kind: "bbox" or "segm", whose overlap was meant.
        iou, background: the thresholds.
        ap: average precision at ``iou``, in percent; None where nothing is annotated or detected.
        counts: errors by kind: ``KINDS`` and ``SPECIAL``.
        gains: average precision that fixing each kind alone would add, in percentage points; at least 0.
        by_class: the same counts of each class by its name, Cls under the class that was detected.
    """

    kind: Kind
    iou: float
    background: float
    ap: float | None
    counts: Mapping[str, int]
    gains: Mapping[str, float]
    by_class: Mapping[str, Mapping[str, int]]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        return {
            "kind": self.kind,
            "iou": self.iou,
            "background": self.background,
            "ap": self.ap,
            "counts": dict(self.counts),
            "gains": dict(self.gains),
            "by_class": {name: dict(counts) for name, counts in self.by_class.items()},
        }


class _Object(NamedTuple):
    """An annotated object."""

    category_id: int
    is_taken: bool


class _Found(NamedTuple):
    """A detection: ``kind`` is None where it is right, ``target`` the number of the free object that a Cls or Loc would
    take, and one that lies in a crowd of its class is not counted."""

    category_id: int
    score: float
    kind: str | None
    target: int | None
    is_counted: bool


def error_breakdown(
    truth: Truth,
    results: Iterable[Mapping[str, Any]],
    kind: Kind = "bbox",
    image_ids: Iterable[int] | None = None,
    iou: float = IOU,
    background: float = BACKGROUND,
) -> ErrorBreakdown:
    """The errors in COCO results by kind (see the module's header), of each image the best hundred detections.

    Args:
        truth: as ``cascadezoo.coco.evaluation.read_truth`` gives it, with "segm" among its kinds for "segm".
        results: of categories of ``truth``.
        kind: "bbox" or "segm".
        image_ids: the images that count; default: all.
        iou, background: thresholds, 0..1.

    Raises UsageError for results without masks where masks are to be compared.
    """
    objects: list[_Object] = []
    found: list[_Found] = []
    for image in overlaps(truth, results, kind, image_ids, most=MOST):
        _sort(image, iou, background, objects, found)
    best = _best(found)
    free = [number for number, one in enumerate(objects) if not one.is_taken]
    missed = [number for number in free if number not in best]
    errors = [(one.category_id, one.kind) for one in found if one.kind]
    errors += [(objects[number].category_id, "Miss") for number in missed]
    errors += [(one.category_id, "FalsePos") for one in found if one.kind and one.is_counted]
    errors += [(objects[number].category_id, "FalseNeg") for number in free]
    ap = _average_precision(found, objects)
    gains = {}
    for fixed in (*KINDS, *SPECIAL):
        left_out = {"Miss": missed, "FalseNeg": free}.get(fixed, [])
        after = _average_precision(_fixed(found, fixed, objects, best), objects, left_out)
        gains[fixed] = max(0.0, (after or 0.0) - (ap or 0.0))
    counts, both = Counter(name for _, name in errors), Counter(errors)
    names = {item["id"]: item["name"] for item in truth["categories"]}
    return ErrorBreakdown(
        kind=kind,
        iou=iou,
        background=background,
        ap=ap,
        counts={name: counts[name] for name in gains},
        gains=gains,
        by_class={names[own]: {name: both[own, name] for name in gains} for own in sorted(names)},
    )


def _sort(image: ImageOverlaps, iou: float, background: float, objects: list[_Object], found: list[_Found]) -> None:
    """Match one image, and add its objects, less the crowds, and its detections with their kinds."""
    first = len(objects)
    there = [one for one, is_crowd in zip(image.objects, image.crowd, strict=True) if not is_crowd]
    near = image.iou[:, ~image.crowd]
    ours = np.array([one["category_id"] for one in image.detections], dtype=object)
    theirs = np.array([one["category_id"] for one in there], dtype=object)
    same = ours[:, None] == theirs[None, :]
    of_class = np.where(same, near, 0.0)
    taken, right = _matched(of_class, iou)
    in_crowd = np.array([one["category_id"] for one in image.objects], dtype=object)[image.crowd]
    crowds = np.where(ours[:, None] == in_crowd[None, :], image.iou[:, image.crowd], 0.0)
    is_forgiven = np.asarray((crowds > iou).any(axis=1))
    for number, detection in enumerate(image.detections):
        kind, target = None, None
        if not right[number]:
            kind, target = _kind(near[number], of_class[number], taken, iou, background)
        place = None if target is None or taken[target] else first + target
        is_counted = bool(right[number] or not is_forgiven[number])
        found.append(_Found(detection["category_id"], detection["score"], kind, place, is_counted))
    objects += [_Object(one["category_id"], bool(is_taken)) for one, is_taken in zip(there, taken, strict=True)]


def _matched(of_class: Array, iou: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which objects (T,) are taken, and which detections (D,), by falling score, are right."""
    left = of_class.copy()
    taken, right = (np.zeros(count, dtype=np.bool_) for count in left.shape[::-1])
    for number, row in enumerate(left if left.size else ()):
        nearest = row.argmax()
        if row[nearest] >= iou:
            right[number] = taken[nearest] = True
            left[:, nearest] = 0
    return taken, right


def _kind(
    near: Array, of_class: Array, taken: npt.NDArray[np.bool_], iou: float, background: float
) -> tuple[str, int | None]:
    """The kind of one wrong detection, and the object that a Loc or Cls is of.

    ``near`` and ``of_class`` (T,): its overlap with every object, and the same where the class is its own, else 0.
    """
    if not len(near):
        return "Bkg", None
    other = np.where(of_class == near, 0.0, near)
    if background <= of_class.max() <= iou:
        return "Loc", int(of_class.argmax())
    if other.max() >= iou:
        return "Cls", int(other.argmax())
    if np.where(taken, of_class, 0.0).max() >= iou:
        return "Dupe", None
    return ("Bkg" if near.max() <= background else "Both"), None


def _best(found: list[_Found]) -> dict[int, int]:
    """By the number of each free object that Loc or Cls would take: which of these detections has the best score."""
    best: dict[int, int] = {}
    for number, one in enumerate(found):
        if one.target is not None and (one.target not in best or found[best[one.target]].score < one.score):
            best[one.target] = number
    return best


def _fixed(found: list[_Found], fixed: str, objects: list[_Object], best: Mapping[int, int]) -> list[_Found]:
    """The detections without the errors of one kind: right now, or gone, or behind all others."""
    left = []
    for number, one in enumerate(found):
        if fixed == "FalsePos":
            left.append(one if one.kind is None else one._replace(score=-math.inf))
        elif one.kind != fixed:
            left.append(one)
        elif one.target is not None and best[one.target] == number:
            label = objects[one.target].category_id
            left.append(one._replace(category_id=label, kind=None, is_counted=True))
    return left


def _average_precision(found: list[_Found], objects: list[_Object], left_out: Iterable[int] = ()) -> float | None:
    """Average precision in percent, the mean of all classes that are annotated or detected; None without any.

    ``left_out``: objects that do not count.  Recall is sampled as COCO does.
    """
    annotated = Counter(one.category_id for one in objects)
    annotated.subtract(objects[number].category_id for number in left_out)
    points: dict[int, list[tuple[float, bool]]] = {label: [] for label, count in annotated.items() if count}
    for one in found:
        if one.is_counted:
            points.setdefault(one.category_id, []).append((one.score, one.kind is None))
    values = [_of_class(those, annotated[label]) for label, those in points.items()]
    return 100 * sum(values) / len(values) if values else None


def _of_class(points: list[tuple[float, bool]], annotated: int) -> float:
    """Average precision, 0..1, of one class's detections, scores and whether each is right."""
    if not annotated or not points:
        return 0.0
    right = np.array([is_right for _, is_right in sorted(points, key=lambda point: -point[0])])
    hits = right.cumsum()
    precision = np.maximum.accumulate((hits / np.arange(1, len(right) + 1))[::-1])[::-1]
    places = np.searchsorted(hits / annotated, RECALLS, side="left")
    return float(np.append(precision, 0.0)[places].mean())
