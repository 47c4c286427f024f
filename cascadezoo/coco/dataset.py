"""A data set in COCO's format, validated when it is opened, so that later code need not check its records.

N images; T objects of one image; C classes.

Formulas ported from (licences in NOTICE):

- cocodataset/cocoapi (pycocotools 2.0), Copyright (c) 2014, Piotr Dollar and Tsung-Yi Lin, BSD-2-Clause:
  ``common/maskApi.c`` (``rleFrString``)
"""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from cascadezoo.coco.categories import Categories
from cascadezoo.errors import BadAnnotations, FileError, MissingResource
from cascadezoo.files import parse_json

_FAR = 1e9  # pixels: beyond any image
_log = logging.getLogger("cascadezoo")

Bitmap = npt.NDArray[np.uint8]
Polygons = list[npt.NDArray[np.float64]]  # each (K, 2) x and y, K >= 3
Segmentation = Polygons | Mapping[str, Any]  # the latter: RLE with its counts compressed (text) or not (list)


class ImageRecord(NamedTuple):
    """One image and its T objects, in pixels of the image as it is in its file.

    Attributes:
        image_id: the data set's own id.
        path: the image file.
        height, width: of the image.
        boxes: (T, 4) float32 x1 y1 x2 y2, x2 and y2 the edges behind the last pixels; clipped to the image.
        labels: (T,) int64, 0..C-1.
        segmentations: T polygons or RLEs, None for an object without a mask.
        crowd: (T,) bool, a group of objects in one box.
    """

    image_id: int
    path: Path
    height: int
    width: int
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    segmentations: tuple[Segmentation | None, ...]
    crowd: npt.NDArray[np.bool_]


