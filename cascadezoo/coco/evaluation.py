"""COCO's average precision of a list of results: pycocotools, or hotcoco, behind one function.

Source: ``pycocotools/cocoeval.py``; mask results are given without their boxes, as mmdetection's ``CocoMetric`` does,
so that small, medium and large go by the area of the mask.  Both evaluators are given sound results alone.
"""

import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from cascadezoo.coco.checking import categories_of, read, require_mask_truth
from cascadezoo.coco.curves import ClassFigures, Evaluation, Figures, figures_of
from cascadezoo.coco.records import Annotation, ImageEntry
from cascadezoo.coco.results import FIELDS, require_sound
from cascadezoo.coco.results import Kind as Kind
from cascadezoo.coco.results import Truth as Truth
from cascadezoo.coco.segmentations import area
from cascadezoo.errors import MissingResource, UsageError

_Numbers: TypeAlias = dict[str, dict[int, int]]  # "image_id", "category_id" -> the file's own id -> the evaluator's

EVALUATORS = {"hotcoco": ("hotcoco", "hotcoco"), "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval")}
DEFAULT: Final = "hotcoco"  # to the last bit what pycocotools gives, in a fraction of its time

_ran_in: int | None = None  # the process in which hotcoco first ran: a fork does not get its threads, and would wait


def evaluate(
    annotations: str | os.PathLike[str],
    results: Sequence[Mapping[str, Any]],
    kinds: Sequence[Kind] = ("bbox", "segm"),
    image_ids: Iterable[int] | None = None,
    evaluator: str | None = None,
    category_ids: Iterable[int] | None = None,
) -> dict[Kind, Figures]:
    """The twelve COCO figures of each kind, in percent; None where no object of that size is annotated.

    Args:
        annotations: a COCO annotation file.
        results: COCO results, as ``Detections.to_coco`` gives them; those with ``segmentation`` for "segm".
        kinds: "bbox", "segm" or both.
        image_ids: the images that count; default: all of the annotation file.
        evaluator: "hotcoco" or "pycocotools", whose figures are the same; default: ``default_evaluator()``.
        category_ids: the categories that count, as if there were no others; default: all of the annotation file.

    Raises:
        UsageError: no such evaluator or kind, or a result that cannot be evaluated (``results.require_sound``).
        MissingResource: no such file, or the evaluator is not installed.
        BadAnnotations: not a sound COCO annotation file, or one without masks for "segm".
    """
    found = evaluate_fully(annotations, results, kinds, image_ids, evaluator, category_ids)
    return {kind: evaluation.figures for kind, evaluation in found.items()}


def evaluate_fully(
    annotations: str | os.PathLike[str] | Truth,
    results: Sequence[Mapping[str, Any]],
    kinds: Sequence[Kind] = ("bbox", "segm"),
    image_ids: Iterable[int] | None = None,
    evaluator: str | None = None,
    category_ids: Iterable[int] | None = None,
) -> dict[Kind, Evaluation]:
    """The same figures, those of each class, and the precision-recall curves, from one run of the evaluator a kind.

    ``annotations`` may be what ``read_truth`` made of the file, with the same kinds; it is not changed.  For the other
    arguments and what is raised see ``evaluate``.
    """
    if wrong := [kind for kind in kinds if kind not in FIELDS]:
        raise UsageError(f"no evaluation is called {wrong[0]!r}: choose {' or '.join(FIELDS)}")
    global _ran_in
    chosen_evaluator = default_evaluator() if evaluator is None else evaluator
    coco_class, eval_class = _classes(chosen_evaluator)
    named = "the truth" if isinstance(annotations, Mapping) else str(annotations)
    truth = annotations if isinstance(annotations, Mapping) else read_truth(Path(annotations), kinds)
    chosen = {item["id"] for item in truth["images"]} if image_ids is None else set(image_ids)
    if strange := chosen - {item["id"] for item in truth["images"]}:
        raise UsageError(f"{named} has no image {min(strange)}: give the ids of its images")
    require_sound(results, truth, kinds, named)
    counted = {item["id"] for item in truth["categories"]} if category_ids is None else set(category_ids)
    document, numbers = _renumbered(truth, counted)
    ids = sorted(numbers["image_id"][image_id] for image_id in chosen)
    categories = sorted((item["id"], item["name"]) for item in truth["categories"] if item["id"] in counted)
    objects = Counter(
        one["category_id"] for one in truth["annotations"] if one["image_id"] in chosen and not one["iscrowd"]
    )
    evaluations: dict[Kind, Evaluation] = {}
    if chosen_evaluator == "hotcoco":
        _ran_in = os.getpid()
    with _silence():
        coco = _coco(coco_class, document)
        for kind in kinds:
            precision, recall = _run(coco_class, eval_class, coco, document, results, kind, ids, numbers)
            evaluations[kind] = Evaluation(
                figures=figures_of(precision, recall),
                classes=tuple(
                    ClassFigures(own, name, objects[own], figures_of(precision[:, :, [k]], recall[:, [k]]))
                    for k, (own, name) in enumerate(categories)
                ),
                precision=precision[:, :, :, 0, -1],
            )
    return evaluations


