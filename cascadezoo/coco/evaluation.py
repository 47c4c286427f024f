"""COCO's average precision of a list of results: pycocotools, or hotcoco, behind one function.

Source: ``pycocotools/cocoeval.py``; mask results are given without their boxes, as mmdetection's ``CocoMetric`` does,
so that small, medium and large go by the area of the mask.
"""

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeAlias

from cascadezoo.coco.checking import categories_of, read, require_mask_truth
from cascadezoo.coco.records import Annotation, ImageEntry
from cascadezoo.coco.segmentations import area
from cascadezoo.errors import MissingResource, UsageError

Kind: TypeAlias = Literal["bbox", "segm"]
Figures: TypeAlias = dict[str, float | None]

_Numbers: TypeAlias = dict[str, dict[int, int]]  # "image_id", "category_id" -> the file's own id -> the evaluator's

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
EVALUATORS = {"pycocotools": ("pycocotools.coco", "pycocotools.cocoeval"), "hotcoco": ("hotcoco", "hotcoco")}
_LEFT_OUT = {"bbox": "segmentation", "segm": "bbox"}


def evaluate(
    annotations: str | os.PathLike[str],
    results: Sequence[Mapping[str, Any]],
    kinds: Sequence[Kind] = ("bbox", "segm"),
    image_ids: Iterable[int] | None = None,
    evaluator: str = "pycocotools",
    category_ids: Iterable[int] | None = None,
) -> dict[Kind, Figures]:
    """The twelve COCO figures of each kind, in percent; None where no object of that size is annotated.

    Args:
        annotations: a COCO annotation file.
        results: COCO results, as ``Detections.to_coco`` gives them; those with ``segmentation`` for "segm".
        kinds: "bbox", "segm" or both.
        image_ids: the images that count; default: all of the annotation file.
        evaluator: "pycocotools" or "hotcoco".
        category_ids: the categories that count; default: all of the annotation file.

    Raises:
        UsageError: no such evaluator or kind, or results of images or categories that are not annotated.
        MissingResource: no such file, or the evaluator is not installed.
        BadAnnotations: not a sound COCO annotation file, or one without masks for "segm".
    """
    if wrong := [kind for kind in kinds if kind not in _LEFT_OUT]:
        raise UsageError(f"no evaluation is called {wrong[0]!r}: choose {' or '.join(_LEFT_OUT)}")
    coco_class, eval_class = _classes(evaluator)
    document = read_truth(Path(annotations), kinds)
    chosen = {item["id"] for item in document["images"]} if image_ids is None else set(image_ids)
    _check(document, results, kinds, Path(annotations), chosen)
    if category_ids is not None:
        counted = set(category_ids)
        document["categories"] = [item for item in document["categories"] if item["id"] in counted]
        document["annotations"] = [item for item in document["annotations"] if item["category_id"] in counted]
    numbers = _renumber(document)
    ids = sorted(numbers["image_id"][image_id] for image_id in chosen)
    with _silence():
        truth = _coco(coco_class, document)
        return {kind: _figures(coco_class, eval_class, truth, document, results, kind, ids, numbers) for kind in kinds}


def require_evaluator(evaluator: str) -> None:
    """Raise UsageError for an evaluator that does not exist, MissingResource for one that is not installed."""
    _classes(evaluator)


def read_truth(path: Path, kinds: Sequence[Kind] = ("bbox",)) -> dict[str, Any]:
    """A COCO annotation file as evaluators need it: ids of annotations from 1 on, ``area`` and ``iscrowd`` everywhere.

    pycocotools scores two annotations of one id as one, and one with id 0 as never found.  Raises MissingResource, or
    BadAnnotations naming the item that is wrong, or that has no mask for "segm".
    """
    annotations: list[dict[str, Any]] = []

    def keep(annotation: Annotation) -> None:
        truth = {
            "id": len(annotations) + 1,
            "image_id": annotation.image_id,
            "category_id": annotation.category_id,
            "bbox": annotation.bbox,
            "area": annotation.area,
            "iscrowd": int(annotation.is_crowd),
        }
        if annotation.segmentation:
            truth["segmentation"] = annotation.segmentation
        annotations.append(truth)

    contents, _ = read(path, keep)
    if "segm" in kinds:
        require_mask_truth(path, contents.unscorable)
    for truth in annotations:
        if truth["area"] is None:
            truth["area"] = _area(truth, contents.images[truth["image_id"]])
    return {
        "images": [
            {"id": image_id, "file_name": entry.name, "height": entry.height, "width": entry.width}
            for image_id, entry in contents.images.items()
        ],
        "annotations": annotations,
        "categories": categories_of(contents).to_coco(),
    }


