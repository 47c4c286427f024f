"""Images in batches, decoded and resized by worker processes while the device works.

Which images share a batch is settled beforehand, from the annotated sizes alone: it depends neither on how many
processes share the work nor on what an interrupted run had already done, and so no figure does.
"""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from cascadezoo.benchmarks.verify.coco_layout import CocoImage
from cascadezoo.errors import CascadezooError, FileError
from cascadezoo.images import opencv_on_one_thread, read_image
from cascadezoo.modeling.preprocess import ResizedImage, image_scale, padded_size, resize
from cascadezoo.spec.conventions import Resize
from cascadezoo.spec.model import ModelSpec, PreprocessSpec

Prepared: TypeAlias = "ResizedImage | NDArray[np.uint8]"

_AHEAD = 2  # batches that each worker prepares in advance
_MOST_WORKERS = 8


def plan(images: Sequence[CocoImage], spec: ModelSpec, batch_size: int) -> list[list[CocoImage]]:
    """All images in batches of at most ``batch_size`` whose padded sizes are equal, in the order they fill up."""
    full: list[list[CocoImage]] = []
    waiting: dict[tuple[int, int], list[CocoImage]] = {}
    for image in images:
        key = _network_size(image, spec.preprocess, spec.conventions.resize)
        group = waiting.setdefault(key, [])
        group.append(image)
        if len(group) == batch_size:
            full.append(waiting.pop(key))
    return full + list(waiting.values())


def prepared(
    batches: Sequence[Sequence[CocoImage]], spec: ModelSpec, *, whole: bool, workers: int | None = None
) -> Iterator[list[Prepared]]:
    """The images of each batch in turn, at network scale, or as decoded if ``whole``.

    ``workers``: processes that decode; default: one a core less the one that feeds the device, at most 8.
    Raises UnreadableImage, MissingResource, or FileError for an image that is not of its annotated size.
    """
    loader = DataLoader(
        _Decoder(batches, None if whole else (spec.preprocess, spec.conventions.resize)),
        batch_size=None,
        collate_fn=_as_it_is,  # or arrays would become tensors
        num_workers=(workers := default_workers() if workers is None else min(workers, len(batches))),
        prefetch_factor=_AHEAD if workers else None,
        multiprocessing_context="fork" if workers and "fork" in multiprocessing.get_all_start_methods() else None,
    )
    with opencv_on_one_thread():
        items = iter(loader)
    for item in items:
        if isinstance(item, CascadezooError):
            raise item
        yield item


def default_workers() -> int:
    """Decoding processes that suit this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_WORKERS, max(1, cores - 1))


class _Decoder(Dataset[Any]):
    """What runs in the workers.  An error is an item like others: raised there, it would come as a traceback."""

    def __init__(self, batches: Sequence[Sequence[CocoImage]], scale: tuple[PreprocessSpec, Resize] | None) -> None:
        self.batches, self.scale = batches, scale

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> list[Prepared] | CascadezooError:
        if index >= len(self.batches):
            raise IndexError(index)
        try:
            return [self._prepare(image) for image in self.batches[index]]
        except CascadezooError as error:
            return error

    def _prepare(self, image: CocoImage) -> Prepared:
        pixels = read_image(image.path)
        if pixels.shape[:2] != (image.height, image.width):
            found, annotated = (f"{h}x{w}" for h, w in (pixels.shape[:2], (image.height, image.width)))
            raise FileError(
                f"{image.path} is {found} pixels (height x width), annotated as {annotated}: "
                "images and annotations are not of the same data set, get both again"
            )
        return pixels if self.scale is None else resize(pixels, *self.scale)


def _as_it_is(item: Any) -> Any:
    return item


def _network_size(image: CocoImage, spec: PreprocessSpec, rule: Resize) -> tuple[int, int]:
    scale = image_scale(image.height, image.width, spec, rule)
    return padded_size((int(image.height * scale + 0.5), int(image.width * scale + 0.5)), spec)
