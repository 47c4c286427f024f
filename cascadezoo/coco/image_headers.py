"""Whether image files are what an annotation file says, by their headers and, where that is asked for, decoded."""

from collections.abc import Mapping
from pathlib import Path

from cascadezoo.coco.records import ImageEntry, Problem
from cascadezoo.errors import BadAnnotations, CascadezooError, MissingResource
from cascadezoo.image_files import Header, read_header
from cascadezoo.images import read_image


def image_problem(path: Path, height: int, width: int) -> Problem | None:
    """What is wrong with an image whose file, by its header, is not what is annotated; pixels."""
    try:
        if not path.is_file():
            return Problem("image-missing", "file_name", f"there is no file {path}")
        with path.open("rb") as file:
            header = read_header(str(path), file)
    except (CascadezooError, OSError, ValueError) as error:  # ValueError: a name that no file can have
        return Problem("image-unreadable", "file_name", str(error))
    stored = (header.width, header.height)
    upright = _upright(header)
    if upright == (width, height):
        return None
    said = f"{width} x {height} is annotated, but {path} is {upright[0]} x {upright[1]} (width x height)"
    if stored == (width, height):
        return Problem(
            "image-exif",
            "width, height",
            f"{said} when EXIF orientation {header.orientation} is applied: annotate the image as it is shown, or "
            "take the orientation out of the file",
        )
    swapped = ": width and height are exchanged" if upright == (height, width) else ": annotate the image as it is"
    return Problem("image-file-size", "width, height", said + swapped)


def shown_size(path: Path) -> tuple[int, int]:
    """Height and width of an image as it is shown, with its EXIF orientation applied, by its header.

    Raises MissingResource and UnreadableImage.
    """
    try:
        with path.open("rb") as file:
            width, height = _upright(read_header(str(path), file))
    except FileNotFoundError as error:
        raise MissingResource(f"there is no image {path}") from error
    except OSError as error:
        raise MissingResource(f"{path} cannot be read: {error.strerror or error}") from error
    return height, width


def _upright(header: Header) -> tuple[int, int]:
    stored = (header.width, header.height)
    return stored[::-1] if header.orientation > 4 else stored


def decoding_problem(path: Path) -> Problem | None:
    """What is wrong with an image when it is decoded."""
    try:
        read_image(path)
    except CascadezooError as error:
        return Problem("image-damaged", "file_name", str(error))
    return None


def require_images(annotations: Path, images: Path, entries: Mapping[int, ImageEntry]) -> None:
    """Raise MissingResource for images that are not in the folder, BadAnnotations for the first of another size."""
    missing = []
    for image_id, entry in entries.items():
        problem = image_problem(images / entry.name, entry.height, entry.width)
        if problem is None:
            continue
        if problem.kind != "image-missing":
            raise BadAnnotations(f"{annotations}: image {image_id}: {problem.text}")
        missing.append(entry.name)
    if missing:
        raise MissingResource(
            f"{len(missing)} of the {len(entries)} images of {annotations} are not in {images}, "
            f"such as {missing[0]}: give the folder that holds them"
        )
