"""Data sets in COCO's layout, checked before any model runs on them.

COCO val2017 lies in ``ROOT/annotations/instances_val2017.json`` and ``ROOT/val2017/`` or ``ROOT/images/val2017/``,
nuImages' validation split in ``ROOT/annotations/nuimages_v1.0-val.json`` and ``ROOT/samples/``; the drawn data set of
our own entries is made when it is first needed.
"""

import hashlib
import logging
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cascadezoo.coco.checking import Contents, read, require_mask_truth
from cascadezoo.coco.image_headers import image_problem
from cascadezoo.errors import BadAnnotations, FileError, MissingResource, UsageError
from cascadezoo.hub.cache import locked
from cascadezoo.paths import data_folder

# a whole image of this kind begins and ends so; behind the end may lie a few bytes of padding
_MARKS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}
_TAIL = 4096
_NAMED = 3  # files in a message
_log = logging.getLogger("cascadezoo")

NAMES = {"coco": "COCO val2017", "nuimages": "nuImages val", "shapes": "shapes"}  # of what entries are judged on

TIMED = 8  # images that speed is measured on, whatever the limit: always the first

_ANNOTATIONS = ("annotations/instances_val2017.json", "annotations_trainval2017/annotations/instances_val2017.json")
_FOLDERS = ("val2017", "images/val2017", "val2017/val2017", "images/val2017/val2017")  # the last: unpacked one deeper

COCO_HELP = (
    "get http://images.cocodataset.org/zips/val2017.zip and "
    "http://images.cocodataset.org/annotations/annotations_trainval2017.zip and unpack both there"
)


_NUIMAGES = "annotations/nuimages_v1.0-val.json"
NUIMAGES_HELP = (
    "get nuImages' samples and metadata from https://www.nuscenes.org/nuimages, and write the annotations with "
    "mmdetection3d's tools/dataset_converters/nuimage_converter.py --version v1.0-val"
)


@dataclass(frozen=True)
class CocoImage:
    """One image of a data set; ``height`` and ``width`` in pixels, as annotated."""

    image_id: int
    path: Path
    height: int
    width: int


@dataclass(frozen=True)
class Dataset:
    """Annotations and their images; ``help`` says how to get them."""

    name: str
    annotations: Path
    folder: Path
    help: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the annotation file."""
        return hashlib.sha256(self.annotations.read_bytes()).hexdigest()

    @cached_property
    def images(self) -> tuple[CocoImage, ...]:
        """All images, in the order of their ids; raises BadAnnotations where the file is not a sound COCO file."""
        listed = [
            CocoImage(image_id, self.folder / entry.name, entry.height, entry.width)
            for image_id, entry in self._contents.images.items()
        ]
        return tuple(sorted(listed, key=lambda image: image.image_id))

    @cached_property
    def _contents(self) -> Contents:
        contents, faults = read(self.annotations)
        if faults.counts:
            _log.warning("%s: %s", self.annotations, faults)
        return contents

    def chosen(self, limit: int | None) -> tuple[CocoImage, ...]:
        """The first ``limit`` images, or all."""
        return self.images[:limit]

    def check(self, limit: int | None = None, *, masks: bool = False) -> None:
        """Raise MissingResource or FileError, naming what is missing or damaged and how to get it.

        Of each image its first and last bytes are read: enough to notice one that is cut short, or of another size than
        annotated.  ``masks``: every annotation has to have one.
        """
        for path, exists in ((self.annotations, Path.is_file), (self.folder, Path.is_dir)):
            if not exists(path):
                raise MissingResource(f"{self.name}: no {path}: {self.help}")
        chosen = self.chosen(limit)
        if masks:
            require_mask_truth(self.annotations, self._contents.unscorable)
        if missing := [image.path for image in chosen if not image.path.is_file()]:
            raise MissingResource(
                f"{self.name}: {len(missing)} of {len(chosen)} images are missing ({_few(missing)}): {self.help}"
            )
        if broken := [image.path for image in chosen if not _is_whole(image.path)]:
            raise FileError(
                f"{self.name}: {len(broken)} of {len(chosen)} images are damaged or cut short ({_few(broken)}): "
                f"get them again ({self.help})"
            )
        for image in chosen:
            if (problem := image_problem(image.path, image.height, image.width)) is not None:
                raise BadAnnotations(f"{self.annotations}: image {image.image_id}: {problem.text}")


def found_in(root: Path, data: str) -> Dataset:
    """The data set that the manifest calls ``data``, under ``root``."""
    return {"coco": coco_val2017, "nuimages": nuimages_val}[data](root)


def nuimages_val(root: Path) -> Dataset:
    """nuImages' validation split under ``root``, in the layout and the COCO format that mmdetection3d gives it."""
    return Dataset(NAMES["nuimages"], root / _NUIMAGES, root, f"{NUIMAGES_HELP} ({root})")


def coco_val2017(root: Path) -> Dataset:
    """COCO val2017 under ``root``, in any of the layouts that other programs make of it."""
    annotations = next((root / name for name in _ANNOTATIONS if (root / name).is_file()), root / _ANNOTATIONS[0])
    folders = [root / name for name in _FOLDERS if (root / name).is_dir()]
    folder = next((folder for folder in folders if _has_files(folder)), (*folders, root / _FOLDERS[0])[0])
    return Dataset(
        NAMES["coco"], annotations, folder, f"{COCO_HELP} ({root}); the images may lie in images/val2017 too"
    )


def shapes_val(images: int | None = None) -> Dataset:
    """The drawn data set's validation split, drawn into the cache where it is not there yet."""
    from cascadezoo import shapes

    count = shapes.SIZES["val"] if images is None else images
    dataset = shapes_drawn(count)
    if dataset is None:
        out = _shapes_folder(count)
        with locked(out.name):
            shapes.generate("val", out, count)
        dataset = shapes_drawn(count)
        assert dataset is not None
    dataset.check()
    return dataset


def shapes_drawn(images: int | None = None) -> Dataset | None:
    """The drawn data set's validation split, if it is drawn already."""
    out = _shapes_folder(images)
    annotations = out / "annotations" / "instances_val.json"
    if not annotations.is_file():  # written last
        return None
    return Dataset(NAMES["shapes"], annotations, out / "val", f"delete {out}, and they are drawn again")


def _shapes_folder(images: int | None) -> Path:
    from cascadezoo import shapes

    return data_folder() / f"shapes-v{shapes.VERSION}-{images or shapes.SIZES['val']}"


def require_limit(limit: int | None) -> None:
    """Raise UsageError for a limit that leaves no image."""
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} images: give 1 or more")


def _has_files(folder: Path) -> bool:
    with os.scandir(folder) as found:
        return any(each.is_file() for each in found)


def _is_whole(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(4)
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        tail = file.read()
    ends = [end for start, end in _MARKS.items() if head.startswith(start)]
    return len(head) == 4 and all(end in tail for end in ends)  # an image of another kind is checked when it is decoded


def _few(paths: list[Path]) -> str:
    return ", ".join(map(str, paths[:_NAMED])) + (", …" if len(paths) > _NAMED else "")
