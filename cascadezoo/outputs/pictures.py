"""Kinds that are files of pixels: the drawn image, and of each detection its mask, its cutout, its crop."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from cascadezoo.errors import UnwritableOutput
from cascadezoo.files import whole_file
from cascadezoo.image_files import LONGEST_SIDE_OF_JPEG
from cascadezoo.images import Pixels
from cascadezoo.outputs.found import Found, Shown

_OF_ONE = re.compile(r"\d{4,}-.*\.png", re.DOTALL)  # the name of a detection's file


def made(folder: Path) -> Path:
    """The folder, made where it is missing.  Raises UnwritableOutput."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableOutput(f"{folder} cannot be made: {error.strerror or error}") from error
    return folder


def write_png(path: Path, pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> Path:
    """A PNG of grey, RGB or RGBA levels, whole or not at all.  Raises UnwritableOutput."""
    level = 1 if pixels.ndim == 3 else 6  # of photographs, more takes several times as long and saves a seventh
    with whole_file(path) as file:
        Image.fromarray(pixels).save(file, "PNG", compress_level=level)
    return path


def write_picture(path: Path, picture: Image.Image) -> Path:
    """A JPEG, whole or not at all.  Raises UnwritableOutput."""
    if max(picture.size) > LONGEST_SIDE_OF_JPEG:
        raise UnwritableOutput(
            f"{path} cannot be written: the picture has {picture.width} x {picture.height} pixels, and no side of a "
            f"JPEG more than {LONGEST_SIDE_OF_JPEG:,}; leave the kind picture out (--save), or cut the image into parts"
        )
    with whole_file(path) as file:
        picture.save(file, "JPEG", quality=95, subsampling=0)
    return path


def write_masks(folder: Path, image: Shown, found: Sequence[Found]) -> list[Path]:
    """In a folder STEM an 8-bit PNG of the image's size for each detection, 255 in its mask and 0 elsewhere; and
    ``instances.png``, 16 bits: at each pixel the number of the best detection whose mask covers it, 0 where none does.
    """
    height, width = image.pixels.shape[:2]
    numbers = np.zeros((height, width), np.uint16)

    def each() -> Iterable[tuple[Found, npt.NDArray[np.uint8]]]:
        for one in found:
            whole = np.zeros((height, width), np.uint8)
            if window := one.window():
                place = _place(window.top, window.left, window.mask.shape)
                whole[place][window.mask] = 255
                numbers[place][window.mask & (numbers[place] == 0)] = one.number
            yield one, whole

    own = _write_each(folder / image.stem, each())
    return [*own, write_png(folder / image.stem / "instances.png", numbers)]


def write_cutouts(folder: Path, image: Shown, found: Sequence[Found]) -> list[Path]:
    """In a folder STEM an RGBA PNG for each detection: the smallest part of the image that holds its mask, transparent
    and black outside.  An empty mask has none.
    """

    def cut(one: Found) -> npt.NDArray[np.uint8] | None:
        window = one.window()
        if window is None:
            return None
        rgb = image.pixels[_place(window.top, window.left, window.mask.shape)]
        return np.dstack((rgb * window.mask[..., None], window.mask * np.uint8(255)))

    return _write_each(folder / image.stem, ((one, part) for one in found if (part := cut(one)) is not None))


def write_crops(folder: Path, image: Shown, found: Sequence[Found]) -> list[Path]:
    """In a folder STEM an RGB PNG for each detection: the pixels that its box touches.  A box outside has none."""

    def crop(one: Found) -> Pixels:
        return image.pixels[one.place(image.pixels.shape[:2])]

    return _write_each(folder / image.stem, ((one, part) for one in found if (part := crop(one)).size))


def _place(top: int, left: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    return slice(top, top + shape[0]), slice(left, left + shape[1])


def _write_each(folder: Path, parts: Iterable[tuple[Found, npt.NDArray[np.uint8]]]) -> list[Path]:
    """A file for each detection, alone in the folder: those of an earlier run are replaced or removed."""
    made(folder)
    written = [write_png(folder / f"{one.stem}.png", pixels) for one, pixels in parts]
    try:
        for old in set(folder.iterdir()) - set(written):
            if _OF_ONE.fullmatch(old.name):
                old.unlink(missing_ok=True)
    except OSError as error:
        raise UnwritableOutput(f"{folder} cannot be cleared of older results: {error.strerror or error}") from error
    return written
