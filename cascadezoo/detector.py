"""The model that people use: images in, ``Detections`` or torchvision's dicts out.

T ground-truth objects and D detections per image, H and W its height and width, C classes.
"""

import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal, Self, Unpack, overload

import numpy as np
import torch
from torch import Tensor

from cascadezoo.coco.categories import COCO, Categories
from cascadezoo.detections import Detections, with_sources
from cascadezoo.errors import CascadezooError, UsageError, WrongType
from cascadezoo.image_network import ImageNetwork
from cascadezoo.losses.objective import losses_of_images
from cascadezoo.losses.targets import GivenTargets
from cascadezoo.modeling.compiling import COMPILED, around_compiled, uncompiled
from cascadezoo.modeling.network import Network
from cascadezoo.modeling.postprocess import DetectionBatch, HostRows
from cascadezoo.modeling.preprocess import Batch
from cascadezoo.modeling.tta import TTASettings
from cascadezoo.optimizing.cuda import graphs_on
from cascadezoo.optimizing.inference_only import InferenceOnly
from cascadezoo.optimizing.precision import Settings, settings
from cascadezoo.optimizing.weights import prepared
from cascadezoo.paths import expanded
from cascadezoo.predicting import all_or_raise, in_turn, of_list, raising, several
from cascadezoo.spec.origin import Origin
from cascadezoo.summary import summary
from cascadezoo.tiling.planning import tiled
from cascadezoo.tiling.tiles import Tiles
from cascadezoo.wanted import Asked, Classes, Threshold, Wanted
from cascadezoo.writing import write_folder


