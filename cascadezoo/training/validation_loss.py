"""The losses of training on validation data: without gradients or random changes, in evaluation mode.

An image's losses are those of a batch of it alone, so that they depend neither on the number of processes nor on the
batch size; which of its boxes are sampled follows from the seed and its id.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial

import torch

from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.detecting import Fitting, prepared
from cascadezoo.detector import Detector
from cascadezoo.distributed import World, apart
from cascadezoo.losses import objective
from cascadezoo.spec.recipe import Augmentation
from cascadezoo.training.loader import Sample, TrainingSet
from cascadezoo.training.network import evaluating
from cascadezoo.training.seeds import mix


def validation_set(val: CocoDataset, model: Detector, seed: int, *, keep_empty: bool) -> TrainingSet:
    """The images of ``val`` at test scale; its categories may be a part of the model's.

    Raises UsageError where it has no objects, and BadAnnotations where the network needs masks that it lacks.
    """
    spec = model.spec.model_copy(update={"num_classes": len(val.categories)})
    return TrainingSet(val, spec, Augmentation(flip=0), seed, keep_empty=keep_empty)


def validation_losses(
    model: Detector, images: TrainingSet, world: World, progress: Callable[[int], None], *, workers: int = 0
) -> dict[str, float]:
    """The mean of every loss over the N images of a ``validation_set``, by name; the same on every process.

    Args:
        progress: called with the number of images that this process has done, and again once a second while the next
            one is not there; what it raises ends the evaluation.
        workers: processes that decode images ahead; 0 decodes them here.

    Raises:
        UnreadableImage, MissingResource, BadAnnotations: an image that is not what its annotations say.
        OutOfMemory: the device has no room even for one image.
    """
    places = {category_id: label for label, category_id in enumerate(model.categories.ids)}
    labels = torch.tensor([places[category_id] for category_id in images.data.categories.ids])
    own = range(len(images))[world.rank :: world.size]
    rows: list[dict[str, float]] = []
    read = partial(images.sample, 0)
    compute = Fitting(partial(_losses, model, labels, images.seed, world.device), 1, world.device)
    waiting = partial(_report, progress, rows)
    with evaluating(model), closing(prepared([[i] for i in own], read, workers, waiting)) as samples:
        for batch in samples:
            rows += compute(batch)
            progress(len(rows))
    together = [row for part in world.all_gather(rows) for row in part]
    names = together[0]
    # exact sums: in whatever order the processes come, the means are the same
    return {name: math.fsum(row[name] for row in together) / len(together) for name in names}


def _report(progress: Callable[[int], None], rows: list[dict[str, float]]) -> None:
    progress(len(rows))


@torch.no_grad()
def _losses(
    model: Detector, labels: torch.Tensor, seed: int, device: torch.device, samples: Sequence[Sample]
) -> list[dict[str, float]]:
    (sample,) = samples
    targets = sample.targets._replace(labels=labels[sample.targets.labels]).to(device)
    generator = torch.Generator().manual_seed(mix(seed, sample.image_id))
    with apart():
        losses = objective.losses(model, model.prepare([sample.image]), [targets], [generator])
    return [dict(zip(losses, torch.stack([loss.float() for loss in losses.values()]).tolist(), strict=True))]
