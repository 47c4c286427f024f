"""COCO's figures of a model on a data set, its images shared out over the processes."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

from cascadezoo.coco.curves import Figures
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.coco.evaluation import Kind
from cascadezoo.coco.evaluation import evaluate as score
from cascadezoo.detecting import Fitting, plan, prepared, read_annotated
from cascadezoo.detector import Detector
from cascadezoo.distributed import World
from cascadezoo.modeling.preprocess import ResizedImage, resize
from cascadezoo.spec.model import ModelSpec


def evaluate(
    model: Detector,
    data: CocoDataset,
    world: World,
    progress: Callable[[int], None],
    *,
    batch_size: int = 1,
    workers: int = 0,
) -> dict[str, Figures]:
    """The twelve figures of boxes and, from a model with masks, of masks, in percent; the same on every process.

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
    modes = {module: module.training for module in model.modules()}  # what is frozen does not train
    model.eval()
    sizes = list(zip(data.heights.tolist(), data.widths.tolist(), strict=True))
    batches = plan(sizes, model.spec, batch_size)[world.rank :: world.size]
    detect = Fitting(model.detect, batch_size, world.device)
    results: list[dict[str, Any]] = []
    known = set(data.categories.ids)
    done = 0
    read = partial(_read, data, model.spec)
    with closing(prepared(batches, read, workers, lambda: progress(done))) as images:
        for batch, resized in zip(batches, images, strict=True):
            for index, detections in zip(batch, detect(resized), strict=True):
                found = detections.to_coco(data.image_ids[index])
                results += [result for result in found if result["category_id"] in known]
            done += len(batch)
            progress(done)
    model.train()
    for module, mode in modes.items():
        module.training = mode
    parts = world.gather(results)
    kinds: tuple[Kind, ...] = ("bbox", "segm") if model.spec.mask else ("bbox",)
    figures: dict[str, Figures] | None = None
    if parts is not None:
        everything = [result for part in parts for result in part]
        figures = dict(
            score(data.annotations, everything, kinds, data.image_ids, category_ids=data.categories.ids).items()
        )
    return world.broadcast(figures)


def _read(data: CocoDataset, spec: ModelSpec, index: int) -> ResizedImage:
    record = data.record(index)
    pixels = read_annotated(record.path, record.height, record.width)
    return resize(pixels, spec.preprocess, spec.conventions.resize)
