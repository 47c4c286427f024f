"""The models that a server's workers compute with, where each worker does, and what is said of them."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from cascadezoo.detections import Detections
from cascadezoo.detector import Detector, OptimizedDetector
from cascadezoo.devices import usable
from cascadezoo.images import Pixels
from cascadezoo.modeling.preprocess import padded_size, plan
from cascadezoo.predictor import Predictor
from cascadezoo.threads import share
from cascadezoo.version import __version__
from cascadezoo.writing import digest_of


class Worker(NamedTuple):
    """Where a worker computes, and with how many of torch's threads."""

    device: torch.device
    threads: int


def placed(device: torch.device, workers: int | None, gpus: int) -> list[Worker]:
    """Where each worker computes.

    On a CPU workers share the cores as ``predict`` on several images does (``threads.share``); None: as many as that
    would work on at once.  On GPUs None is one worker; several go round the ``gpus`` of the machine, unless ``device``
    has a number.
    """
    threads = torch.get_num_threads()
    if device.type == "cpu":
        if workers is None:
            shared = share(device, threads)
            return [Worker(device, shared.threads)] * shared.at_once
        return [Worker(device, max(1, threads // workers))] * workers
    if device == torch.device("cuda"):
        return [Worker(torch.device("cuda", number % gpus), threads) for number in range(workers or 1)]
    return [Worker(device, threads)] * (workers or 1)


class Models:
    """A model for each device of the workers, which those on one device share; ready to detect.

    Attributes:
        workers: where they compute.
        facts: what is said of the model, as plain data.
    """

    def __init__(
        self,
        name: str,
        *,
        device: str | None,
        workers: int | None,
        precision: str,
        optimize: bool | None,
        score: float,
        weights: str | os.PathLike[str] | None,
    ) -> None:
        """``name``, ``weights`` (None: the entry's published ones), ``precision``, ``optimize``, ``score`` (its
        threshold): as ``Predictor`` takes them, with its errors; ``device``, ``workers``: as ``placed`` does."""
        self.workers = placed(usable(device), workers, torch.cuda.device_count())
        self._on: dict[torch.device, _Model] = {}
        for place in dict.fromkeys(worker.device for worker in self.workers):
            predictor = Predictor(
                name,
                pretrained=weights is None,
                weights=weights,
                device=str(place),
                precision=precision,
                optimize=optimize,
                threshold=score,
            )
            loaded = predictor.load()
            if not self._on:
                self.facts = _facts(name, loaded)
            model = predictor.prepare(loaded)
            self._on[place] = _Model(predictor, model, score)
            del loaded, model
            self._on[place].detect(_BLANK)  # what is made at a first image is there before the first request
        self.facts |= {
            "device": [str(worker.device) for worker in self.workers],
            "threads": [worker.threads for worker in self.workers],
            "precision": precision,
            "optimized": isinstance(self._first.model, OptimizedDetector),
        }

    @property
    def _first(self) -> "_Model":
        return next(iter(self._on.values()))

    def padded(self, image: Pixels) -> tuple[int, int]:
        """The image's height and width in the network: images of equal size may share a batch."""
        spec = self._first.model.spec
        return padded_size(plan(image, spec.preprocess, spec.conventions.resize).size, spec.preprocess)

    def works(self) -> list[Callable[[Sequence[Pixels]], list[Detections]]]:
        """What each worker does with images of equal padded size, in a thread of its own."""
        return [partial(self._on[worker.device].detect, threads=worker.threads) for worker in self.workers]


_BLANK = [np.zeros((64, 64, 3), np.uint8)]


class _Model(NamedTuple):
    predictor: Predictor
    model: Detector
    score: float

    def detect(self, images: Sequence[Pixels], threads: int | None = None) -> list[Detections]:
        """As ``predict`` in this model's arithmetic, in one batch; ``threads``: those of torch in this thread."""
        if threads is not None:
            torch.set_num_threads(threads)
        with self.predictor.arithmetic():
            found = self.model.predict(list(images), batch_size=len(images))
        return [one[one.scores >= self.score] for one in found]


def _facts(name: str, model: Detector) -> dict[str, Any]:
    origin = model.origin
    return {
        "name": name,
        "entry": origin.entry,
        "architecture": origin.architecture,
        "publisher": origin.publisher,
        "started_from": origin.started_from,
        "content_digest": digest_of(model.state_dict()),
        "weights_license": origin.weights_license,
        "code_license": origin.code_license,
        "attribution": origin.attribution,
        "masks": bool(model.mask_heads),
        "categories": model.categories.to_coco(),
        "version": __version__,
    }
