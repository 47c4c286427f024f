"""What can be wrong with a COCO annotation file: every kind by name, and the faults found in one file."""

from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

Part: TypeAlias = Literal["file", "images", "categories", "annotations"]


class Kind(NamedTuple):
    """What is wrong, and what training and verification do about it; without ``then`` they refuse the file."""

    what: str
    then: str | None = None


KINDS = {
    # the file
    "json": Kind("no JSON, or cut short"),
    "list": Kind("`images`, `annotations` or `categories` is missing, no list, or there twice"),
    "list-empty": Kind("no images, or no categories"),
    # images
    "image-type": Kind("an image that is no object"),
    "image-id": Kind("an image's id is missing or no whole number of 64 bits"),
    "image-id-twice": Kind("two images of one id"),
    "image-name": Kind("`file_name` is missing, empty or no text"),
    "image-name-twice": Kind("two images of one `file_name`", "both are used"),
    "image-size": Kind("`height` or `width` is missing, no whole number of 1 or more, or beyond the pixel limit"),
    "image-missing": Kind("no such file in the folder of images"),
    "image-unreadable": Kind("the file is no image"),
    "image-damaged": Kind("the file cannot be decoded (with `--decode`)"),
    "image-file-size": Kind("the file is of another size; `height` and `width` exchanged are said by name"),
    "image-exif": Kind("annotated as it lies in the file, which EXIF's orientation turns when it is shown"),
    # categories
    "category-type": Kind("a category that is no object"),
    "category-id": Kind("a category's id is missing or no whole number of 64 bits"),
    "category-id-twice": Kind("two categories of one id"),
    "category-name": Kind("a category's name is missing, empty or no text"),
    "category-name-twice": Kind("two categories of one name"),
    "category-root": Kind("a category without objects above all others, as Roboflow writes it", "left out"),
    # annotations
    "annotation-type": Kind("an annotation that is no object"),
    "id-missing": Kind("no `id`", "ids are given anew"),
    "id-type": Kind("`id` is no whole number"),
    "id-twice": Kind("an `id` for the second time, which pycocotools scores as one object", "ids are given anew"),
    "id-below-1": Kind("an `id` of 0 (which pycocotools scores as never found) or less", "ids are given anew"),
    "image-id-type": Kind("`image_id` is missing or no whole number"),
    "image-unknown": Kind("`image_id` is that of no image"),
    "category-id-type": Kind("`category_id` is missing or no whole number"),
    "category-unknown": Kind("`category_id` is that of no category"),
    "bbox": Kind("`bbox` is missing or not four finite numbers"),
    "bbox-small": Kind("a box less than a pixel wide or high", "no training object"),
    "bbox-outside": Kind("a box outside its image", "no training object"),
    "bbox-beyond": Kind("a box reaches more than a pixel beyond its image", "clipped for training"),
    "area-missing": Kind("no `area`", "that of the mask, or else of the box, is taken"),
    "area": Kind("`area` is no finite number from 0 to 1e10"),
    "iscrowd-missing": Kind("no `iscrowd`", "0 is taken"),
    "iscrowd": Kind("`iscrowd` is neither 0 nor 1"),
    "ignore": Kind("`ignore` is 1", "no training object, but scored, as mmdetection does it"),
    "ignore-type": Kind("`ignore` is neither 0 nor 1"),
    "segmentation-type": Kind("`segmentation` is neither a list of polygons nor an RLE"),
    "segmentation-missing": Kind("no mask, where other objects have one", "networks with masks refuse it"),
    "polygon-type": Kind("a polygon is no list of pairs of numbers"),
    "polygon-number": Kind("a polygon holds NaN or an infinity"),
    "polygon-far": Kind("a polygon reaches far beyond its image, or is longer than a million pixels"),
    "polygon-beyond": Kind("a polygon reaches more than a pixel beyond its image", "clipped"),
    "polygon-short": Kind("a polygon of less than three points", "left out, the box stays"),
    "rle-size": Kind("an RLE of another size than its image, or without one"),
    "rle-counts": Kind("an RLE's counts are no whole numbers, or do not add up to its size"),
    "rle-text": Kind("a compressed RLE with characters that none has, or whose runs do not fill its size"),
}  # fmt: skip
"""Every kind of fault, in the order in which docs/data.md lists them."""


_ONE = {"images": "image", "categories": "category", "annotations": "annotation"}


def called(part: Part, place: int | None, own: int | None) -> str:
    """How an item of a list is called in a message: by its own id, or by its place where it has none."""
    return f"{part}[{place}]" if own is None else f"{_ONE[part]} {own}"


class Fault(NamedTuple):
    """One fault.

    Attributes:
        kind: a key of ``KINDS``.
        part: the list it is in, or "file".
        place: in that list, from 0; None for the file.
        id: the item's own id where it has a usable one.
        field: the key that is wrong.
        problem: the rest of a sentence.
    """

    kind: str
    part: Part
    place: int | None
    id: int | None
    field: str
    problem: str

    @property
    def is_refused(self) -> bool:
        """Whether training and verification refuse the file for it."""
        return KINDS[self.kind].then is None

    @property
    def where(self) -> str:
        """The item, such as "annotation 12", or "annotations[3]" for one without an id."""
        return "" if self.part == "file" else called(self.part, self.place, self.id)

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.field, self.problem) if part)


class Faults:
    """The faults of a file: how many of each kind, and the first ``most`` of each."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.counts: Counter[str] = Counter()
        self.first: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Count a fault, and keep it where it is one of the first of its kind."""
        self.counts[fault.kind] += 1
        if self.counts[fault.kind] <= self.most:
            self.first.append(fault)

    def __str__(self) -> str:
        """The first fault of each kind, and how many more there are, with what is done about them."""
        return "; ".join(self._kinds())

    def _kinds(self) -> Iterator[str]:
        told: set[str] = set()
        for fault in self.first:
            if fault.kind not in told:
                more = self.counts[fault.kind] - 1
                yield f"{fault} ({KINDS[fault.kind].then or 'refused'})" + f" and {more} more of this kind" * (more > 0)
            told.add(fault.kind)

    @property
    def refused(self) -> int:
        """How many faults there are for which training and verification refuse the file."""
        return sum(number for kind, number in self.counts.items() if KINDS[kind].then is None)
