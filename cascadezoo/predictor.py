"""A model for jobs over many images: sent between processes as its arguments alone, and built once in each of them."""

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch

from cascadezoo import loading, registry
from cascadezoo.detections import Detections
from cascadezoo.detector import Detector
from cascadezoo.devices import DTYPES, arithmetic, usable
from cascadezoo.errors import CascadezooError, FailedImages, UsageError, WrongType
from cascadezoo.hub.sources import parse
from cascadezoo.modeling.tta import TTASettings
from cascadezoo.optimizing.precision import settings
from cascadezoo.tiling.tiles import Tiles
from cascadezoo.wanted import Classes, Threshold, Wanted

Batch = Mapping[str, Any]
Columns = dict[str, npt.NDArray[Any]]

_IMAGES = ("image", "bytes", "path")  # columns that may hold the images, the first that is there does

_lock = Lock()
_latest: tuple[dict[str, Any], Detector] | None = None  # of this process: arguments and the model made of them


class Predictor:
    """Detects on batches of images, as a stage of somebody's Ray, Spark or Dask job (docs/batch.md has examples).

    It pickles as its arguments.  The model is built when the first batch comes, once per process: predictors of equal
    arguments that arrive there one after another share it.  Threads may share a predictor.
    """

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = False,
        weights: str | os.PathLike[str] | None = None,
        device: str | int | None = None,
        precision: str = "fp32",
        batch_size: int = 1,
        threshold: Threshold | None = None,
        classes: Classes | None = None,
        max_detections: int | None = None,
        tta: bool | TTASettings = False,
        tiles: Tiles | None = None,
        column: str | None = None,
        raise_errors: bool = False,
        optimize: bool | None = False,
        exact: bool = False,
        **options: Any,
    ) -> None:
        """Everything after the name is given by name.

        Args:
            name, pretrained, weights: as ``cascadezoo.load`` takes them; each process loads the weights for itself, so
                a file has to be there on every machine.
            device: of each process; None: a GPU where it sees one, else the CPU.
            precision: "fp32", or what matrix products and convolutions are computed in: "fp16", "bf16".
            batch_size: images that go through the network together, of those of a batch whose padded sizes are equal.
                With 1 an image's detections are equal bit for bit whatever else is in its batch, but that on a CPU
                the last digits may depend on how many share its cores; with more, on how many share the network too.
            threshold, classes, max_detections: which detections to keep, as ``Detector.predict`` takes them; None: what
                the entry itself keeps (mostly those above 0.05, the best 100).
            tta: test-time augmentation; one image at a time.
            tiles: detect in tiles, as ``Detector.predict`` does; one image at a time.
            column: the column of the images; None: ``image``, ``bytes`` or ``path``, the first that is there.
            raise_errors: an image that fails ends the call of ``predictor(columns)`` with FailedImages, instead of
                being a row that says why.
            optimize: whether ``Detector.optimize`` prepares the model, for this precision; None: on a CPU.
            exact: of an optimised model on a CPU, as ``Detector.optimize`` takes it.
            options: further arguments of ``cascadezoo.load``, such as ``min_size``.

        Raises:
            UsageError: no such entry (UnknownName), precision or batch size; a single threshold outside 0..1;
                ``exact`` without optimising.
        """
        if parse(name) is None:
            registry.info(name)
        if precision not in DTYPES:
            raise UsageError(f"precision {precision!r}: give {', '.join(DTYPES)}")
        if batch_size < 1:
            raise UsageError(f"batch_size {batch_size}: give 1 or more images at a time")
        if isinstance(threshold, int | float) and not 0 <= threshold <= 1:
            raise UsageError(f"threshold {threshold}: give a score from 0 to 1")
        if exact and optimize is False:
            raise UsageError("exact is for an optimised model: optimize it too, or leave exact out")
        self.name, self.precision, self.batch_size, self.threshold = name, precision, batch_size, threshold
        self.classes, self.max_detections, self.tiles = classes, max_detections, tiles
        self.device, self.tta, self.column, self.raise_errors = device, tta, column, raise_errors
        self.optimize, self.exact = optimize, exact
        self._loaded = {"pretrained": pretrained, "weights": weights, "device": device, **options}
        self._model: Detector | None = None

    @property
    def _lowest(self) -> float | None:
        return self.threshold if isinstance(self.threshold, int | float) else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None}

    @property
    def model(self) -> Detector:
        """The model, built when it is first asked for, as ``cascadezoo.load`` does and with its errors."""
        global _latest
        if self._model is None:
            prepared = (self.precision, self.optimize, self.exact) if self.optimize is not False else None
            key = {"name": self.name, "lowest": self._lowest, "prepared": prepared, **self._loaded}
            with _lock:
                if _latest is None or _latest[0] != key:
                    _latest = None  # there may be no room for two
                    _latest = (key, self.build())
                self._model = _latest[1]
        return self._model

    def build(self) -> Detector:
        """The model, made anew and not kept: ``prepare`` of ``load``, with their errors."""
        return self.prepare(self.load())

    def load(self) -> Detector:
        """The model as ``cascadezoo.load`` makes it; where it would drop scores that reach the one threshold, with that
        for its own.

        Raises what ``load`` raises, and UsageError where an optimised model's device does not compute in the precision,
        or the model knows no such class.
        """
        device = usable(self.device)
        if self._is_optimized(device):
            settings(device, self.precision, None, False)  # before the weights are fetched
        model = loading.load(self.name, **self._loaded)
        rule = model.spec.conventions.selection
        Wanted.of(model.categories, self.classes, self.threshold, self.max_detections, rule)
        if self._lowest is not None and self._lowest < rule.score_thresh:
            del model
            model = loading.load(self.name, **self._loaded, box_score_thresh=self._lowest)
        return model

    def prepare(self, model: Detector) -> Detector:
        """The loaded model, optimised where that was asked for."""
        device = usable(self.device)
        return model.optimize(device, self.precision, exact=self.exact) if self._is_optimized(device) else model

    def _is_optimized(self, device: torch.device) -> bool:
        return device.type == "cpu" if self.optimize is None else self.optimize

    def arithmetic(self) -> AbstractContextManager[None]:
        """In what the model computes: an optimised one sees to it by itself."""
        device = usable(self.device)
        return nullcontext() if self._is_optimized(device) else arithmetic(device, self.precision)

    @overload
    def __call__(self, batch: list[Any]) -> list[Detections]: ...
    @overload
    def __call__(self, batch: Batch) -> Columns: ...
    def __call__(self, batch: list[Any] | Batch) -> list[Detections] | Columns:
        """Detect on a list of images, or on a batch of named columns.

        Args:
            batch: a list of images of any kind that ``Detector.predict`` takes; or columns of equal length, as Ray
                Data's ``map_batches`` gives them: ``image`` (arrays (H, W, 3) RGB), ``bytes`` (of image files) or
                ``path``.  Where a row of another column has no image (None), its ``path`` is read.  A row with a text
                in ``error`` is passed on as it is: an earlier stage has failed on it.

        Returns:
            Of a list, the detections on each image.  Of columns, the same except for ``image``, ``bytes`` and
            ``column``, and for each row: ``height`` and ``width`` in pixels; ``count``, the number of detections;
            ``detections``, COCO results as a JSON text, best first (with ``image_id`` where there is such a column);
            ``error`` and ``error_type``, "" or why the image failed and the name of the error's class.  A row that
            failed has the height, width and count 0 and no detections.

        Raises:
            FailedImages: images of a list failed, or of columns with ``raise_errors``; it holds what was found on the
                others.
            OutOfMemory: the device has no room even for one image.
            UsageError: columns without images or of unequal length; WrongType for any other batch.
        """
        if isinstance(batch, list):
            return self._of_list(batch)
        if isinstance(batch, Mapping):
            return self._of_columns(batch)
        raise WrongType(f"give a list of images or a dict of columns, not a {type(batch).__name__}")

    def _of_list(self, images: list[Any]) -> list[Detections]:
        model = self.model
        with self.arithmetic():
            found: list[Detections] = model.predict(
                images,
                tta=self.tta,
                batch_size=self.batch_size,
                classes=self.classes,
                threshold=self.threshold,
                max_detections=self.max_detections,
                tiles=self.tiles,
            )
        return found

    def _of_columns(self, columns: Batch) -> Columns:
        column = self._images_in(columns)
        rows = len(columns[column])
        if any(len(values) != rows for values in columns.values()):
            raise UsageError(f"columns of unequal length: { ({name: len(each) for name, each in columns.items()}) }")
        failed_before = _texts(columns, "error", rows)
        todo = [row for row in range(rows) if not failed_before[row]]
        paths = columns.get("path", [None] * rows)
        errors: dict[int, CascadezooError] = {}
        found: Sequence[Detections | None]
        try:
            found = self._of_list([_image(columns[column][row], paths[row]) for row in todo]) if todo else []
        except FailedImages as error:
            if self.raise_errors:
                raise
            found, errors = error.results, {todo[index]: each for index, each in error.errors.items()}
        dropped = {"image", "bytes", column} - {"path"}
        kept = {name: _column(values) for name, values in columns.items() if name not in dropped}
        return {**kept, **_found(columns, rows, dict(zip(todo, found, strict=True)), errors)}

    def _images_in(self, columns: Mapping[str, Any]) -> str:
        for name in _IMAGES if self.column is None else (self.column,):
            if name in columns:
                return name
        raise UsageError(
            f"the batch has no column {self.column or 'image, bytes or path'}, only {', '.join(columns) or 'none'}: "
            "say which holds the images, as in Predictor(name, column=…)"
        )


