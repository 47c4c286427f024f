"""From a data set to batches of samples: the order of an epoch, and the worker processes that prepare it.

A sample depends on (seed, epoch, image id) alone, and the order of an epoch on (seed, epoch): not on the number of
processes or workers, nor on where training was resumed.  N images.
"""

import math
from collections.abc import Callable, Generator
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from cascadezoo.coco.dataset import CocoDataset, ImageRecord
from cascadezoo.detecting import prepared
from cascadezoo.errors import BadAnnotations, CascadezooError, UsageError
from cascadezoo.images import Pixels, read_image
from cascadezoo.losses.targets import Targets
from cascadezoo.modeling.preprocess import ResizedImage
from cascadezoo.spec.model import ModelSpec
from cascadezoo.spec.recipe import Augmentation
from cascadezoo.training.augment import Objects, augment
from cascadezoo.training.hook import Augment, Hook
from cascadezoo.training.sampling import Factors, length_of, repeat_factors, turns
from cascadezoo.training.seeds import mix

_WORD = 2**64


class Sample(NamedTuple):
    """One training image with its targets, at network scale."""

    image_id: int
    image: ResizedImage
    targets: Targets
    turn: int = 0  # how often its image came before in the epoch, with repeat factors


class TrainingSet:
    """The images of ``data`` as training samples of the network ``spec``.

    ``keep_empty``: images without objects, or with crowds only, are kept as background; the publishers leave them out.

    ``repeat``: the part of the images up to which a class is rare, so that its images come more than once in an epoch.
    ``own``: an augmentation of the user's own, which comes before the recipe's.

    Raises UsageError when the network has another number of classes than the data set, or the data set has no objects,
    and BadAnnotations when the network needs masks that the data set lacks.

    Attributes:
        sizes: (N, 2) height and width of the images, as they are in their files.
        objects: (N,) how many objects each image has.
        factors: (N,) how often each comes in an epoch on average; None where each comes once.
    """

    def __init__(
        self,
        data: CocoDataset,
        spec: ModelSpec,
        augmentation: Augmentation,
        seed: int,
        *,
        keep_empty: bool = True,
        repeat: float | None = None,
        own: Augment | None = None,
    ) -> None:
        if spec.num_classes != len(data.categories):
            raise UsageError(
                f"{data.annotations} has {len(data.categories)} categories and the network {spec.num_classes} classes: "
                f"load it with num_classes={len(data.categories)}"
            )
        if spec.mask:
            data.require_masks()
        self.data, self.spec, self.augmentation, self.seed = data, spec, augmentation, seed
        self._hook = None if own is None else Hook(own, spec.num_classes)
        self._kept = np.flatnonzero((data.objects > 0) | keep_empty)
        if not data.objects.any():
            raise UsageError(f"{data.annotations} has no objects to learn from")
        self.sizes: npt.NDArray[np.int64] = np.stack([data.heights, data.widths], axis=1)[self._kept]
        self.objects: npt.NDArray[np.int64] = data.objects[self._kept]
        self.factors = None if repeat is None else self._factors(repeat)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def drawn(self) -> int:
        """Images in an epoch."""
        return len(self) if self.factors is None else length_of(self.factors)

    def sample(self, epoch: int, index: int) -> Sample:
        """Image ``index`` of 0..N-1 as it comes in ``epoch`` for the first time; + N, for the second; and so on.

        Raises UnreadableImage or MissingResource, naming file and image id, for an image that cannot be read,
        BadAnnotations for one of another size than its annotations say, and what the hook raises.
        """
        turn, index = divmod(index, len(self))
        record = self.data.record(int(self._kept[index]))
        image = self._read(record)
        own = (self.seed, epoch, record.image_id, *([turn] if turn else []))
        if self._hook is not None:
            chance = mix(*own)
            image, record = self._hook(image, record, chance, with_masks=self.spec.mask is not None)
        masks = record.segmentations if self.spec.mask else None
        objects = Objects(record.boxes, masks, (record.height, record.width))
        generator = np.random.default_rng([number % _WORD for number in own])
        changed = augment(image, objects, self.augmentation, self.spec, generator)
        targets = Targets(
            boxes=torch.from_numpy(changed.boxes),
            labels=torch.from_numpy(record.labels[changed.kept]),
            masks=changed.masks,
            crowd=torch.from_numpy(record.crowd[changed.kept]),
        )
        return Sample(record.image_id, changed.image, targets, turn)

    def _factors(self, threshold: float) -> Factors:
        place = np.full(len(self.data), -1, dtype=np.int64)
        place[self._kept] = np.arange(len(self))
        held = np.stack([place[self.data.held[:, 0]], self.data.held[:, 1]], axis=1)
        return repeat_factors(held[held[:, 0] >= 0], len(self), threshold)

    def _read(self, record: ImageRecord) -> Pixels:
        try:
            image = read_image(record.path)
        except CascadezooError as error:
            raise type(error)(
                f"image {record.image_id} of {self.data.annotations}: {error}: put a sound file of "
                f"{record.width} x {record.height} pixels in its place"
            ) from error
        if image.shape[:2] != (record.height, record.width):
            raise BadAnnotations(
                f"image {record.image_id} of {self.data.annotations} should be {record.width} x {record.height} pixels,"
                f" but {record.path} has {image.shape[1]} x {image.shape[0]}: put the image that "
                "was annotated in its place, or annotate this one anew"
            )
        return image


