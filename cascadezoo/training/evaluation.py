"""COCO's figures of a model on a data set, its images shared out over the processes."""

from collections.abc import Callable
from typing import Any

from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.detector import Detector
from cascadezoo.distributed import World

Figures = dict[str, dict[str, float | None]]


def evaluate(model: Detector, data: CocoDataset, world: World, seen: Callable[[int], None]) -> Figures:
    """The twelve figures of boxes and, from a model with masks, of masks, in percent; the same on every process.

    The model's categories are the data set's; ``seen`` is called with the number of images this process has done.
    """
    from cascadezoo.coco.evaluation import Kind
    from cascadezoo.coco.evaluation import evaluate as score

    was_training = model.training
    model.eval()
    results: list[dict[str, Any]] = []
    for done, index in enumerate(range(world.rank, len(data), world.size), start=1):
        record = data.record(index)
        results += model.predict(record.path).to_coco(record.image_id)
        seen(done)
    model.train(was_training)
    parts = world.gather(results)
    kinds: tuple[Kind, ...] = ("bbox", "segm") if model.spec.mask else ("bbox",)
    figures = None
    if parts is not None:
        figures = score(data.annotations, [result for part in parts for result in part], kinds, data.image_ids)
    return world.broadcast(figures)
