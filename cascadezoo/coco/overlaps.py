"""How much detections and annotated objects of an image overlap, whatever their classes.

D detections, T objects of one image.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from cascadezoo.coco.evaluation import Kind, Truth
from cascadezoo.coco.segmentations import encoded
from cascadezoo.errors import UsageError


class ImageOverlaps(NamedTuple):
    """One image.

    Attributes:
        image_id: the data set's own id.
        detections: COCO results, D, by falling score; those of equal score in their order.
        objects: annotations, T, in the file's order, crowds among them.
        crowd: (T,) which of them are crowds.
        iou: (D, T) intersection over union, 0..1; with a crowd, intersection over the detection's own area.
    """

    image_id: int
    detections: list[Mapping[str, Any]]
    objects: list[Mapping[str, Any]]
    crowd: npt.NDArray[np.bool_]
    iou: npt.NDArray[np.float64]


def overlaps(
    truth: Truth,
    results: Iterable[Mapping[str, Any]],
    kind: Kind = "bbox",
    image_ids: Iterable[int] | None = None,
    score: float = 0.0,
    most: int | None = None,
    category_ids: Iterable[int] | None = None,
) -> Iterator[ImageOverlaps]:
    """Every image of ``truth`` in the file's order, those without objects or detections too.

    Args:
        truth: as ``cascadezoo.coco.evaluation.read_truth`` gives it, with "segm" among its kinds for "segm".
        results: COCO results; those of other images do not count.
        kind: "bbox" or "segm", whose overlap is meant.
        image_ids: the images that count; default: all.
        score: detections below this score do not count.
        most: of each image, only so many detections, the best.
        category_ids: the categories whose detections and objects count; default: all.

    Raises UsageError for results without masks where masks are to be compared.
    """
    chosen = {image["id"] for image in truth["images"]} if image_ids is None else set(image_ids)
    counted = {item["id"] for item in truth["categories"]} if category_ids is None else set(category_ids)
    detections: dict[int, list[Mapping[str, Any]]] = {}
    for result in results:
        if result["score"] >= score and result["category_id"] in counted:
            detections.setdefault(result["image_id"], []).append(result)
    objects: dict[int, list[Mapping[str, Any]]] = {}
    for annotation in truth["annotations"]:
        if annotation["category_id"] in counted:
            objects.setdefault(annotation["image_id"], []).append(annotation)
    for image in truth["images"]:
        image_id = image["id"]
        if image_id in chosen:
            found = sorted(detections.pop(image_id, ()), key=lambda result: -result["score"])[:most]
            there = objects.pop(image_id, [])
            crowd = np.array([bool(one["iscrowd"]) for one in there], dtype=np.bool_)
            iou = _iou(found, there, crowd, kind, (image["height"], image["width"]))
            yield ImageOverlaps(image_id, found, there, crowd, iou)


def _iou(
    found: Sequence[Mapping[str, Any]],
    there: Sequence[Mapping[str, Any]],
    crowd: npt.NDArray[np.bool_],
    kind: Kind,
    size: tuple[int, int],
) -> npt.NDArray[np.float64]:
    if not found or not there:
        return np.zeros((len(found), len(there)))
    if kind == "bbox":
        ours, theirs = ([one["bbox"] for one in of] for of in (found, there))
    else:
        if any("segmentation" not in one for one in found):
            raise UsageError("results without segmentation: only their boxes can be compared")
        ours, theirs = ([encoded(one["segmentation"], *size) for one in of] for of in (found, there))
    iou: npt.NDArray[np.float64] = np.asarray(coco_mask.iou(ours, theirs, crowd.astype(np.uint8)), dtype=np.float64)
    return iou