class CocoDataset:
    """The images of ``annotations``, a COCO instances file, that lie in the folder ``images``.

    Annotations that cannot be learned from are skipped, and their number is logged: boxes outside their image or less
    than a pixel wide or high, and objects of which every polygon has less than three points.

    Raises MissingResource when the file, the folder or an image is missing, and BadAnnotations, which names the file
    and the image's or the annotation's id, when the JSON is not what it should be.

    Attributes:
        annotations: the file.
        digest: its SHA-256 in hexadecimal.
        categories: by label, with the data set's own ids.
        image_ids: in the file's order.
        heights, widths: (N,) of the images.
        objects: (N,) how many objects each image has, without crowds.
        class_counts: (C,) how many objects each class has, without crowds.
        skipped: reason -> number of annotations left out.
    """

    def __init__(self, annotations: str | os.PathLike[str], images: str | os.PathLike[str]) -> None:
        self.annotations, self.images = Path(annotations), Path(images)
        if not self.images.is_dir():
            raise MissingResource(f"no folder of images: {self.images}")
        document, self.digest = _read(self.annotations)
        try:
            self.categories = Categories.from_coco(document["categories"])
        except FileError as error:
            raise BadAnnotations(f"{self.annotations}: {error}") from error
        self.skipped: Counter[str] = Counter()
        records = self._parse(document)
        self.image_ids: tuple[int, ...] = tuple(records)
        self.heights = np.array([record["height"] for record in records.values()], dtype=np.int64)
        self.widths = np.array([record["width"] for record in records.values()], dtype=np.int64)
        self.objects = np.array([record["crowd"].count(False) for record in records.values()], dtype=np.int64)
        self.class_counts = np.zeros(len(self.categories), dtype=np.int64)
        for record in records.values():
            own = [label for label, crowd in zip(record["labels"], record["crowd"], strict=True) if not crowd]
            np.add.at(self.class_counts, own, 1)
        self._maskless = [i for i, record in records.items() if _lacks_mask(record)]
        self._find_images([record["file_name"] for record in records.values()])
        # one buffer of text rather than millions of objects: worker processes share it without copying
        texts = [json.dumps(record).encode() for record in records.values()]
        self._text = b"".join(texts)
        self._ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        if self.skipped:
            listed = ", ".join(f"{number} {reason}" for reason, number in sorted(self.skipped.items()))
            _log.warning("%s: skipped annotations: %s", self.annotations, listed)

    def __len__(self) -> int:
        return len(self.image_ids)

    def record(self, index: int) -> ImageRecord:
        """Image ``index`` of 0..len-1, in the file's order."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        fields = json.loads(self._text[self._ends[index - 1] if index else 0 : self._ends[index]])
        return ImageRecord(
            image_id=self.image_ids[index],
            path=self.images / fields["file_name"],
            height=fields["height"],
            width=fields["width"],
            boxes=np.array(fields["boxes"], dtype=np.float32).reshape(-1, 4),
            labels=np.array(fields["labels"], dtype=np.int64),
            segmentations=tuple(_as_arrays(segmentation) for segmentation in fields["segmentations"]),
            crowd=np.array(fields["crowd"], dtype=np.bool_),
        )

    def require_masks(self) -> None:
        """Raise BadAnnotations when an object that is no crowd has no segmentation."""
        if self._maskless:
            raise self._bad(
                f"an object of image {self._maskless[0]} has no segmentation, which an entry with masks needs: "
                "complete the annotations, or train an entry without masks"
            )

    def _parse(self, document: dict[str, Any]) -> dict[int, dict[str, Any]]:
        """Image id -> its record as plain JSON values."""
        records: dict[int, dict[str, Any]] = {}
        for item in document["images"]:
            image_id, record = self._image(item)
            if image_id in records:
                raise self._bad(f"image id {image_id} comes twice")
            records[image_id] = record
        if not records:
            raise self._bad("it lists no images")
        labels = {category: label for label, category in enumerate(self.categories.ids)}
        for item in document["annotations"]:
            self._add(item, records, labels)
        return records

    def _image(self, item: Any) -> tuple[int, dict[str, Any]]:
        try:
            image_id, name, height, width = (item[key] for key in ("id", "file_name", "height", "width"))
        except (KeyError, TypeError, IndexError) as error:
            raise self._bad(f"an image needs id, file_name, height and width, unlike {_shown(item)}") from error
        if type(image_id) is not int or not isinstance(name, str) or not name:
            raise self._bad(f"an image's id is a whole number and its file_name a text, unlike {_shown(item)}")
        if not all(type(side) is int and 1 <= side < _FAR for side in (height, width)):
            raise self._bad(f"image {image_id} has the size {_shown(width)} x {_shown(height)}: give whole pixels")
        empty: dict[str, Any] = {"boxes": [], "labels": [], "segmentations": [], "crowd": []}
        return image_id, {"file_name": name, "height": height, "width": width, **empty}

    def _add(self, item: Any, records: dict[int, dict[str, Any]], labels: dict[int, int]) -> None:
        """Add one annotation to its image, or count why not."""
        try:
            image_id, category, bbox = item["image_id"], item["category_id"], item["bbox"]
            record, label = records.get(image_id), labels.get(category)
        except (KeyError, TypeError, IndexError) as error:
            raise self._bad(f"an annotation needs image_id, category_id and bbox, unlike {_shown(item)}") from error
        where = f"annotation {item.get('id')!r} of image {image_id!r}"
        if record is None:
            raise self._bad(f"{where}: the file has no image of that id")
        if label is None:
            raise self._bad(f"{where}: the file has no category of id {category!r}")
        if not isinstance(bbox, list) or len(bbox) != 4 or not _are_finite(bbox):
            raise self._bad(f"{where}: a bbox is four numbers x, y, width, height, unlike {_shown(bbox)}")
        height, width = record["height"], record["width"]
        x1, y1 = max(bbox[0], 0), max(bbox[1], 0)
        x2, y2 = min(bbox[0] + bbox[2], width), min(bbox[1] + bbox[3], height)
        if x2 - x1 < 1 or y2 - y1 < 1:
            tiny = min(bbox[2], bbox[3]) < 1
            self.skipped["less than a pixel wide or high" if tiny else "outside their image"] += 1
            return
        try:
            segmentation = _checked(item.get("segmentation"), height, width)
        except ValueError as error:
            raise self._bad(f"{where}: {error}") from error
        if segmentation == []:
            self.skipped["with polygons of less than three points"] += 1
            return
        record["boxes"].append([x1, y1, x2, y2])
        record["labels"].append(label)
        record["segmentations"].append(segmentation)
        record["crowd"].append(bool(item.get("iscrowd", 0)))

    def _find_images(self, names: list[str]) -> None:
        missing = [name for name in names if not _is_file(self.images / name)]
        if missing:
            raise MissingResource(
                f"{len(missing)} of the {len(names)} images of {self.annotations} are not in {self.images}, "
                f"such as {missing[0]}: give the folder that holds them"
            )

    def _bad(self, what: str) -> BadAnnotations:
        return BadAnnotations(f"{self.annotations}: {what}")


def bitmap(segmentation: Segmentation, height: int, width: int) -> Bitmap:
    """The mask (height, width), 0 or 1, as pycocotools rasterises it; polygons in pixels of that size."""
    if isinstance(segmentation, list):
        flat = [polygon.ravel().tolist() for polygon in segmentation]
        rle = coco_mask.merge(coco_mask.frPyObjects(flat, height, width))
    elif isinstance(segmentation["counts"], list):
        rle = coco_mask.frPyObjects(segmentation, height, width)
    else:
        rle = segmentation
    mask: Bitmap = coco_mask.decode(rle)
    return mask


def _read(path: Path) -> tuple[dict[str, Any], str]:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingResource(f"no such annotation file: {path}") from error
    except OSError as error:
        raise MissingResource(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        document = parse_json(data)
    except ValueError as error:
        raise BadAnnotations(f"{path} is no JSON: {error}; is the file whole?") from error
    if not isinstance(document, dict):
        raise BadAnnotations(f"{path} is no COCO instances file: it holds a {type(document).__name__}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            raise BadAnnotations(f"{path} is no COCO instances file: it has no list of {key}")
    if not document["categories"]:
        raise BadAnnotations(f"{path}: it lists no categories")
    return document, hashlib.sha256(data).hexdigest()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have: too long
        return False


def _lacks_mask(record: dict[str, Any]) -> bool:
    """Whether any object of a record, crowds apart, has no segmentation."""
    pairs = zip(record["segmentations"], record["crowd"], strict=True)
    return any(segmentation is None and not crowd for segmentation, crowd in pairs)


def _checked(segmentation: Any, height: int, width: int) -> Any:
    """The segmentation, without polygons of less than three points; ValueError where it is corrupt."""
    if segmentation is None or segmentation == []:  # the latter is how many tools write a box without a mask
        return None
    if isinstance(segmentation, list):
        for polygon in segmentation:
            if not isinstance(polygon, list) or len(polygon) % 2 or not _are_finite(polygon):
                raise ValueError("a polygon is a list of x1, y1, x2, y2, …: pairs of finite numbers")
        return [polygon for polygon in segmentation if len(polygon) >= 6]
    if not isinstance(segmentation, dict):
        raise ValueError(f"a segmentation is a list of polygons or an RLE, unlike {_shown(segmentation)}")
    if segmentation.get("size") != [height, width]:
        raise ValueError(f"its RLE is of size {_shown(segmentation.get('size'))}, the image of [{height}, {width}]")
    counts = segmentation.get("counts")
    if isinstance(counts, list):
        if not all(type(n) is int and n >= 0 for n in counts) or sum(counts) != height * width:
            raise ValueError(f"the counts of its RLE do not add up to the image's {height * width} pixels")
    elif not isinstance(counts, str) or _pixels(counts) != height * width:
        raise ValueError("its compressed RLE is damaged: its runs do not fill the image")
    return {"size": [height, width], "counts": counts}


def _pixels(counts: str) -> int | None:
    """How many pixels a compressed RLE covers, None where the text is no RLE; pycocotools itself trusts every text.

    Each number is written in groups of five bits, least first; from the third on, as its difference to the number two
    before (``rleFrString`` of pycocotools' maskApi.c).
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 30:
            return None
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (1 << shift) if group & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            if runs[-1] < 0:
                return None
            value = shift = 0
    return None if shift else sum(runs)


def _as_arrays(segmentation: Any) -> Segmentation | None:
    if isinstance(segmentation, list):
        return [np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in segmentation]
    rle: Segmentation | None = segmentation
    return rle


def _are_finite(numbers: list[Any]) -> bool:
    """Whether all are int or float, and of a size that pixels can have."""
    return set(map(type, numbers)) <= {int, float} and all(-_FAR < number < _FAR for number in numbers)


def _shown(value: Any) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= 80 else f"{text[:77]}…"
