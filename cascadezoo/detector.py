"""The model that people use: images in, ``Detections`` or torchvision's dicts out.

T ground-truth objects and D detections per image, H and W its height and width, C classes.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from cascadezoo.coco.categories import COCO, Categories
from cascadezoo.detecting import Fitting, all_or_raise, batched, equal_neighbours, readable
from cascadezoo.detections import Detections, with_sources
from cascadezoo.devices import full_float32
from cascadezoo.errors import CascadezooError, UsageError, WrongType
from cascadezoo.images import read_image
from cascadezoo.losses.objective import losses_of_images
from cascadezoo.losses.targets import GivenTargets
from cascadezoo.modeling.compiling import COMPILED, around_compiled, calls_foreign_code, uncompiled
from cascadezoo.modeling.network import Network
from cascadezoo.modeling.postprocess import DetectionBatch, HostRows
from cascadezoo.modeling.preprocess import Batch, ResizedImage, padded_size
from cascadezoo.modeling.tta import TTASettings
from cascadezoo.modeling.tta import detect as detect_augmented
from cascadezoo.ops.mask_paste import PASTE
from cascadezoo.optimizing.cuda import graphs_on
from cascadezoo.optimizing.inference_only import InferenceOnly
from cascadezoo.optimizing.precision import Settings, settings
from cascadezoo.optimizing.weights import prepared
from cascadezoo.paths import expanded
from cascadezoo.spec.origin import Origin
from cascadezoo.summary import summary
from cascadezoo.threads import Share, in_order, share
from cascadezoo.writing import write_folder


class Detector(Network):
    """A network with the names of its classes: decoding and resizing before it, results for people after it.

    Attributes:
        spec: every number of the network.
        categories: class names by label, with the data set's ids.
        origin: where the weights came from, and on which terms.
    """

    def __init__(self, network: Network, categories: Categories | None = None, origin: Origin | None = None) -> None:
        """The modules of ``network`` become this model's own.

        ``categories``: by default COCO's where there are 80.  ``origin``: by default random weights.
        """
        super().__init__(
            network.spec,
            backbone=network.backbone,
            neck=network.neck,
            rpn=network.rpn,
            box_heads=list(network.box_heads),
            mask_heads=list(network.mask_heads),
        )
        classes = network.spec.num_classes
        self.categories = categories or (COCO if classes == len(COCO) else Categories.numbered(classes))
        self.origin = origin or Origin.random()
        self.train(network.training)
        self.mark_random()

    def __repr__(self) -> str:
        return summary(self, self.categories, self.origin, self._is_random())

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Save the model as a folder laid out as a repository of the Hub; ``load("local-dir:folder")`` reads it.

        See ``cascadezoo.save``, which saves to a single file too.  Raises UnwritableOutput.
        """
        write_folder(expanded(folder), self.state_dict(), self.spec, self.categories, self.origin)

    @overload
    def predict(self, image: list[Any], tta: bool | TTASettings = False, batch_size: int = 1) -> list[Detections]: ...
    @overload
    def predict(self, image: Any, tta: bool | TTASettings = False, batch_size: int = 1) -> Detections: ...
    def predict(
        self, image: Any, tta: bool | TTASettings = False, batch_size: int = 1
    ) -> Detections | list[Detections]:
        """Detect on an image, or on each of a list, without gradients.

        A float32 model computes in full float32, without TF32, as ``cascadezoo verify`` does; what is called below it
        (``detect``, ``extract``, …) and the model itself follow torch's switches.

        Args:
            image: a path, the bytes of an image file, an open binary file, a PIL image, an (H, W, 3) RGB or (H, W)
                array, a (3, H, W) tensor, as ``cascadezoo.images.read_image`` takes them; or a list of these.
            tta: test-time augmentation, with its default settings or others; one image at a time.
            batch_size: images of a list that go through the network together, and so many are in memory at a time; with
                1, on a CPU, up to four are worked on at once, each with its share of torch's threads (docs/model.md).
                Only images of equal padded size share a batch, so an image's detections never depend on its
                neighbours.  Where the device's memory runs out, batches are halved, which is logged.

        Returns:
            The detections on the image, or a list of them in the order of the images.

        Raises:
            UnreadableImage: not an image.
            MissingResource: no such file.
            FailedImages: images of a list failed in one of these ways.  It is raised when the others are done; its
                ``results`` hold what was found on them, its ``errors`` the reason for each that failed.
            UsageError: the model is in training mode, ``batch_size`` is below 1, or ``tta`` or ``batch_size`` is of
                another type (WrongType).
            OutOfMemory: the device has no room even for one image.
        """
        if self.training:
            raise UsageError("the model is in training mode: call model.eval() before predict")
        if not isinstance(tta, bool | TTASettings):
            raise WrongType(
                f"tta: give True, False or TTASettings, not a {type(tta).__name__}; images go into one list"
            )
        if not isinstance(batch_size, int | np.integer) or isinstance(batch_size, bool):
            raise WrongType(f"batch_size: give a whole number, not {batch_size!r}")
        if batch_size < 1:
            raise UsageError(f"batch_size {batch_size}: give 1 or more images at a time")
        self._warn_if_random()
        images = image if isinstance(image, list) else [image]
        errors: dict[int, CascadezooError] = {}
        with torch.no_grad(), self._arithmetic():
            if tta:
                results = self._predict_augmented(images, TTASettings() if tta is True else tta, errors)
            elif batch_size == 1 and (shared := self._share(len(images))).at_once > 1:
                results = self._predict_at_once(images, shared, errors)
            else:
                results = self._predict_all(images, batch_size, errors)
        found = all_or_raise(with_sources(results, images), errors, isinstance(image, list))
        return found if isinstance(image, list) else found[0]

    def optimize(
        self,
        device: torch.device | str | int | None = None,
        precision: str = "fp32",
        *,
        cuda_graph: bool | None = None,
        compile: bool = False,
        exact: bool = False,
    ) -> "OptimizedDetector":
        """A new model for inference alone, prepared for one device and one precision (docs/model.md).

        It detects as this one does, by the same methods; this one stays as it is.  They may share weights: change
        this one's, and the other has to be made again.

        Args:
            device: where it computes; None: where this model is.
            precision: "fp32", float32 without TF32; "tf32", for GPUs; "bf16"; or "fp16", for GPUs.  Objectness,
                scores, boxes and NMS are float32 in all.
            cuda_graph: replay the work on a batch as one CUDA graph; None: on a CUDA device.
            compile: ``torch.compile`` what sees tensors alone, which makes the first batch take long.  With CUDA graphs
                it is the compiled code that they replay.
            exact: on a CPU, keep 3 x 3 convolutions plain sums; else Winograd's way, which is quicker and whose
                rounding errors are larger.

        Raises:
            MissingResource: the device is not there.
            UsageError: the device does not compute in this precision or has no CUDA graphs; an argument of another
                type (WrongType).
        """
        own = next(self.parameters()).device
        return OptimizedDetector(
            self, settings(own if device is None else device, precision, cuda_graph, compile, exact)
        )

    def _share(self, images: int) -> Share:
        return share(next(self.parameters()).device, images, 1 if calls_foreign_code(self) else None)

    def _arithmetic(self) -> AbstractContextManager[None]:
        """In what ``predict`` computes."""
        return full_float32()

    @around_compiled
    def forward(
        self, images: Sequence[Tensor], targets: Sequence[GivenTargets] | None = None
    ) -> list[dict[str, Tensor]] | dict[str, Tensor]:
        """torchvision's interface.  In evaluation mode too it computes gradients, unless in ``torch.no_grad()``.

        Args:
            images: (3, H, W) tensors as ``predict`` takes them, of any sizes.
            targets: for training mode, a dict per image: ``boxes`` (T, 4) xyxy and, for a model with masks, ``masks``
                (T, H, W) or T lists of COCO's polygons, in the image's pixels; ``labels`` (T,) in 0..C-1; ``iscrowd``
                (T,), if there are any.

        Returns:
            In evaluation mode a dict per image: ``boxes`` (D, 4) xyxy original pixels, ``scores`` (D,), best first,
            ``labels`` (D,) in 0..C-1, and from a model with masks ``masks`` (D, H, W) bool.  In training mode the
            losses by name (``cascadezoo.losses.objective``).

        Raises:
            BadTarget: a box outside its image or without area, a label out of range, a mask of another size, a bad
                polygon.
            WrongType: ``images`` is no list of tensors.
        """
        _check_images(images)
        if self.training:
            return self._losses(images, targets)
        self._warn_if_random()
        errors: dict[int, CascadezooError] = {}
        return _as_dicts(self._predict_all(list(images), max(1, len(images)), errors), errors)

    @uncompiled
    def _losses(self, images: Sequence[Tensor], targets: Sequence[GivenTargets] | None) -> dict[str, Tensor]:
        if targets is None:
            raise UsageError("a model in training mode needs targets: model(images, targets), or model.eval()")
        return losses_of_images(self, images, targets)

    @around_compiled
    def _predict_all(
        self, images: list[Any], batch_size: int, errors: dict[int, CascadezooError]
    ) -> list[Detections | None]:
        detect, groups = self._plan(images, batch_size, errors)
        results: dict[int, Detections] = {}
        while group := _next(groups):
            numbers, resized = zip(*group, strict=True)
            results.update(zip(numbers, detect(resized), strict=True))
        return list(map(results.get, range(len(images))))

    def _predict_at_once(
        self, images: list[Any], shared: Share, errors: dict[int, CascadezooError]
    ) -> list[Detections | None]:
        detect, groups = self._plan(images, 1, errors)

        def one(group: list[tuple[int, ResizedImage]]) -> tuple[int, Detections]:
            ((number, resized),) = group
            return number, detect([resized])[0]

        results = dict(in_order(one, groups, shared))
        return list(map(results.get, range(len(images))))

    @uncompiled
    def _plan(
        self, images: list[Any], batch_size: int, errors: dict[int, CascadezooError]
    ) -> tuple[Fitting[ResizedImage, Detections], Iterator[list[tuple[int, ResizedImage]]]]:
        """How to detect on some images at network scale, and the numbered images in groups of equal padded size."""
        resized = readable(images, self.resize, errors)
        groups = batched(resized, lambda item: self._padded(item[1]), batch_size, waiting=batch_size)
        return Fitting(self._detect, batch_size, next(self.parameters()).device), groups

    @torch.no_grad()
    def detect(self, images: Sequence[ResizedImage]) -> list[Detections]:
        """The detections on images at network scale, as ``resize`` gives them; neighbours of equal padded size go
        through the network together.  Without gradients."""
        return self._detect(images)

    @around_compiled
    def _detect(self, images: Sequence[ResizedImage]) -> list[Detections]:
        results: list[Detections] = []
        for group, batch in self._batches(images):
            found, host = self._found(batch)
            results += self.detections(found, host, [image.original_size for image in group])
        return results

    @around_compiled
    def _found(self, batch: Batch) -> tuple[DetectionBatch, HostRows]:
        """The detections of a batch, as many rows as its fullest image has, and their numbers on the host."""
        features = self.extract(batch.pixels)
        found, host = _trimmed(self.find(features, batch))
        return self.segment(features, found), host

    def _predict_augmented(
        self, images: list[Any], settings: TTASettings, errors: dict[int, CascadezooError]
    ) -> list[Detections | None]:
        results: list[Detections | None] = [None] * len(images)
        for i, pixels in readable(images, read_image, errors):
            height, width, _ = pixels.shape
            output = detect_augmented(self, pixels, settings)
            (results[i],) = self.detections(output, output.on_host(), [(height, width)])
        return results

    @uncompiled
    def _batches(self, images: Sequence[ResizedImage]) -> list[tuple[list[ResizedImage], Batch]]:
        return [(group, self.prepare(group)) for group in equal_neighbours(images, self.spec.preprocess)]

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile, for ``predict``, calls and training alike, what computes on tensors alone: ``extract``, ``find`` and
        ``segment`` (``cascadezoo.modeling.compiling``), with the options of ``torch.compile``.

        A copy or a pickled model is not compiled.
        """
        for name in COMPILED:
            setattr(self, name, torch.compile(getattr(Network, name).__get__(self), *args, **kwargs))

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        kept = {name: value for name, value in state.items() if name not in COMPILED}
        return {**kept, "_random": self._is_random()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._random = self._class_layers() if state["_random"] else []

    def mark_random(self) -> None:
        """Say that the class scores come from random numbers as of now: the first ``predict`` or call warns of it,
        unless training or other weights have changed them."""
        self._random = self._class_layers()

    def _class_layers(self) -> list[tuple[Tensor, int]]:
        """The weights of the class scores, and how often each was written to."""
        weights = [head.get_parameter("cls_score.weight") for head in self.box_heads]
        return [(weight, weight._version) for weight in weights if not weight.is_inference()]

    def _is_random(self) -> bool:
        own = {id(parameter) for parameter in self.parameters()} if self._random else {}
        return any(id(weight) in own and weight._version == version for weight, version in self._random)

    @uncompiled
    def _warn_if_random(self) -> None:
        if self._is_random():
            warnings.warn(
                "the class layers of this model hold random numbers, so what it detects means nothing: load it with "
                "pretrained=True or weights=FILE, or train it first",
                stacklevel=4,
            )
        self._random = []

    def _padded(self, image: ResizedImage) -> tuple[int, int]:
        return padded_size(image.size, self.spec.preprocess)

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


class OptimizedDetector(InferenceOnly, Detector):
    """What ``Detector.optimize`` makes.  Threads may share it; it computes without gradients, and in its own precision,
    whatever autocast and torch's switches say.

    Attributes:
        settings: its device, precision, and how it runs.
    """

    def __init__(self, model: Detector, settings: Settings) -> None:
        super().__init__(prepared(model, settings), model.categories, model.origin)
        if not model._is_random():
            self._random = []
        self.settings = settings
        self._graphs = graphs_on(settings.device) if settings.cuda_graph else None
        if settings.compile:
            Detector.compile(self, dynamic=True)  # one graph serves all sizes

    def _arithmetic(self) -> AbstractContextManager[None]:
        return self.settings.arithmetic()

    @around_compiled
    def _found(self, batch: Batch) -> tuple[DetectionBatch, HostRows]:
        with self._arithmetic():
            found = None if self._graphs is None else self._graphs.run(self, batch)
            return super()._found(batch) if found is None else found


@uncompiled
def _check_images(images: object) -> None:
    if not isinstance(images, list | tuple) or not all(isinstance(image, Tensor) for image in images):
        raise WrongType(
            "images: give a list of (3, H, W) tensors, as to torchvision's detectors; predict takes "
            "paths, PIL images and arrays"
        )


@uncompiled
def _next(groups: Iterator[list[tuple[int, ResizedImage]]]) -> list[tuple[int, ResizedImage]]:
    return next(groups, [])


@uncompiled
def _trimmed(output: DetectionBatch) -> tuple[DetectionBatch, HostRows]:
    host = output.on_host()
    return output.trim(host.rows), host


@uncompiled
def _as_dicts(results: list[Detections | None], errors: dict[int, CascadezooError]) -> list[dict[str, Tensor]]:
    return [one.to_torchvision() for one in all_or_raise(results, errors, False)]
