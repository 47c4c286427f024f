"""COCO's annotation file, as plain data."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cascadezoo.coco.categories import Categories


def annotation_file(
    categories: Categories, images: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]], description: str
) -> dict[str, Any]:
    """A COCO annotation file of detections, which ``pycocotools.coco.COCO`` and labelling tools open as it is.

    ``images``: records with ``id``, ``width``, ``height`` and, where known, ``file_name``.  ``results``: records as
    ``Detections.to_coco`` gives them, of either kind of mask; each becomes an annotation with a running ``id``, its
    ``area`` (of the mask where there is one, else of the box; pixels) and ``iscrowd`` 0.  The ``annotations`` are still
    a list of COCO results, with ``score``, for ``COCO.loadRes``.
    """
    return {
        "info": {"description": description},
        "images": [dict(image) for image in images],
        "categories": categories.to_coco(),
        "annotations": list(annotations(results)),
    }


def annotations(results: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What ``annotation_file`` makes of each of its ``results``, one by one."""
    for number, result in enumerate(results, start=1):
        yield {**result, "id": number, "area": _area(result), "iscrowd": 0}


def _area(result: Mapping[str, Any]) -> float:
    if "segmentation" not in result:
        _, _, width, height = result["bbox"]
        return float(width * height)
    segmentation = result["segmentation"]
    if isinstance(segmentation, list):
        from cascadezoo.coco.polygons import area

        return sum((abs(area(list(zip(ring[::2], ring[1::2], strict=True)))) for ring in segmentation), 0.0)
    from pycocotools import mask  # compiled: only where masks are written

    return float(mask.area(segmentation))