def default_evaluator() -> str:
    """ "hotcoco"; in a process that was forked from one where it ran, where it cannot, "pycocotools"."""
    return DEFAULT if _ran_in in (None, os.getpid()) else "pycocotools"


def require_evaluator(evaluator: str) -> None:
    """Raise UsageError for an evaluator that does not exist or cannot run in this process, MissingResource for one that
    is not installed."""
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


def _renumbered(truth: Truth, categories: set[int]) -> tuple[dict[str, Any], _Numbers]:
    """A copy with these categories alone, whose images and categories have the numbers 1, 2, … in the order of their
    ids: hotcoco takes no negative ones."""
    ids = {"image_id": sorted(item["id"] for item in truth["images"]), "category_id": sorted(categories)}
    numbers = {key: {own: number for number, own in enumerate(of_key, start=1)} for key, of_key in ids.items()}
    images, labels = numbers["image_id"], numbers["category_id"]
    document = {
        "images": [item | {"id": images[item["id"]]} for item in truth["images"]],
        "annotations": [
            one | {"image_id": images[one["image_id"]], "category_id": labels[one["category_id"]]}
            for one in truth["annotations"]
            if one["category_id"] in labels
        ],
        "categories": [item | {"id": labels[item["id"]]} for item in truth["categories"] if item["id"] in labels],
    }
    return document, numbers


def _classes(evaluator: str) -> tuple[Any, Any]:
    if evaluator not in EVALUATORS:
        raise UsageError(f"no evaluator is called {evaluator!r}: choose {' or '.join(EVALUATORS)}")
    try:
        coco, cocoeval = (import_module(name) for name in EVALUATORS[evaluator])
    except ImportError as error:
        raise MissingResource(f"{evaluator} cannot be imported ({error}): pip install {evaluator}") from error
    if evaluator == "hotcoco" and _ran_in not in (None, os.getpid()):
        raise UsageError(
            "hotcoco ran before this process was forked, and would wait for ever here: choose pycocotools, or start "
            "processes by spawn"
        )
    return coco.COCO, cocoeval.COCOeval


def _run(
    coco_class: Any,
    eval_class: Any,
    truth: Any,
    document: dict[str, Any],
    results: Sequence[Mapping[str, Any]],
    kind: Kind,
    ids: list[int],
    numbers: _Numbers,
) -> tuple[Any, Any]:
    """COCO's precision (10, 101, C, 4, 3) and recall (10, C, 4, 3), 0..1; -1 is its sign for no ground truth."""
    if not ids:  # hotcoco would take all images
        classes = len(document["categories"])
        return np.full((10, 101, classes, 4, 3), -1.0), np.full((10, classes, 4, 3), -1.0)
    own = [
        {"score": r["score"], FIELDS[kind]: r[FIELDS[kind]]} | {key: of_key[r[key]] for key, of_key in numbers.items()}
        for r in results
        if r["category_id"] in numbers["category_id"]
    ]
    detections = truth.loadRes(own) if own else _coco(coco_class, {**document, "annotations": []})
    run = eval_class(truth, detections, kind)
    run.params.imgIds = ids
    run.evaluate()
    run.accumulate()
    return np.asarray(run.eval["precision"]), np.asarray(run.eval["recall"])


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