def batches(
    sizes: npt.NDArray[np.int64],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    factors: Factors | None = None,
) -> list[list[int]]:
    """The batches of process ``rank`` of ``world`` in ``epoch``: indices of the N images, whose height and width are
    ``sizes`` (N, 2).

    Every process has ceil(N / (world * batch_size)) batches of exactly ``batch_size`` images.  The processes share each
    batch that a single process would have.  Images that are wider than high come together, and so do the others, as far
    as they fill batches.  Every image comes once per epoch; if the last batch is not full, images from the beginning of
    the epoch's order fill it up.

    With ``factors`` (N,), each image comes so often on average, as ``sampling.turns`` gives it, and the number of
    batches is that for the sum of the factors in every epoch: chance may give a few images more, of which the last of
    the order are left out, or less.
    """
    rng = np.random.default_rng([number % _WORD for number in (seed, epoch)])
    total = batch_size * world
    if factors is None:
        order = rng.permutation(len(sizes))
        length = len(order) + -len(order) % total
    else:
        length = math.ceil(length_of(factors) / total) * total
        order = rng.permutation(turns(factors, seed, epoch))[:length]
    shapes = sizes[order % len(sizes)]
    wide = shapes[:, 1] > shapes[:, 0]
    groups = (order[wide], order[~wide])
    full = [group[: len(group) // total * total] for group in groups]
    rest = np.concatenate([group[len(part) :] for group, part in zip(groups, full, strict=True)])
    missing = length - len(order)
    together = np.concatenate([*full, rest, np.resize(order, missing)]).reshape(-1, total)
    mine = together[rng.permutation(len(together)), rank * batch_size : (rank + 1) * batch_size]
    return [[int(index) for index in batch] for batch in mine]


def training_loader(
    training_set: TrainingSet,
    batch_size: int,
    *,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    skip: int = 0,
    workers: int = 0,
    waiting: Callable[[], None] = lambda: None,
) -> Generator[list[Sample], None, None]:
    """The batches of process ``rank`` in ``epoch``, without the first ``skip``, which were done before.

    ``workers``: processes that prepare samples ahead; 0 prepares them here.  ``waiting``: as in ``detecting.prepared``.
    Raises what ``TrainingSet.sample`` raises, and WorkerLost.
    """
    order = batches(
        training_set.sizes, batch_size, seed=training_set.seed, epoch=epoch, rank=rank, world=world,
        factors=training_set.factors,
    )[skip:]  # fmt: skip
    return prepared(order, partial(training_set.sample, epoch), workers, waiting)
