"""The detections on one image.

Shapes: N detections, best first as the detector gives them, on an image of H x W pixels.  Boxes are xyxy in pixels
of the original image, unrounded.
"""

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cascadezoo import notebook
from cascadezoo.coco.annotations import annotation_file
from cascadezoo.coco.polygons import Polygon, as_coco, polygons_of
from cascadezoo.coco.rle import Rle
from cascadezoo.detection_fields import DetectionFields, rows_of
from cascadezoo.detection_rows import coco_results, data_frame, records
from cascadezoo.drawing import Row, Style, draw
from cascadezoo.errors import CascadezooError, MissingResource, UsageError
from cascadezoo.files import write_json
from cascadezoo.images import ImageInput, read_image
from cascadezoo.joined_masks import JoinedMasks
from cascadezoo.mask_rles import BoxedMasks
from cascadezoo.modeling.transfer import to_host
from cascadezoo.ops.mask_parts import MaskParts
from cascadezoo.ops.mask_paste import Crop, whole
from cascadezoo.paths import expanded


class Detections(DetectionFields):
    """The detections on one image.  No field can be set anew, and every method returns something new; the tensors are
    ordinary ones, which ``detections.boxes *= 2`` edits in place.

    Attributes:
        boxes: (N, 4) float32 xyxy, pixels of the original image.
        scores: (N,) float32 in 0..1.
        labels: (N,) int64 in 0..C-1; there is no background label.
        image_size: (height, width) of the original image.
        categories: the names of the labels, with the data set's ids.
        mask_probs: (N, M, M) probabilities over each box, or None from a model without masks.  A ``MaskParts`` where
            tiles show parts of objects: each part over a box of its own.
        paste_method: how ``mask_probs`` become pixels.
        extent: 1 where x2 is the last pixel inside a box, else 0 (``cascadezoo.spec.conventions``).
        source: the image as ``predict`` was given it, not a copy, for ``plot`` and ``show``; None where it is not
            known.  Pickles, and so copies, take a path along and leave any other image behind.
        host: boxes, scores and labels in the host's memory, where the caller has them: then nothing waits for a device.

    Raises ``UsageError`` for shapes that do not agree, labels without a category, or numbers that are not finite.
    """

    @cached_property
    def masks(self) -> Tensor | None:
        """(N, H, W) bool, built when first asked for and kept; None from a model without masks.

        Takes N * H * W bytes: for large images prefer ``rles`` or iteration.
        """
        if self.mask_probs is None:
            return None
        with torch.inference_mode(False):  # whoever asks first, the masks serve everybody
            return whole(self.crops(), len(self), *self.image_size, self.mask_probs.device)

    def crops(self) -> Iterator[Crop]:
        """The part of each mask that can be set, one detection at a time; nothing from a model without masks."""
        if (masks := self._boxed_masks()) is not None:
            yield from masks.crops()

    def rles(self) -> list[Rle] | None:
        """The masks as COCO run-length encodings, never built whole; None from a model without masks.

        ``rles_of`` gives those of several images by one copy from the device.
        """
        return rles_of([self])[0]

    def polygons(self) -> list[list[Polygon]] | None:
        """The exact outlines of each mask, a polygon with its holes for each connected part (``coco.polygons``): none
        for an empty mask.  None from a model without masks."""
        if self.mask_probs is None:
            return None
        return [polygons_of(crop.mask.cpu().numpy(), crop.left, crop.top) for crop in self.crops()]

    def _boxed_masks(self) -> BoxedMasks | JoinedMasks | None:
        if self.mask_probs is None:
            return None
        if isinstance(self.mask_probs, MaskParts):
            parts = self.mask_probs
            boxed = BoxedMasks(parts.probabilities, parts.boxes, self.image_size, self.paste_method)
            return JoinedMasks(boxed, parts.counts)
        return BoxedMasks(self.mask_probs, self.boxes, self.image_size, self.paste_method)

    def _runs(self) -> Sequence[Tensor]:
        masks = self._boxed_masks()
        return () if masks is None else masks.runs()

    def _rles(self, runs: Sequence[Tensor]) -> list[Rle] | None:
        """The encodings, from what ``_runs`` gave, on the host."""
        masks = self._boxed_masks()
        return None if masks is None else masks.rles(runs)

    def to_coco(self, image_id: int, masks: Literal["rle", "polygon"] = "rle") -> list[dict[str, Any]]:
        """COCO results: ``image_id``, ``category_id`` (the data set's id), ``bbox`` [x, y, width, height], ``score``,
        and with masks ``segmentation``.

        ``masks``: as run-length encodings, which evaluators want, or as polygons for programs that know nothing else.
        COCO's polygons have no holes: each is bridged with the outline (``Polygon.bridged``), and pycocotools draws
        the same pixels again.  ``to_coco_of`` gives the results of several images by one copy from the device.
        """
        if masks == "rle":
            return to_coco_of([self], [image_id])[0]
        if masks != "polygon":
            raise UsageError(f"masks {masks!r}: give 'rle' or 'polygon'")
        outlines = self.polygons()
        segmentations = None if outlines is None else list(map(as_coco, outlines))
        return coco_results(self._rows(), self.categories, image_id, self.extent, segmentations)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: ``height`` and ``width`` of the image and ``detections``, a list of dicts with
        ``name``, ``label``, ``category_id``, ``score``, ``box`` [x1, y1, x2, y2] and, with masks, ``segmentation``, an
        RLE."""
        height, width = self.image_size
        return {
            "height": height,
            "width": width,
            "detections": records(self._rows(), self.categories, self.rles()),
        }

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``, one row for each detection: ``name``, ``label``, ``category_id``, ``score``, ``x1``,
        ``y1``, ``x2``, ``y2`` and, with masks, ``segmentation``, an RLE.

        Raises ``MissingResource`` when pandas, an optional library, is not installed.
        """
        return data_frame(list(self._rows()), self.categories, self.rles())

    def to_torchvision(self) -> dict[str, Tensor]:
        """As torchvision's detectors give them: ``boxes``, ``scores``, ``labels`` and, with masks, whole ``masks``."""
        output = {"boxes": self.boxes, "scores": self.scores, "labels": self.labels}
        return output if self.masks is None else {**output, "masks": self.masks}

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

    def plot(self, image: "ImageInput | None" = None, **style: Any) -> Image.Image:
        """The image with boxes, names, scores and masks drawn on it, as ``style`` says (``cascadezoo.drawing.Style``):
        ``detections.plot(labels=False, opacity=0.6)``.

        ``image`` is anything that ``predict`` takes; None: the one that ``predict`` was given.  Raises ``UsageError``
        when it is not of ``image_size``, and where no image is given or known.
        """
        wanted = Style(**style)
        given = self.source if image is None else image
        if given is None:
            raise UsageError("these detections do not know their image: give it, as in plot(image)")
        pixels = read_image(given)
        if pixels.shape[:2] != self.image_size:
            size, own = "x".join(map(str, pixels.shape[:2])), "x".join(map(str, self.image_size))
            raise UsageError(f"an image of {size} (height x width) for detections on {own}: give the one detected on")
        has_masks = wanted.masks and self.mask_probs is not None
        crops: Iterator[Crop | None] = self.crops() if has_masks else repeat(None, len(self))
        rows = (
            Row(self.categories[label], score, label, box, crop)
            for (box, score, label), crop in zip(self._rows(), crops, strict=True)
        )
        return draw(pixels, rows, wanted)

    def show(self, image: "ImageInput | None" = None, **style: Any) -> None:
        """Show what ``plot`` draws: below the cell in a notebook, else in the system's program for pictures.

        Raises what ``plot`` raises, and ``MissingResource`` where there is no such program.
        """
        notebook.show(self.plot(image, **style))

    def _repr_png_(self) -> bytes | None:
        picture = self._picture()
        return None if picture is None or isinstance(picture, str) else notebook.png(picture)

    def _repr_html_(self) -> str:
        heads = ("", "name", "score", "x1", "y1", "x2", "y2")
        rows = [
            (str(number), self.categories[label], f"{score:.3f}", *(f"{side:.1f}" for side in box))
            for number, (box, score, label) in enumerate(self._rows())
        ]
        return notebook.table(repr(self), heads, rows, self._picture())

    def _picture(self) -> Image.Image | str | None:
        """The source with the detections drawn on it, or why it cannot be shown; None where there is none."""
        if self.source is None:
            return None
        try:
            return self.plot()
        except CascadezooError as error:
            return str(error)

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

    def __iter__(self) -> Iterator["Detection"]:
        for index, (box, score, label) in enumerate(self._rows()):
            yield Detection(box, score, label, self.categories[label], self, index)


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
        coco_results(rows_of(group[:3]), one.categories, image_id, one.extent, one._rles(group[3:]))
        for one, image_id, group in zip(batch, image_ids, groups, strict=True)
    ]


def with_sources(
    batch: Sequence[Detections | CascadezooError], images: Sequence[ImageInput]
) -> list[Detections | CascadezooError]:
    """The same detections, each with the image it was found on; the tensors are shared, and not checked again."""
    return [
        _with_source(one, image) if isinstance(one, Detections) else one
        for one, image in zip(batch, images, strict=True)
    ]


def _with_source(detections: Detections, image: ImageInput) -> Detections:
    twin = copy.copy(detections)
    object.__setattr__(twin, "source", image)
    return twin


def _groups_on_host(groups: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    tensors = [tensor for group in groups for tensor in group]
    copied = iter(to_host(tensors) if tensors else [])
    return [[next(copied) for _ in group] for group in groups]


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
