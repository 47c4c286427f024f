"""The detections on one image.

Shapes: N detections, best first as the detector gives them, on an image of H x W pixels.  Boxes are xyxy in pixels
of the original image, unrounded.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import FrozenInstanceError, InitVar, dataclass, field, replace
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from cascadezoo.coco.annotations import annotation_file
from cascadezoo.coco.categories import COCO, Categories
from cascadezoo.coco.rle import Rle, encode_crop, encode_runs
from cascadezoo.drawing import Row, Style, draw
from cascadezoo.errors import MissingResource, UsageError
from cascadezoo.files import write_json
from cascadezoo.images import ImageInput, read_image
from cascadezoo.modeling.transfer import to_host
from cascadezoo.ops.library import COMPILED
from cascadezoo.ops.mask_paste import PASTE, Crop, PasteMethod, paste, paste_bilinear
from cascadezoo.ops.paste_rle import countable, default_cap, most_runs, paste_rle
from cascadezoo.paths import expanded
from cascadezoo.spec.conventions import MaskPaste

Index: TypeAlias = int | np.integer[Any] | slice | Tensor | Sequence[int] | Sequence[bool] | npt.NDArray[Any]
_Row: TypeAlias = tuple[tuple[float, float, float, float], float, int]
_ROOM = 2**20  # runs that there is room for at a time, where there is a choice: 4 MB

_MOST_ROOM = 2**26  # runs of one mask: 256 MB


@dataclass(eq=False, repr=False)
class Detections:
    """The detections on one image.  No field can be set anew, and every method returns something new; the tensors are
    ordinary ones, which ``detections.boxes *= 2`` edits in place.

    Attributes:
        boxes: (N, 4) float32 xyxy, pixels of the original image.
        scores: (N,) float32 in 0..1.
        labels: (N,) int64 in 0..C-1; there is no background label.
        image_size: (height, width) of the original image.
        categories: the names of the labels, with the data set's ids.
        mask_probs: (N, M, M) probabilities over each box, or None from a model without masks.
        paste_method: how ``mask_probs`` become pixels.
        extent: 1 where x2 is the last pixel inside a box, else 0 (``cascadezoo.spec.conventions``).
        host: boxes, scores and labels in the host's memory, where the caller has them: then nothing waits for a device.

    Raises ``UsageError`` for shapes that do not agree, labels without a category, or numbers that are not finite.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    image_size: tuple[int, int]
    categories: Categories = COCO
    mask_probs: Tensor | None = None
    paste_method: PasteMethod = field(default=paste_bilinear, kw_only=True)
    extent: int = field(default=0, kw_only=True)
    host: InitVar[Sequence[Tensor] | None] = field(default=None, kw_only=True)

    def __setattr__(self, name: str, value: object) -> None:
        if self.__dict__.get(name, value) is not value:  # an edit in place assigns the same tensor again
            raise FrozenInstanceError(f"cannot assign to field {name!r}: dataclasses.replace gives changed detections")
        object.__setattr__(self, name, value)

    def __post_init__(self, host: Sequence[Tensor] | None) -> None:
        set_field = object.__setattr__
        set_field(self, "boxes", self.boxes.to(torch.float32))
        set_field(self, "scores", self.scores.to(torch.float32))
        set_field(self, "labels", self.labels.to(torch.int64))
        height, width = self.image_size
        set_field(self, "image_size", (int(height), int(width)))
        self._check_shapes()
        self._check_numbers(*(host or self._on_host()))

    def _on_host(self) -> list[Tensor]:
        return to_host((self.boxes, self.scores, self.labels))

    def _check_shapes(self) -> None:
        n = len(self.boxes)
        if self.boxes.shape != (n, 4) or self.scores.shape != (n,) or self.labels.shape != (n,):
            shapes = [tuple(x.shape) for x in (self.boxes, self.scores, self.labels)]
            raise UsageError(f"boxes {shapes[0]}, scores {shapes[1]}, labels {shapes[2]}: give (N, 4), (N,) and (N,)")
        if self.mask_probs is not None and (self.mask_probs.ndim != 3 or len(self.mask_probs) != n):
            raise UsageError(f"mask_probs {tuple(self.mask_probs.shape)} for {n} boxes: give (N, M, M)")
        if min(self.image_size) < 1:
            raise UsageError(f"image_size {self.image_size}: give (height, width) of at least one pixel")

    def _check_numbers(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> None:
        if not (boxes.isfinite().all() and scores.isfinite().all()):
            raise UsageError("boxes or scores hold NaN or infinity: the model's weights or its input are damaged")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.categories):
            span = f"{labels.min().item()}..{labels.max().item()}"
            raise UsageError(f"labels {span} for {len(self.categories)} categories: labels count from 0")

    @cached_property
    def masks(self) -> Tensor | None:
        """(N, H, W) bool, built when first asked for and kept; None from a model without masks.

        Takes N * H * W bytes: for large images prefer ``rles`` or iteration.
        """
        if self.mask_probs is None:
            return None
        with torch.inference_mode(False):  # whoever asks first, the masks serve everybody
            return paste(self.mask_probs, self.boxes, *self.image_size, method=self.paste_method)

    def crops(self) -> Iterator[Crop]:
        """The part of each mask that can be set, one detection at a time; nothing from a model without masks."""
        if self.mask_probs is not None:
            yield from self.paste_method(self.mask_probs, self.boxes, *self.image_size)

    def rles(self) -> list[Rle] | None:
        """The masks as COCO run-length encodings, never built whole; None from a model without masks.

        ``rles_of`` gives those of several images by one copy from the device.
        """
        return rles_of([self])[0]

    def _pasting(self) -> MaskPaste | None:
        """How ``paste_rle`` pastes these masks; None where it cannot."""
        method = next((name for name, paste in PASTE.items() if paste is self.paste_method), None)
        return method if self.mask_probs is not None and countable(*self.image_size) else None

    def _runs(self) -> tuple[()] | tuple[Tensor, Tensor]:
        """What ``paste_rle`` makes of all the masks, on their device; nothing where they are not pasted at once."""
        probabilities, method = self.mask_probs, self._pasting()
        if probabilities is None or method is None or not _at_once(probabilities):
            return ()
        return paste_rle(probabilities, self.boxes, *self.image_size, method)

    def _rles(self, runs: Sequence[Tensor]) -> list[Rle] | None:
        """The encodings, from what ``_runs`` gave, on the host."""
        if self.mask_probs is None:
            return None
        if runs:
            return self._encoded(self.mask_probs, self.boxes, runs)
        method = self._pasting()
        if method is None or not _quickly():
            return self._rles_one_by_one(self.mask_probs, self.boxes)
        some = max(1, _ROOM // default_cap(self.image_size[1]))
        parts = zip(self.mask_probs.split(some), self.boxes.split(some), strict=True)
        return [rle for p in parts for rle in self._encoded(*p, paste_rle(*p, *self.image_size, method))]

    def _encoded(self, probabilities: Tensor, boxes: Tensor, runs: Sequence[Tensor]) -> list[Rle]:
        ends, counts = runs
        left = [index for index, count in enumerate(counts.tolist()) if count < 0]
        others = iter(self._of_many_runs(probabilities[left], boxes[left], ends.shape[1]) if left else ())
        return [
            next(others) if count < 0 else encode_runs(row[:count], *self.image_size)
            for row, count in zip(ends.numpy(), counts.tolist(), strict=True)
        ]

    def _of_many_runs(self, probabilities: Tensor, boxes: Tensor, cap: int) -> list[Rle]:
        """The masks that ``paste_rle`` left to its caller: pasted again with room for the runs that any mask can have;
        one by one where that does not help."""
        room, method = most_runs(probabilities.shape[1], self.image_size[1]), self._pasting()
        if method is None or not cap < room <= _MOST_ROOM:
            return self._rles_one_by_one(probabilities, boxes)
        some = max(1, _ROOM // room)
        parts = zip(probabilities.split(some), boxes.split(some), strict=True)
        pasted = ((p, paste_rle(*p, *self.image_size, method, room)) for p in parts)
        on_host = ((p, runs if runs[0].device.type == "cpu" else to_host(runs)) for p, runs in pasted)
        return [rle for p, runs in on_host for rle in self._encoded(*p, runs)]

    def _rles_one_by_one(self, probabilities: Tensor, boxes: Tensor) -> list[Rle]:
        crops = self.paste_method(probabilities, boxes, *self.image_size)
        return [encode_crop(mask.cpu().numpy(), top, left, *self.image_size) for top, left, mask in crops]

    def counts(self) -> dict[str, int]:
        """How many of each category there are, by name, the most frequent first."""
        return dict(Counter(self.categories[label] for label in self.labels.tolist()).most_common())

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO results: ``image_id``, ``category_id`` (the data set's id), ``bbox`` [x, y, width, height], ``score``,
        and with masks ``segmentation`` (RLE).

        ``to_coco_of`` gives those of several images by one copy from the device.
        """
        return to_coco_of([self], [image_id])[0]

    def _results(self, image_id: int, rows: Iterable[_Row], rles: list[Rle] | None) -> list[dict[str, Any]]:
        results = [
            {
                "image_id": image_id,
                "category_id": self.categories.ids[label],
                "bbox": [x1, y1, x2 - x1 + self.extent, y2 - y1 + self.extent],
                "score": score,
            }
            for (x1, y1, x2, y2), score, label in rows
        ]
        if rles is None:
            return results
        return [{**result, "segmentation": rle} for result, rle in zip(results, rles, strict=True)]

    def to_supervision(self) -> Any:
        """As ``supervision.Detections``, with whole masks and the names under ``data["class_name"]``.

        Raises ``MissingResource`` when the library, an optional extra, is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise MissingResource(f"supervision cannot be imported ({error}): pip install supervision") from error
        on_host = self.to("cpu")
        return supervision.Detections(
            xyxy=on_host.boxes.detach().numpy(),
            confidence=on_host.scores.detach().numpy(),
            class_id=on_host.labels.numpy(),
            mask=None if on_host.masks is None else on_host.masks.numpy(),
            data={"class_name": np.array([self.categories[label] for label in on_host.labels.tolist()], dtype=str)},
        )

    def plot(self, image: ImageInput, **style: Any) -> Image.Image:
        """The image with boxes, names, scores and masks drawn on it, as ``style`` says (``cascadezoo.drawing.Style``):
        ``detections.plot(image, labels=False, opacity=0.6)``.

        ``image`` is anything that ``predict`` takes; raises ``UsageError`` when it is not of ``image_size``.
        """
        wanted = Style(**style)
        pixels = read_image(image)
        if pixels.shape[:2] != self.image_size:
            given, own = "x".join(map(str, pixels.shape[:2])), "x".join(map(str, self.image_size))
            raise UsageError(f"an image of {given} (height x width) for detections on {own}: give the one detected on")
        has_masks = wanted.masks and self.mask_probs is not None
        crops: Iterator[Crop | None] = self.crops() if has_masks else repeat(None)
        rows = (
            Row(self.categories[label], score, label, box, crop)
            for (box, score, label), crop in zip(self._rows(), crops, strict=False)
        )
        return draw(pixels, rows, wanted)

    def save(self, path: str | os.PathLike[str], image_id: int = 1) -> Path:
        """Write a COCO annotation file (``.json``) of this image: its size, the categories, and ``to_coco``'s
        records as annotations (``cascadezoo.coco.annotations``).  The file appears whole or not at all, in
        place of an older one.  Images are written by ``plot(image).save(path)``.

        Raises ``UsageError`` when the path does not end in .json.
        """
        path = expanded(path)
        if path.suffix.lower() != ".json":
            raise UsageError(f"{path} does not end in .json; to write an image, use plot(image).save(path)")
        height, width = self.image_size
        images = [{"id": image_id, "height": height, "width": width}]
        return write_json(path, annotation_file(self.categories, images, self.to_coco(image_id), "detections"))

    def to(self, device: str | torch.device) -> "Detections":
        """The same detections, with their tensors on ``device``."""
        masks = None if self.mask_probs is None else self.mask_probs.to(device)
        return replace(
            self,
            boxes=self.boxes.to(device),
            scores=self.scores.to(device),
            labels=self.labels.to(device),
            mask_probs=masks,
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator["Detection"]:
        for index, (box, score, label) in enumerate(self._rows()):
            yield Detection(box, score, label, self.categories[label], self, index)

    def __getitem__(self, index: Index) -> "Detections":
        """The detections at ``index``: a number (for one), a slice, a list or tensor of numbers, or N truth values,
        as in ``detections[detections.scores >= 0.5]``.  Raises ``IndexError`` when out of range."""
        chosen = self._selector(index)
        return replace(
            self,
            boxes=self.boxes[chosen],
            scores=self.scores[chosen],
            labels=self.labels[chosen],
            mask_probs=None if self.mask_probs is None else self.mask_probs[chosen],
        )

    def __repr__(self) -> str:
        height, width = self.image_size
        counts = [f"{count} {name}" for name, count in self.counts().items()]
        listed = ", ".join(counts[:3] + ["…"] * (len(counts) > 3))
        return f"Detections({len(self)} on {height}x{width}{': ' * bool(counts)}{listed})"

    def _selector(self, index: Index) -> slice | Tensor:
        if isinstance(index, slice):
            return index
        chosen = torch.as_tensor(index)
        if chosen.ndim == 0 and not (chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool):
            number = int(chosen)
            if not -len(self) <= number < len(self):
                raise IndexError(f"detection {number} of {len(self)}")
            number %= len(self)
            return slice(number, number + 1)
        if chosen.ndim != 1:
            raise IndexError(f"an index of shape {tuple(chosen.shape)}: give one number, a slice or a list")
        if not chosen.numel():
            chosen = chosen.to(torch.int64)  # [] comes as float
        chosen = chosen.to(self.boxes.device)
        # truth values become numbers once, not once a field: each time a GPU is waited for
        return torch.arange(len(self), device=chosen.device)[chosen] if chosen.dtype == torch.bool else chosen

    def _rows(self) -> Iterator[_Row]:
        return _as_rows(self._on_host())


def rles_of(batch: Sequence[Detections]) -> list[list[Rle] | None]:
    """``Detections.rles`` of each of several detections on one device, by one copy to the host.

    Only masks that the operator for all of an image leaves to its caller (``ops/paste_rle.py``) are copied one by one.
    """
    runs = _groups_on_host([one._runs() for one in batch])
    return [one._rles(of_one) for one, of_one in zip(batch, runs, strict=True)]


def to_coco_of(batch: Sequence[Detections], image_ids: Sequence[int]) -> list[list[dict[str, Any]]]:
    """``Detections.to_coco`` of each of several detections on one device, by one copy to the host (``rles_of``)."""
    groups = _groups_on_host([(one.boxes, one.scores, one.labels, *one._runs()) for one in batch])
    return [
        one._results(image_id, _as_rows(group[:3]), one._rles(group[3:]))
        for one, image_id, group in zip(batch, image_ids, groups, strict=True)
    ]


def _at_once(probabilities: Tensor) -> bool:
    """Whether an image's masks are pasted at once: on a CPU, where nothing is waited for, less memory is better."""
    return probabilities.device.type != "cpu"


def _quickly() -> bool:
    """Whether ``paste_rle`` is compiled for a CPU: else it gains nothing there."""
    return "cpu" in COMPILED


def _groups_on_host(groups: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    tensors = [tensor for group in groups for tensor in group]
    copied = iter(to_host(tensors) if tensors else [])
    return [[next(copied) for _ in group] for group in groups]


def _as_rows(tensors: Sequence[Tensor]) -> Iterator[_Row]:
    boxes, scores, labels = (tensor.tolist() for tensor in tensors)
    return zip(map(tuple, boxes), scores, labels, strict=True)


@dataclass(frozen=True, eq=False)
class Detection:
    """One detection in plain numbers: ``box`` (x1, y1, x2, y2) in pixels, ``score`` 0..1, ``label`` and its name."""

    box: tuple[float, float, float, float]
    score: float
    label: int
    name: str
    _all: Detections = field(repr=False)
    _index: int = field(repr=False)

    @property
    def mask(self) -> Tensor | None:
        """(H, W) bool, built when asked for; None from a model without masks."""
        masks = self._all[self._index].masks
        return None if masks is None else masks[0]
