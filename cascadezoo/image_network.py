"""A network that takes images and gives ``Detections``: how many images go through it, and what is made of its outputs.

Shapes: D detections per image, H and W its height and width.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Self, TypeVar

import numpy as np
import torch

from cascadezoo.coco.categories import Categories
from cascadezoo.detecting import Fitting, equal_neighbours
from cascadezoo.detections import Detections
from cascadezoo.devices import full_float32
from cascadezoo.images import Pixels, read_image
from cascadezoo.modeling.compiling import COMPILED, around_compiled, calls_foreign_code, uncompiled
from cascadezoo.modeling.postprocess import DetectionBatch, HostRows
from cascadezoo.modeling.preprocess import Batch, ResizedImage, padded_size
from cascadezoo.modeling.tta import TTASettings
from cascadezoo.modeling.tta import detect as detect_augmented
from cascadezoo.ops.mask_paste import PASTE
from cascadezoo.predicting import Plan
from cascadezoo.random_weights import WarnsIfRandom
from cascadezoo.threads import Share, share
from cascadezoo.wanted import Wanted

T = TypeVar("T")
R = TypeVar("R")

_ALL = Wanted()


class ImageNetwork(WarnsIfRandom):
    """A network with the names of its classes, from images to their detections."""

    categories: Categories

    @torch.no_grad()
    def detect(self, images: Sequence[ResizedImage]) -> list[Detections]:
        """Detect on images that are resized already, without gradients.

        Args:
            images: what ``resize`` gives for each.  Neighbours of equal padded size go through the network together.

        Returns:
            The detections on each, in the same order, in pixels of the image as it was before ``resize``.
        """
        return self._detect(images)

    @uncompiled
    def detections(
        self, output: DetectionBatch, host: HostRows, image_sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """The detections on each image of a batch, without the unused rows.

        ``host``: ``output.on_host()``, or that of the same output before it was trimmed or had masks;
        ``image_sizes``: (height, width) of the images as given.  Raises UsageError for numbers that are not finite.
        """
        return [
            Detections(
                boxes=output.boxes[row, :n],
                scores=output.scores[row, :n],
                labels=output.labels[row, :n],
                image_size=size,
                categories=self.categories,
                mask_probs=None if output.masks is None else output.masks[row, :n],
                paste_method=PASTE[self.spec.conventions.paste],
                extent=self.spec.stages[-1].extent,
                host=(host.boxes[row, :n], host.scores[row, :n], host.labels[row, :n]),
            )
            for row, (n, size) in enumerate(zip(host.counts.tolist(), image_sizes, strict=True))
        ]

    def _keeping(self, wanted: Wanted) -> Self:
        """This network; or, where it would drop what is wanted, one of the same modules that keeps it, neither compiled
        nor recorded."""
        conventions = self.spec.conventions
        rule = wanted.asks(conventions.selection)
        if rule is conventions.selection:
            return self
        other = object.__new__(type(self))
        other.__dict__.update({name: value for name, value in self.__dict__.items() if name not in COMPILED})
        other.spec = self.spec.model_copy(update={"conventions": conventions.model_copy(update={"selection": rule})})
        return other

    def _planned(self, images: int, batch_size: int, tta: bool | TTASettings, wanted: Wanted) -> Plan[Any, Detections]:
        """How ``predict`` detects on so many images."""
        if tta:
            return self._inside(self._augmented_plan(TTASettings() if tta is True else tta, wanted))
        return self._inside(self._plan(images, batch_size, wanted))

    @uncompiled
    def _plan(self, images: int, batch_size: int, wanted: Wanted = _ALL) -> Plan[ResizedImage, Detections]:
        """How to detect on so many images, in batches of so many."""
        detect = Fitting(partial(self._detect, wanted=wanted), batch_size, self._device())
        return Plan(self.resize, detect, self._padded, batch_size, self._share(images if batch_size == 1 else 1))

    def _augmented_plan(self, settings: TTASettings, wanted: Wanted) -> Plan[Pixels, Detections]:
        """How to detect with test-time augmentation, on one image at a time."""

        def detect(images: Sequence[Pixels]) -> list[Detections]:
            (pixels,) = images
            output = detect_augmented(self, pixels, settings)
            height, width, _ = pixels.shape
            return self.detections(*wanted.among(output, output.on_host()), [(height, width)])

        return Plan(read_image, detect, np.shape, 1, self._share(1))

    def _inside(self, plan: Plan[T, R]) -> Plan[T, R]:
        return plan._replace(read=self._computing(plan.read), detect=self._computing(plan.detect))

    def _computing(self, function: Callable[[T], R]) -> Callable[[T], R]:
        """The function, without gradients and in what this network computes, which its caller never sees: an iterator
        that calls it may hand control to anybody in between."""

        def compute(given: T) -> R:
            with torch.no_grad(), self._arithmetic():
                return function(given)

        return compute

    def _arithmetic(self) -> AbstractContextManager[None]:
        return full_float32()

    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def _share(self, images: int) -> Share:
        return share(self._device(), images, 1 if calls_foreign_code(self) else None)

    def _padded(self, image: ResizedImage) -> tuple[int, int]:
        return padded_size(image.size, self.spec.preprocess)

    @around_compiled
    def _detect(self, images: Sequence[ResizedImage], wanted: Wanted = _ALL) -> list[Detections]:
        results: list[Detections] = []
        for group, batch in self._batches(images):
            found, host = self._found(batch, wanted)
            results += self.detections(found, host, [image.original_size for image in group])
        return results

    @around_compiled
    def _found(self, batch: Batch, wanted: Wanted) -> tuple[DetectionBatch, HostRows]:
        """The wanted detections of a batch, as many rows as its fullest image has, and their numbers on the host."""
        features = self.extract(batch.pixels)
        found, host = _among(self.find(features, batch), wanted)
        return self.segment(features, found), host

    @uncompiled
    def _batches(self, images: Sequence[ResizedImage]) -> list[tuple[list[ResizedImage], Batch]]:
        return [(group, self.prepare(group)) for group in equal_neighbours(images, self.spec.preprocess)]


@uncompiled
def _among(output: DetectionBatch, wanted: Wanted) -> tuple[DetectionBatch, HostRows]:
    return wanted.among(output, output.on_host())