def _area(truth: Mapping[str, Any], image: ImageEntry) -> float:
    if "segmentation" in truth:
        return area(truth["segmentation"], image.height, image.width)
    _, _, width, height = truth["bbox"]
    return float(max(width, 0) * max(height, 0))


def _renumber(document: dict[str, Any]) -> _Numbers:
    """Give images and categories the numbers 1, 2, … in the order of their ids: hotcoco takes no negative ones."""
    numbers: _Numbers = {}
    for key, part in (("image_id", "images"), ("category_id", "categories")):
        ids = sorted(item["id"] for item in document[part])
        numbers[key] = {own: number for number, own in enumerate(ids, start=1)}
        for item in document[part]:
            item["id"] = numbers[key][item["id"]]
        for truth in document["annotations"]:
            truth[key] = numbers[key][truth[key]]
    return numbers


def _check(
    document: dict[str, Any],
    results: Sequence[Mapping[str, Any]],
    kinds: Sequence[Kind],
    path: Path,
    image_ids: set[int],
) -> None:
    annotated = {
        "image_id": {item["id"] for item in document["images"]},
        "category_id": {item["id"] for item in document["categories"]},
    }
    if strange := image_ids - annotated["image_id"]:
        raise UsageError(f"{path} has no image {min(strange)}: give the ids of its images")
    for key, known in annotated.items():
        if strangers := {result[key] for result in results} - known:
            raise UsageError(
                f"the results have {key} {min(strangers)}, which {path} lacks: evaluate them on their own annotations"
            )
    if "segm" in kinds and any("segmentation" not in result for result in results):
        raise UsageError("results without segmentation: only their boxes can be evaluated")


def _classes(evaluator: str) -> tuple[Any, Any]:
    if evaluator not in EVALUATORS:
        raise UsageError(f"no evaluator is called {evaluator!r}: choose {' or '.join(EVALUATORS)}")
    try:
        coco, cocoeval = (import_module(name) for name in EVALUATORS[evaluator])
    except ImportError as error:
        raise MissingResource(f"{evaluator} cannot be imported ({error}): pip install {evaluator}") from error
    return coco.COCO, cocoeval.COCOeval


def _figures(
    coco_class: Any,
    eval_class: Any,
    truth: Any,
    document: dict[str, Any],
    results: Sequence[Mapping[str, Any]],
    kind: Kind,
    ids: list[int],
    numbers: _Numbers,
) -> Figures:
    own = [
        {key: value for key, value in r.items() if key != _LEFT_OUT[kind]}
        | {key: numbers_of[r[key]] for key, numbers_of in numbers.items()}
        for r in results
    ]
    detections = truth.loadRes(own) if own else _coco(coco_class, {**document, "annotations": []})
    run = eval_class(truth, detections, kind)
    run.params.imgIds = ids
    run.evaluate()
    run.accumulate()
    run.summarize()
    # -1 is COCO's sign for no ground truth
    return {name: 100 * float(value) if value > -1 else None for name, value in zip(METRICS, run.stats, strict=True)}


def _coco(coco_class: Any, document: dict[str, Any]) -> Any:
    coco = coco_class()
    coco.dataset = {"info": {}, **document}  # pycocotools 2.0.9 and 2.0.10 want it
    coco.createIndex()
    return coco


@contextmanager
def _silence() -> Iterator[None]:
    """Both evaluators print their progress and a table."""
    with redirect_stdout(io.StringIO()):
        yield
