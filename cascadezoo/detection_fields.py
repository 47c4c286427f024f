"""The fields of ``Detections``, checked once; choosing some of them, joining several, moving them to a device.

Shapes: N detections on an image of H x W pixels, M x M cells per mask.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import FrozenInstanceError, InitVar, dataclass, field, replace
from types import EllipsisType
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cascadezoo.coco.categories import COCO, Categories
from cascadezoo.detection_rows import DetectionRow
from cascadezoo.errors import UsageError
from cascadezoo.images import ImageInput
from cascadezoo.modeling.transfer import to_host
from cascadezoo.ops.mask_parts import MaskParts, joined
from cascadezoo.ops.mask_paste import PasteMethod, paste_bilinear
from cascadezoo.text import printable

Index: TypeAlias = (
    int
    | np.integer[Any]
    | slice
    | EllipsisType
    | Tensor
    | Sequence[int]
    | Sequence[bool]
    | npt.NDArray[Any]
    | str
    | Sequence[str]
)

_INDICES = "give one number, a slice, a list of numbers, a truth value for each detection, or names of categories"


@dataclass(eq=False, repr=False)
class DetectionFields:
    """What ``cascadezoo.detections.Detections`` says of its attributes, errors included."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    image_size: tuple[int, int]
    categories: Categories = COCO
    mask_probs: Tensor | MaskParts | None = None
    paste_method: PasteMethod = field(default=paste_bilinear, kw_only=True)
    extent: int = field(default=0, kw_only=True)
    source: "ImageInput | None" = field(default=None, kw_only=True)
    host: InitVar[Sequence[Tensor] | None] = field(default=None, kw_only=True)

    def __setattr__(self, name: str, value: object) -> None:
        if self.__dict__.get(name, value) is not value:  # an edit in place assigns the same tensor again
            raise FrozenInstanceError(f"cannot assign to field {name!r}: dataclasses.replace gives changed detections")
        object.__setattr__(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "source": self.source if isinstance(self.source, str | os.PathLike) else None}

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
        if self.mask_probs is not None and (len(self.mask_probs.shape) != 3 or len(self.mask_probs) != n):
            raise UsageError(f"mask_probs {tuple(self.mask_probs.shape)} for {n} boxes: give (N, M, M)")
        if min(self.image_size) < 1:
            raise UsageError(f"image_size {self.image_size}: give (height, width) of at least one pixel")

    def _check_numbers(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> None:
        if not (boxes.isfinite().all() and scores.isfinite().all()):
            raise UsageError("boxes or scores hold NaN or infinity: the model's weights or its input are damaged")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.categories):
            span = f"{labels.min().item()}..{labels.max().item()}"
            raise UsageError(f"labels {span} for {len(self.categories)} categories: labels count from 0")

    @classmethod
    def concat(cls, parts: Iterable[Self]) -> Self:
        """The detections of several parts, as of several models on one image, one part after the other.

        Index them by ``scores.argsort(descending=True)`` to have the best first.  Raises UsageError for no parts, and
        for parts that differ in image size, categories, device, or in what their boxes and masks are.
        """
        parts = list(parts)
        if not parts:
            raise UsageError("concat: give one Detections or more")
        first, kinds = parts[0], [part._kind() for part in parts]
        for name, value in kinds[0].items():
            if other := [kind[name] for kind in kinds if kind[name] != value]:
                raise UsageError(f"concat: the detections differ in {name}: {value} and {other[0]}")
        masks = [(part.mask_probs, part.boxes) for part in parts if part.mask_probs is not None]
        return replace(
            first,
            boxes=torch.cat([part.boxes for part in parts]),
            scores=torch.cat([part.scores for part in parts]),
            labels=torch.cat([part.labels for part in parts]),
            mask_probs=joined(*zip(*masks, strict=True)) if masks else None,
            source=first.source if all(part.source is first.source for part in parts) else None,
        )

    def _kind(self) -> dict[str, Any]:
        """What detections have in common that can be joined."""
        return {
            "image_size": self.image_size,
            "categories": self.categories,
            "device": self.boxes.device,
            "the sides of mask_probs": None if self.mask_probs is None else tuple(self.mask_probs.shape[1:]),
            "paste_method": self.paste_method,
            "extent": self.extent,
        }

    def to(self, device: str | torch.device) -> Self:
        """The same detections, with their tensors on ``device``."""
        masks = None if self.mask_probs is None else self.mask_probs.to(device)
        return replace(
            self,
            boxes=self.boxes.to(device),
            scores=self.scores.to(device),
            labels=self.labels.to(device),
            mask_probs=masks,
        )

    def counts(self) -> dict[str, int]:
        """How many of each category there are, by name, the most frequent first."""
        return dict(Counter(self.categories[label] for label in self.labels.tolist()).most_common())

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Index) -> Self:
        """The detections at ``index``: a number, a slice (``[::-1]`` too), numbers in a list, array or tensor,
        ``...`` for all, or N truth values, as in ``detections[detections.scores >= 0.5]``; or those of a category or
        several, by name, as in ``detections["person"]`` and ``detections[["person", "dog"]]``.

        Raises ``IndexError`` when out of range and for anything else, and ``UnknownName`` for a name of no category.
        """
        chosen = self._selector(index)
        return replace(
            self,
            boxes=self.boxes[chosen],
            scores=self.scores[chosen],
            labels=self.labels[chosen],
            mask_probs=None if self.mask_probs is None else self.mask_probs[chosen],
        )

    def _selector(self, index: Any) -> slice | Tensor:
        if isinstance(index, tuple) and len(index) == 1 and not isinstance(index[0], str | int):
            index = index[0]  # as in detections[ids,]
        if index is Ellipsis:
            return slice(None)
        names = [index] if isinstance(index, str) else index
        if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
            wanted = torch.tensor([self.categories.label_of(name) for name in names], device=self.labels.device)
            return torch.isin(self.labels, wanted).nonzero().flatten()
        chosen = self._numbers(index)
        if isinstance(chosen, Tensor) and chosen.ndim == 0:
            number = int(chosen)
            if not -len(self) <= number < len(self):
                raise IndexError(f"detection {number} of {len(self)}")
            number %= len(self)
            return slice(number, number + 1)
        return chosen

    def _numbers(self, index: Any) -> slice | Tensor:
        """A slice, a number, or numbers on the detections' device; raises IndexError for anything else."""
        if isinstance(index, slice):
            try:
                steps = range(len(self))[index]
            except (TypeError, ValueError) as error:
                raise IndexError(f"{index}: {error}") from None
            return index if steps.step > 0 else torch.tensor(steps, dtype=torch.int64, device=self.boxes.device)
        try:
            # a copy where numpy counts backwards
            chosen = torch.as_tensor(index.copy() if isinstance(index, np.ndarray) else index)
        except (RuntimeError, TypeError, ValueError):
            raise IndexError(f"an index of type {type(index).__name__}: {_INDICES}") from None
        if chosen.ndim == 1 and not chosen.numel():
            chosen = chosen.to(torch.int64)  # [] comes as float
        truth = chosen.dtype == torch.bool
        if chosen.ndim > 1 or chosen.is_floating_point() or chosen.is_complex() or (truth and not chosen.ndim):
            raise IndexError(f"an index of shape {tuple(chosen.shape)} and type {chosen.dtype}: {_INDICES}")
        if not truth:
            chosen = chosen.to(torch.int64)
            if chosen.ndim and chosen.device.type == "cpu":  # a GPU would be waited for
                wrong = chosen[(chosen < -len(self)) | (chosen >= len(self))].tolist()
                if wrong:
                    raise IndexError(f"detection {wrong[0]} of {len(self)}")
            return chosen.to(self.boxes.device)
        chosen = chosen.to(self.boxes.device)
        if len(chosen) != len(self):
            raise IndexError(f"{len(chosen)} truth values for {len(self)} detections: give one for each")
        # truth values become numbers once, not once a field: each time a GPU is waited for
        return torch.arange(len(self), device=chosen.device)[chosen]

    def __repr__(self) -> str:
        height, width = self.image_size
        counts = [f"{count} {name}" for name, count in self.counts().items()]
        listed = ", ".join(counts[:3] + ["…"] * (len(counts) > 3))
        return printable(f"{type(self).__name__}({len(self)} on {height}x{width}{': ' * bool(counts)}{listed})")

    def _rows(self) -> Iterator[DetectionRow]:
        return rows_of(self._on_host())


def rows_of(tensors: Sequence[Tensor]) -> Iterator[DetectionRow]:
    """Boxes (N, 4), scores (N,) and labels (N,) on the host as plain numbers."""
    boxes, scores, labels = (tensor.tolist() for tensor in tensors)
    return map(DetectionRow, map(tuple, boxes), scores, labels)
