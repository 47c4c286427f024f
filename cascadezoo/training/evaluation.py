"""COCO's figures of a model on a data set, its images shared out over the processes."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from cascadezoo.coco.confusion import confusion_matrix
from cascadezoo.coco.curves import Figures
from cascadezoo.coco.dataset import CocoDataset, read_annotated
from cascadezoo.coco.evaluation import Kind, evaluate_fully, read_truth
from cascadezoo.detecting import Fitting, plan, prepared
from cascadezoo.detections import to_coco_of
from cascadezoo.detector import Detector
from cascadezoo.distributed import World
from cascadezoo.modeling.preprocess import ResizedImage, resize
from cascadezoo.spec.model import ModelSpec
from cascadezoo.training.network import evaluating


class Measured(NamedTuple):
    """What an evaluation found, as it is recorded; percent.

    Attributes:
        figures: by kind, "bbox" and, from a model with masks, "segm": COCO's twelve; None where nothing is annotated.
        classes: by kind, the AP of each class by its name.
        confusion: ``kind``, ``score`` and ``iou`` of a confusion matrix of boxes (``cascadezoo.coco.confusion``), its
            ``names``, and ``counts``: place of the annotated class, place of the detected one, how often; where that
            is not 0.
    """

    figures: dict[str, Figures]
    classes: dict[str, Figures]
    confusion: dict[str, Any]


def evaluate(
    model: Detector,
    data: CocoDataset,
    world: World,
    progress: Callable[[int], None],
    *,
    batch_size: int = 1,
    workers: int = 0,
) -> Measured:
    """The figures of boxes and, from a model with masks, of masks; the same on every process.

    Args:
        model: its categories are the data set's, or more: what is found of others is left out.
        progress: called with the number of images that this process has done, and again once a second while the
            next ones are not there; what it raises ends the evaluation.
        batch_size: images of equal padded size that go through the network together.
        workers: processes that decode images ahead; 0 decodes them here.

    Raises:
        UnreadableImage, MissingResource, BadAnnotations: an image that is not what its annotations say.
        OutOfMemory: the device has no room even for one image.
    """
    sizes = list(zip(data.heights.tolist(), data.widths.tolist(), strict=True))
    batches = plan(sizes, model.spec, batch_size)[world.rank :: world.size]
    detect = Fitting(model.detect, batch_size, world.device)
    results: list[dict[str, Any]] = []
    known = set(data.categories.ids)
    done = 0
    read = partial(_read, data, model.spec)
    with evaluating(model), closing(prepared(batches, read, workers, lambda: progress(done))) as images:
        for batch, resized in zip(batches, images, strict=True):
            for found in to_coco_of(detect(resized), [data.image_ids[index] for index in batch]):
                results += [result for result in found if result["category_id"] in known]
            done += len(batch)
            progress(done)
    parts = world.gather(results)
    measured: Measured | None = None
    if parts is not None:
        measured = _measured(data, [result for part in parts for result in part], masks=bool(model.spec.mask))
    return world.broadcast(measured)


def _measured(data: CocoDataset, results: list[dict[str, Any]], *, masks: bool) -> Measured:
    kinds: tuple[Kind, ...] = ("bbox", "segm") if masks else ("bbox",)
    truth, ids = read_truth(data.annotations, kinds), data.categories.ids
    found = evaluate_fully(truth, results, kinds, data.image_ids, category_ids=ids)
    matrix = confusion_matrix(truth, results, image_ids=data.image_ids, category_ids=ids)
    places = matrix.counts.nonzero()
    counts = np.column_stack([*places, matrix.counts[places]]).tolist()
    return Measured(
        figures={kind: evaluation.figures for kind, evaluation in found.items()},
        classes={kind: {one.name: one.figures["AP"] for one in each.classes} for kind, each in found.items()},
        confusion={
            "kind": matrix.kind, "score": matrix.score, "iou": matrix.iou, "names": list(matrix.names), "counts": counts
        },
    )  # fmt: skip


def _read(data: CocoDataset, spec: ModelSpec, index: int) -> ResizedImage:
    record = data.record(index)
    pixels = read_annotated(record.path, record.height, record.width)
    return resize(pixels, spec.preprocess, spec.conventions.resize)
