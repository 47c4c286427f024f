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

from cascadezoo.errors import FileError, MissingResource, UsageError
from cascadezoo.files import parse_json

Kind: TypeAlias = Literal["bbox", "segm"]
Figures: TypeAlias = dict[str, float | None]

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
        FileError: not a COCO annotation file, or one without masks for "segm".
    """
    if wrong := [kind for kind in kinds if kind not in _LEFT_OUT]:
        raise UsageError(f"no evaluation is called {wrong[0]!r}: choose {' or '.join(_LEFT_OUT)}")
    coco_class, eval_class = _classes(evaluator)
    document = read_annotations(Path(annotations))
    _check(document, results, kinds, Path(annotations))
    if category_ids is not None:
        counted = set(category_ids)
        document["categories"] = [item for item in document["categories"] if item["id"] in counted]
        document["annotations"] = [item for item in document["annotations"] if item["category_id"] in counted]
    ids = sorted(i["id"] for i in document["images"]) if image_ids is None else sorted(set(image_ids))
    with _silence():
        truth = _coco(coco_class, document)
        return {kind: _figures(coco_class, eval_class, truth, document, results, kind, ids) for kind in kinds}


def require_evaluator(evaluator: str) -> None:
    """Raise UsageError for an evaluator that does not exist, MissingResource for one that is not installed."""
    _classes(evaluator)


def read_annotations(path: Path) -> dict[str, Any]:
    """A COCO annotation file as it is; raises MissingResource or FileError."""
    try:
        document = parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingResource(f"no such annotation file: {path}") from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise FileError(f"{path} is no JSON ({error}): it is damaged or cut short, get it again") from error
    wanted = ("images", "annotations", "categories")
    missing = [key for key in wanted if not isinstance(document, dict) or not isinstance(document.get(key), list)]
    if missing:
        raise FileError(f"{path} is no COCO annotation file: it has no list of {' and '.join(missing)}")
    return dict(document)


def _check(document: dict[str, Any], results: Sequence[Mapping[str, Any]], kinds: Sequence[Kind], path: Path) -> None:
    try:
        annotated = {
            "image_id": {item["id"] for item in document["images"]},
            "category_id": {item["id"] for item in document["categories"]},
        }
        if "segm" in kinds and (bare := [a["id"] for a in document["annotations"] if not a.get("segmentation")]):
            raise FileError(f"{path}: annotation {bare[0]} has no segmentation: masks cannot be evaluated on it")
    except (KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{path} is no COCO annotation file: an item lacks {error}") from error
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
) -> Figures:
    own = [{key: value for key, value in r.items() if key != _LEFT_OUT[kind]} for r in results]
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