class Detector(ImageNetwork):
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
    def predict(
        self, image: list[Any] | tuple[Any, ...], tta: bool | TTASettings = False, batch_size: int = 1,
        *, tiles: Tiles | None = None, errors: Literal["raise"] = "raise", **asked: Unpack[Asked],
    ) -> list[Detections]: ...  # fmt: skip
    @overload
    def predict(
        self, image: Generator[Any, Any, Any], tta: bool | TTASettings = False, batch_size: int = 1,
        *, tiles: Tiles | None = None, errors: Literal["raise"] = "raise", **asked: Unpack[Asked],
    ) -> Iterator[Detections]: ...  # fmt: skip
    @overload
    def predict(
        self, image: Any, tta: bool | TTASettings = False, batch_size: int = 1,
        *, tiles: Tiles | None = None, errors: Literal["raise"] = "raise", **asked: Unpack[Asked],
    ) -> Detections: ...  # fmt: skip
    @overload
    def predict(
        self, image: Any, tta: bool | TTASettings = False, batch_size: int = 1,
        *, tiles: Tiles | None = None, errors: Literal["return"], **asked: Unpack[Asked],
    ) -> Any: ...  # fmt: skip
    def predict(
        self,
        image: Any,
        tta: bool | TTASettings = False,
        batch_size: int = 1,
        *,
        classes: Classes | None = None,
        threshold: Threshold | None = None,
        max_detections: int | None = None,
        tiles: Tiles | None = None,
        errors: Literal["raise", "return"] = "raise",
    ) -> Any:
        """Detect on an image, on each of a list, or on each of a stream as it comes, without gradients.

        A float32 model computes in full float32, without TF32, as ``cascadezoo verify`` does; what is called below it
        (``detect``, ``extract``, …) and the model itself follow torch's switches.

        Args:
            image: a path, the bytes of an image file, an open binary file, a PIL image, an (H, W, 3) RGB or (H, W)
                array, a (3, H, W) tensor, as ``cascadezoo.images.read_image`` takes them; a list or tuple of these, or
                a batch, (N, 3, H, W) tensor or (N, H, W, 3) array; or a generator or other iterator, of which no more
                images are in memory than are worked on.
            tta: test-time augmentation, with its default settings or others; one image at a time.
            batch_size: images that go through the network together, and so many are in memory at a time; with
                1, on a CPU, up to four are worked on at once, each with its share of torch's threads (docs/model.md).
                Only images of equal padded size share a batch, so an image's detections never depend on its
                neighbours.  Where the device's memory runs out, batches are halved, which is logged.
            classes: the names, or ids in the data set, of those to keep; None: all.
            threshold: the lowest score to keep, 0 to 1, or one for each class by its name or id, with ``"*"`` for the
                others; None: what the model itself keeps (mostly 0.05).  Below that, the network keeps more.
            max_detections: the most to keep per image, of the classes wanted, the best; None: what the model keeps
                (mostly 100, of all classes).  Above that, the network keeps more.
            tiles: detect on each image in overlapping tiles, for small objects in large images (docs/tiles.md); the
                tiles make up the batches, and ``max_detections`` None keeps all that are found.
            errors: "raise" what is wrong with an image, or "return" it, a CascadezooError, in the image's place.

        Returns:
            The detections on the image; a list of them in the order of the images; or of an iterator, another one,
            which detects while it is iterated over.  Those of an iterator hold no image (``source``).

        Raises:
            UnreadableImage: not an image.
            MissingResource: no such file.
            FailedImages: images of a list failed in one of these ways.  It is raised when the others are done; its
                ``results`` hold what was found on them, its ``errors`` the reason for each that failed.  Of an
                iterator the image's own error is raised in its turn, and ends it.
            UsageError: the model is in training mode, a class that it does not know, a number out of range, or
                an argument of another type (WrongType).
            OutOfMemory: the device has no room even for one image.
        """
        if self.training:
            raise UsageError("the model is in training mode: call model.eval() before predict")
        _check_settings(tta, batch_size, tiles, errors)
        wanted = Wanted.of(self.categories, classes, threshold, max_detections, self.spec.conventions.selection)
        self._warn_if_random()
        images = several(image)
        planned = partial(self._keeping(wanted)._planned, batch_size=batch_size, tta=tta, wanted=wanted)
        if tiles is None:
            plan = planned(1 if images is None else len(images) if isinstance(images, list) else sys.maxsize)
        else:
            plan = tiled(planned, tiles, self.spec.conventions.selection.nms, wanted.most)
        if isinstance(images, Iterator):
            results = in_turn(plan, images)
            return results if errors == "return" else raising(results)
        given = [image] if images is None else images
        done = of_list(plan, given)
        found = with_sources(done, given)
        if errors == "raise":
            found = all_or_raise(found, images is not None)
        return found[0] if images is None else found

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
        found = of_list(self._plan(1, max(1, len(images))), list(images))
        return _as_dicts(found)

    @uncompiled
    def _losses(self, images: Sequence[Tensor], targets: Sequence[GivenTargets] | None) -> dict[str, Tensor]:
        if targets is None:
            raise UsageError("a model in training mode needs targets: model(images, targets), or model.eval()")
        return losses_of_images(self, images, targets)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile, for ``predict``, calls and training alike, what computes on tensors alone: ``extract``, ``find`` and
        ``segment`` (``cascadezoo.modeling.compiling``), with the options of ``torch.compile``.

        A copy or a pickled model is not compiled.
        """
        for name in COMPILED:
            setattr(self, name, torch.compile(getattr(Network, name).__get__(self), *args, **kwargs))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name not in COMPILED}


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

    def _keeping(self, wanted: Wanted) -> Self:
        other = super()._keeping(wanted)
        if other is not self:
            other._graphs = None  # of this one's selection
        return other

    @around_compiled
    def _found(self, batch: Batch, wanted: Wanted) -> tuple[DetectionBatch, HostRows]:
        with self._arithmetic():
            found = None if self._graphs is None else self._graphs.run(self, batch)
            return super()._found(batch, wanted) if found is None else wanted.among(*found)


@uncompiled
def _check_images(images: object) -> None:
    if not isinstance(images, list | tuple) or not all(isinstance(image, Tensor) for image in images):
        raise WrongType(
            "images: give a list of (3, H, W) tensors, as to torchvision's detectors; predict takes "
            "paths, PIL images and arrays"
        )


def _check_settings(tta: object, batch_size: object, tiles: object, errors: object) -> None:
    if not isinstance(tta, bool | TTASettings):
        raise WrongType(f"tta: give True, False or TTASettings, not a {type(tta).__name__}; images go into one list")
    if not isinstance(batch_size, int | np.integer) or isinstance(batch_size, bool):
        raise WrongType(f"batch_size: give a whole number, not {batch_size!r}")
    if batch_size < 1:
        raise UsageError(f"batch_size {batch_size}: give 1 or more images at a time")
    if not isinstance(tiles, Tiles | None):
        raise WrongType(f"tiles: give Tiles(size, overlap), not {tiles!r}")
    if errors not in ("raise", "return"):
        raise UsageError(f"errors: give 'raise' or 'return', not {errors!r}")


@uncompiled
def _as_dicts(results: Sequence[Detections | CascadezooError]) -> list[dict[str, Tensor]]:
    return [one.to_torchvision() for one in all_or_raise(results, False)]
