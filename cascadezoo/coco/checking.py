"""The one reader of COCO annotation files: item by item, with every fault named; training, verification and
``cascadezoo data check`` all read through it.

Ids of annotations are internal: nothing behind this depends on them.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cascadezoo.coco.categories import Categories
from cascadezoo.coco.faults import KINDS, Fault, Faults, Part, called
from cascadezoo.coco.image_headers import decoding_problem, image_problem
from cascadezoo.coco.records import (
    Annotation,
    ImageEntry,
    Problem,
    body_of,
    image_problems,
    is_text,
    no_whole,
    whole,
)
from cascadezoo.coco.segmentations import shown
from cascadezoo.coco.stream import Begin, JsonLists, NotAList
from cascadezoo.errors import BadAnnotations

_LISTS: tuple[Part, ...] = ("images", "annotations", "categories")
_NO_ID = -(2**63)  # stands for an annotation without a usable id


@dataclass
class Contents:
    """What a file lists, without its annotations.

    Attributes:
        images: by id, in the file's order.
        categories: names by id, in the file's order; without an unannotated root.
        objects: annotations by category id, crowds included.
        annotations: how many there are.
        unscorable: the first of them, crowds included, that has no mask to evaluate masks on, such as "annotation 5".
        digest: SHA-256 of the file.
    """

    images: dict[int, ImageEntry] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)
    objects: Counter[int] = field(default_factory=Counter)
    annotations: int = 0
    unscorable: str | None = None
    digest: str = ""


Keep = Callable[[Annotation], None]


def read(path: Path, keep: Keep | None = None) -> tuple[Contents, Faults]:
    """The contents, and the faults that reading goes on from, the first of each kind; ``keep`` gets every annotation.

    Raises MissingResource for a file that cannot be read, and BadAnnotations at the first fault that is refused.
    """
    met = Faults(most=1)

    def report(fault: Fault) -> None:
        if fault.is_refused:
            raise BadAnnotations(f"{path}: {fault} (`cascadezoo data check` lists all faults of the file)")
        met.add(fault)

    return _Reading(path, None, report, keep).contents(), met


def check(path: Path, images: Path | None, most: int, *, decode: bool = False) -> tuple[Contents, Faults]:
    """All faults of a file, and of the headers of its images where their folder is given, the first ``most`` of each
    kind in the file's order.  ``decode``: the images are decoded, too.

    Raises MissingResource for a file that cannot be read.
    """
    faults = Faults(most)
    reading = _Reading(path, images, faults.add, None, decode=decode)
    try:
        reading.contents()
    except BadAnnotations as error:  # where it is no JSON
        text = str(error).removeprefix(f"{path} ")
        faults.add(Fault("json", "file", None, None, "", text))
    order = ("file", "images", "categories", "annotations")
    faults.first.sort(key=lambda fault: (order.index(fault.part), fault.place or 0))
    return reading.found, faults


def categories_of(contents: Contents) -> Categories:
    """The categories of a file without faults, by ascending id, as is the custom."""
    ids = sorted(contents.categories)
    return Categories((contents.categories[i] for i in ids), ids)


def require_mask_truth(path: Path, unscorable: str | None) -> None:
    """Raise BadAnnotations where masks cannot be evaluated: ``Contents.unscorable`` has none."""
    if unscorable is not None:
        raise BadAnnotations(f"{path}: {unscorable} has no segmentation of three points or more to evaluate masks on")


class _Reading:
    """One pass over a file, or two where the annotations come before the images."""

    def __init__(
        self,
        path: Path,
        folder: Path | None,
        report: Callable[[Fault], None],
        keep: Keep | None,
        *,
        decode: bool = False,
    ) -> None:
        self.found = Contents()
        self._decode = decode
        self._path, self._folder, self._report, self._keep = path, folder, report, keep
        self._refused = 0
        self._sizes: dict[int, tuple[int, int] | None] = {}  # height and width, None where they cannot be relied on
        self._names: set[str] = set()
        self._without_id: Counter[Part] = Counter()
        self._categories: dict[int, tuple[int, str, str | None]] = {}  # by id: index, name, supercategory
        self._ids: set[int] = set()
        # index and id of annotations by category id, and of those without a mask, as pairs in a row
        self._of_category: dict[int, array[int]] = {}
        self._maskless: array[int] = array("q")
        self._has_masks = False
        self._lists: set[str] = set()

    def contents(self) -> Contents:
        """Read all; faults are reported as they are found."""
        stream = JsonLists(self._path)
        seen: set[str] = set()
        is_deferred = self._pass(stream, seen, _LISTS)
        self.found.digest = stream.digest
        for part in _LISTS:
            if part not in seen:
                self._fault("list", "file", None, None, part, "the file has no such list")
        if is_deferred:
            self._pass(stream, set(), ("annotations",))
        if "images" in self._lists and not self._sizes and not self._without_id["images"]:
            self._fault("list-empty", "file", None, None, "images", "the file lists no images")
        self._end()
        return self.found

    def _pass(self, stream: JsonLists, seen: set[str], wanted: tuple[Part, ...]) -> bool:
        """Whether the annotations have to be read after all the rest."""
        handlers = {"images": self._image, "annotations": self._annotation, "categories": self._category}
        index, is_read, is_deferred = 0, False, False
        for key, item in stream:
            if key not in wanted:
                continue
            if isinstance(item, Begin | NotAList):
                is_read = key not in seen and isinstance(item, Begin)
                if is_read:
                    self._lists.add(key)
                elif "images" in wanted:
                    problem = "the file has it twice" if key in seen else "it is no list"
                    self._fault("list", "file", None, None, key, problem)
                seen.add(key)
                index = 0
                if is_read and key == "annotations" and "images" in wanted and "images" not in seen:
                    is_deferred, is_read = True, False
            elif is_read:
                handlers[key](index, item)
                index += 1
        return is_deferred

    def _fault(self, kind: str, part: Part, index: int | None, own: int | None, key: str, problem: str) -> None:
        self._refused += KINDS[kind].then is None
        self._report(Fault(kind, part, index, own, key, problem))

    def _image(self, index: int, item: Any) -> None:
        if not isinstance(item, dict):
            self._without_id["images"] += 1
            self._fault("image-type", "images", index, None, "", f"an object is wanted, not {shown(item)}")
            return
        before, own, name = self._refused, whole(item.get("id")), item.get("file_name")
        if own is None:
            self._without_id["images"] += 1
            self._fault("image-id", "images", index, None, "id", no_whole(item, "id"))
        elif own in self._sizes:
            self._fault("image-id-twice", "images", index, own, "id", "another image has this id")
            self._sizes[own] = None
            return
        problems = list(image_problems(item))
        if not problems and self._folder is not None:
            file = self._folder / item["file_name"]
            in_file = image_problem(file, item["height"], item["width"]) or (
                decoding_problem(file) if self._decode else None
            )
            problems = [] if in_file is None else [in_file]
        if isinstance(name, str):
            if name and name in self._names:
                problems.append(Problem("image-name-twice", "file_name", f"another image has {shown(name)}, too"))
            self._names.add(name)
        for problem in problems:
            self._fault(problem.kind, "images", index, own, problem.field, problem.text)
        if own is not None:
            self._sizes[own] = None
            if self._refused == before:
                self._sizes[own] = item["height"], item["width"]
                self.found.images[own] = ImageEntry(item["file_name"], item["height"], item["width"])

    def _category(self, index: int, item: Any) -> None:
        if not isinstance(item, dict):
            self._without_id["categories"] += 1
            self._fault("category-type", "categories", index, None, "", f"an object is wanted, not {shown(item)}")
            return
        own, name, above = whole(item.get("id")), item.get("name"), item.get("supercategory")
        if own is None:
            self._without_id["categories"] += 1
            self._fault("category-id", "categories", index, None, "id", no_whole(item, "id"))
        elif own in self._categories:
            self._fault("category-id-twice", "categories", index, own, "id", "another category has this id")
            return
        if not is_text(name):
            said = f"a text is wanted, not {shown(name)}" if "name" in item else "it is missing"
            self._fault("category-name", "categories", index, own, "name", said)
        if own is not None:
            self._categories[own] = index, name if is_text(name) else "", above if isinstance(above, str) else None

    def _annotation(self, index: int, item: Any) -> None:
        self.found.annotations += 1
        if not isinstance(item, dict):
            self._fault("annotation-type", "annotations", index, None, "", f"an object is wanted, not {shown(item)}")
            return
        before, own = self._refused, whole(item.get("id"))
        image_id, category_id = whole(item.get("image_id")), whole(item.get("category_id"))
        body = body_of(item, None if image_id is None else self._sizes.get(image_id))
        for problem in (*self._id_problems(own, image_id, category_id, item), *body.problems):
            self._fault(problem.kind, "annotations", index, own, problem.field, problem.text)
        place = (index, _NO_ID if own is None else own)
        if category_id is not None:
            self._of_category.setdefault(category_id, array("q")).extend(place)
        if not body.segmentation and self.found.unscorable is None:
            self.found.unscorable = called("annotations", index, own)
        if item.get("iscrowd") != 1:
            self._has_masks |= body.has_mask
            if not body.has_mask:
                self._maskless.extend(place)
        if self._keep is not None and self._refused == before and image_id in self.found.images:
            assert category_id is not None  # or it had been refused
            is_crowd = item.get("iscrowd") == 1
            self._keep(
                Annotation(
                    image_id, category_id, item["bbox"], item.get("area"), is_crowd, body.is_object,
                    body.segmentation,
                )
            )  # fmt: skip

    def _id_problems(
        self, own: int | None, image_id: int | None, category_id: int | None, item: dict[str, Any]
    ) -> Iterator[Problem]:
        """What is wrong with an annotation's own id and those it refers to; the category's is looked up in the end."""
        if own is None:
            yield Problem("id-missing" if item.get("id") is None else "id-type", "id", no_whole(item, "id"))
        elif own in self._ids:
            yield Problem("id-twice", "id", "another annotation has this id")
        elif own < 1:
            yield Problem("id-below-1", "id", "ids begin with 1")
        if own is not None:
            self._ids.add(own)
        if image_id is None:
            yield Problem("image-id-type", "image_id", no_whole(item, "image_id"))
        elif image_id not in self._sizes and not self._may_be_without_id("images", image_id, self._sizes):
            yield Problem("image-unknown", "image_id", f"the file has no image {image_id}")
        if category_id is None:
            yield Problem("category-id-type", "category_id", no_whole(item, "category_id"))

    def _may_be_without_id(self, part: Part, number: int, known: Collection[int]) -> bool:
        """Whether an unknown id can be that of an item whose own id, or list, is missing: a fault that was named."""
        lost = self._without_id[part]
        return not known or (lost > 0 and min(known) - lost <= number <= max(known) + lost)

    def _end(self) -> None:
        """What is known only when all is read."""
        self._find_root()
        known, names = self.found.categories, set[str]()
        for own, (index, name, _) in self._categories.items():
            if name and name in names:
                said = f"another category is {shown(name)}, too"
                self._fault("category-name-twice", "categories", index, own, "name", said)
            known[own] = name
            names.add(name)
        if "categories" in self._lists:
            if not self._categories and not self._without_id["categories"]:
                self._fault("list-empty", "file", None, None, "categories", "the file lists no categories")
            for category_id, places in self._of_category.items():
                if category_id not in known and not self._may_be_without_id("categories", category_id, known):
                    said = f"the file has no category {category_id}"
                    self._fault_each("category-unknown", "category_id", places, said)
        self.found.objects.update({key: len(places) // 2 for key, places in self._of_category.items()})
        if self._has_masks:
            self._fault_each("segmentation-missing", "segmentation", self._maskless, "other objects have a mask")

    def _find_root(self) -> None:
        """Leave out the one category without objects that all others name as the one above them."""
        named = Counter(above for _, _, above in self._categories.values())
        for own, (index, name, above) in self._categories.items():
            is_above_all = named[name] - (above == name) == len(self._categories) - 1 > 0
            if name and is_above_all and own not in self._of_category:
                said = f"{shown(name)} is above all others and has no objects"
                self._fault("category-root", "categories", index, own, "supercategory", said)
                del self._categories[own]
                return

    def _fault_each(self, kind: str, key: str, places: "array[int]", problem: str) -> None:
        for index, own in zip(places[::2], places[1::2], strict=True):
            self._fault(kind, "annotations", index, None if own == _NO_ID else own, key, problem)