class _Named(io.BytesIO):
    """The bytes of an image file that says in messages where it is from."""

    def __init__(self, data: bytes | bytearray | memoryview, name: str) -> None:
        super().__init__(data)
        self.name = name


def _image(value: Any, path: object) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):  # as pandas has it
        return path
    if isinstance(value, bytes | bytearray | memoryview) and isinstance(path, str):
        return _Named(value, path)
    return value


def _texts(columns: Batch, name: str, rows: int) -> list[str]:
    """A column of texts, "" where there is none: engines turn a column without any into one of NaN."""
    return [each if isinstance(each, str) else "" for each in columns.get(name, [""] * rows)]


def _found(
    columns: Batch, rows: int, found: Mapping[int, Detections | None], errors: Mapping[int, CascadezooError]
) -> Columns:
    ids = columns.get("image_id")
    sizes, counts, texts = [(0, 0)] * rows, [0] * rows, ["[]"] * rows
    said, kinds = _texts(columns, "error", rows), _texts(columns, "error_type", rows)
    for row, detections in found.items():
        if detections is None:
            said[row], kinds[row] = str(errors[row]), type(errors[row]).__name__
            continue
        results = detections.to_coco(0 if ids is None else int(ids[row]))
        if ids is None:
            results = [{name: value for name, value in each.items() if name != "image_id"} for each in results]
        sizes[row], counts[row] = detections.image_size, len(detections)
        texts[row] = json.dumps(results, allow_nan=False)
    return {
        "height": np.array([height for height, _ in sizes], np.int64),
        "width": np.array([width for _, width in sizes], np.int64),
        "count": np.array(counts, np.int64),
        "detections": _column(texts),
        "error": _column(said),
        "error_type": _column(kinds),
    }


def _column(values: Any) -> npt.NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values
    column = np.empty(len(values), object)
    for row, value in enumerate(values):
        column[row] = value
    return column
