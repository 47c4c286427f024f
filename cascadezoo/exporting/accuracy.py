"""The average precision of an exported detector, whatever runs it: what fp16 and int8 cost, measured beside float32.

Shapes: N images, always one at a time here; D detections of an image.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cascadezoo import registry
from cascadezoo.coco.dataset import CocoDataset, read_annotated
from cascadezoo.coco.evaluation import Kind, evaluate
from cascadezoo.detector import Detector
from cascadezoo.errors import LosesAccuracy, UsageError
from cascadezoo.exporting.checking import Infer
from cascadezoo.exporting.formats import WHAT_TO_GIVE, Options, unmeasurable
from cascadezoo.exporting.graph import Graph
from cascadezoo.exporting.scratch import scratch
from cascadezoo.modeling.postprocess import DetectionBatch
from cascadezoo.shapes.dataset import CATEGORIES, generate

IMAGES = 200  # that are measured: the first of the data set
MOST_LOST = 1.0  # box AP in percent that a narrower precision may cost without --force


@dataclass(frozen=True)
class Cost:
    """What a narrower precision costs.

    Attributes:
        data: the name of the annotation file, or "shapes val".
        images: how many of it were measured.
        precision: "fp16" or "int8".
        fp32, narrow: "box_ap" and, from a model with masks, "mask_ap", in percent, in float32 and in ``precision``;
            None where nothing is annotated.
    """

    data: str
    images: int
    precision: str
    fp32: dict[str, float | None]
    narrow: dict[str, float | None]

    @property
    def lost(self) -> float:
        """Box AP in percent that ``precision`` has less than fp32."""
        return (self.fp32["box_ap"] or 0.0) - (self.narrow["box_ap"] or 0.0)

    def __str__(self) -> str:
        figures = ", ".join(
            f"{name.replace('_ap', ' AP')} {self.figure(value)} beside {self.figure(self.fp32[name])} in float32"
            for name, value in self.narrow.items()
        )
        return f"on {self.images} images of {self.data}: {figures}"

    @staticmethod
    def figure(value: float | None) -> str:
        """An average precision in words."""
        return "unknown" if value is None else f"{value:.2f}"

    def document(self) -> dict[str, Any]:
        """For the metadata of a file."""
        return {"data": self.data, "images": self.images, "fp32": self.fp32, self.precision: self.narrow}


class Data(NamedTuple):
    """What to measure on."""

    name: str
    images: CocoDataset


def measured(
    model: Detector, graph: Graph, data: Data | None, fp32: Infer, narrow: Infer, options: Options
) -> Cost | None:
    """The cost of what ``narrow`` runs, in ``options.precision``, beside what ``fp32`` runs; None without data.

    Raises LosesAccuracy where more than ``MOST_LOST`` is lost, and UsageError where there is nothing to lose, unless
    ``options.force`` is set.
    """
    if data is None:
        return None
    whole = _average_precision(model, graph, fp32, data.images)
    precision = options.precision or "fp32"
    if not whole["box_ap"] and not options.force:
        raise UsageError(
            f"what {precision} costs this model cannot be measured on {data.name}, where its box AP in float32 is "
            f"{Cost.figure(whole['box_ap'])}: {WHAT_TO_GIVE}"
        )
    less = _average_precision(model, graph, narrow, data.images)
    cost = Cost(data.name, min(IMAGES, len(data.images)), precision, whole, less)
    if cost.lost > MOST_LOST and not options.force:
        hint = "calibrate on more images or on such as it will see, or " if options.calibration else ""
        raise LosesAccuracy(
            f"{precision} costs {cost.lost:.2f} box AP ({cost}), more than {MOST_LOST}, so nothing was written: "
            f"{hint}pass --force to have the file all the same"
        )
    return cost


@contextmanager
def opened(model: Detector, options: Options) -> Iterator[Data | None]:
    """What to measure the cost of ``options.precision`` on; None for float32, and without data where ``options.force``
    says that it need not be measured.

    That is ``options.val_json`` and ``options.val_images``, which have to have the model's categories, or for an entry
    that was trained on the drawn shapes these.  Raises UsageError where there are neither, BadAnnotations and
    MissingResource as ``CocoDataset``.
    """
    if not options.is_narrow:
        yield None
    elif options.val_json is not None and options.val_images is not None:
        data = CocoDataset(options.val_json, options.val_images)
        if tuple(data.categories) != tuple(model.categories):
            raise UsageError(
                f"{options.val_json} has other categories than the model: give data that it was trained for"
            )
        yield Data(options.val_json.name, data)
    elif _knows_shapes(model):
        with scratch() as folder:
            annotations = generate("val", folder, IMAGES)
            yield Data("shapes val", CocoDataset(annotations, folder / "val"))
    elif options.force:
        yield None
    else:
        raise unmeasurable(options)


def _knows_shapes(model: Detector) -> bool:
    """Whether a model is of the entry that was trained on the drawn shapes, and has their categories: weights of one's
    own may have others."""
    entry = model.origin.entry
    is_entry = entry is not None and registry.info(entry).data == "shapes"
    return is_entry and tuple(model.categories) == tuple(CATEGORIES)


def _average_precision(model: Detector, graph: Graph, infer: Infer, data: CocoDataset) -> dict[str, float | None]:
    """Box AP and, of a model with masks, mask AP, in percent, on the first ``IMAGES`` images."""
    kinds: dict[Kind, str] = {"bbox": "box_ap"} if model.spec.mask is None else {"bbox": "box_ap", "segm": "mask_ap"}
    results: list[dict[str, Any]] = []
    records = [data.record(index) for index in range(min(IMAGES, len(data)))]
    for record in records:
        resized = model.resize(read_annotated(record.path, record.height, record.width))
        inputs = {name: tensor.contiguous().cpu().numpy() for name, tensor in graph.arguments([resized]).items()}
        found = as_batch(infer(inputs))
        (detections,) = model.detections(found, found.on_host(), [(record.height, record.width)])
        results += detections.to_coco(record.image_id)
    figures = evaluate(data.annotations, results, tuple(kinds), [record.image_id for record in records])
    return {name: figures[kind]["AP"] for kind, name in kinds.items()}


def as_batch(outputs: Mapping[str, NDArray[Any]]) -> DetectionBatch:
    """The outputs of an exported file as the network's; boxes in network pixels are no output, and are left zero."""
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in outputs.items()}
    return DetectionBatch(rois=torch.zeros_like(tensors["boxes"]), **tensors)
