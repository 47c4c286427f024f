"""One format of annotations to another: which one a folder is in, and the files whole or not at all."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from cascadezoo.errors import OutputExists, UnwritableOutput, UsageError
from cascadezoo.formats.coco import read_coco, write_coco
from cascadezoo.formats.labelme import is_labelme, read_labelme, write_labelme
from cascadezoo.formats.labels import Labels, Notes
from cascadezoo.formats.reading import files_in
from cascadezoo.formats.voc import read_voc, write_voc
from cascadezoo.formats.yolo import CLASSES, described, read_yolo, write_yolo


class Format(StrEnum):
    """A format of annotations beside COCO's."""

    YOLO = "yolo"
    VOC = "voc"
    LABELME = "labelme"


_Read = Callable[[Path, Path | None, str | None, Path | None, Notes], Labels]
_Write = Callable[[Labels, Path, Notes], None]

_READ: dict[Format, _Read] = {Format.YOLO: read_yolo, Format.VOC: read_voc, Format.LABELME: read_labelme}
_WRITE: dict[Format, _Write] = {Format.YOLO: write_yolo, Format.VOC: write_voc, Format.LABELME: write_labelme}


class Converted(NamedTuple):
    """What became of a conversion: the folder of the images, and a line for each kind of change."""

    images: Path
    notes: list[str]


def to_coco(
    source: Path,
    out: Path,
    form: Format | None = None,
    *,
    images: Path | None = None,
    split: str | None = None,
    names: Path | None = None,
) -> Converted:
    """Write ``out``, a COCO instances file, of the data set ``source``; by default in the format it is found to have.

    ``images``, ``split``, ``names``: as of ``read_yolo``, ``read_voc`` and ``read_labelme``.  Images stay where they
    are: their names are those in ``Converted.images``.

    Raises UsageError, MissingResource, BadAnnotations and UnwritableOutput.
    """
    form = found_format(source) if form is None else form
    if form is not Format.YOLO and not source.is_dir():
        raise UsageError(f"{source} is a file: give the folder of a data set in the format {form}")
    notes = Notes()
    labels = _READ[form](source, images, split, names, notes)
    write_coco(labels, out, notes)
    return Converted(labels.folder, notes.lines())


def from_coco(annotations: Path, images: Path, out: Path, form: Format) -> Converted:
    """Write the folder ``out``, whole or not at all, of a COCO instances file whose images lie in ``images``.

    Raises OutputExists where the folder holds anything, and what reading the file raises.
    """
    labels, notes = read_coco(annotations, images), Notes()
    with _whole_folder(out) as folder:
        _WRITE[form](labels, folder, notes)
    return Converted(images, notes.lines())


def found_format(source: Path) -> Format:
    """The format that a data set is in, by what its folder holds.  Raises UsageError where that is none, or several."""
    found = []
    if not source.is_dir():
        found += [Format.YOLO] if source.suffix.lower() in (".yaml", ".yml") else []
    else:
        below = (source, source / "labels")
        if described(source) or any((folder / name).is_file() for folder in below for name in CLASSES):
            found.append(Format.YOLO)
        if (source / "Annotations").is_dir() or any(source.glob("*.xml")):
            found.append(Format.VOC)
        if any(is_labelme(paths[0]) for paths in list(files_in(source, {".json"}).values())[:3]):
            found.append(Format.LABELME)
    if len(found) != 1:
        what = f"may be {' or '.join(found)}" if found else "is in none of the formats known here"
        raise UsageError(f"{source} {what}: say which (--from {'|'.join(Format)})")
    return found[0]


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write into, which takes its place at the end and is removed after an error."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputExists(f"{out} is there already: choose another folder")
    out = Path(os.path.realpath(out))  # of a link the target
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
        yield part
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        raise UnwritableOutput(f"{out} cannot be written: {error.strerror or error}; nothing was left") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
