"""What the bytes of an image file say before they are decoded: format, size and orientation, and whether it is whole.

Decoders take memory for the size that a header claims, and some versions of OpenCV fill what is missing of a JPEG with
grey without a word.
"""

import io
import os
import re
import warnings
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from PIL import Image

from cascadezoo.errors import MissingResource, OutOfMemory, TooManyPixels, UnreadableImage

MOST_PIXELS = 2**27  # 134 million, 400 MB decoded
LONGEST_SIDE = 1_000_000  # in pixels: libpng reads none that are longer
LONGEST_SIDE_OF_JPEG = 65_500  # libjpeg reads and writes none that are longer

_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112  # EXIF's tag
_TURNED_BY_OPENCV = frozenset({"TIFF"})  # whatever it is asked
_ADDRESS = re.compile("[A-Za-z][A-Za-z0-9+.-]+:/|data:")  # two letters at least: one is a drive
_LONGEST = 120  # characters shown of an address: some hold all of an image
# a marker that ends the data of a JPEG scan: not a stuffed zero, a restart or a fill byte
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # JPEG markers without a length


def most_pixels() -> int:
    """The pixels that an image may have: 2**27, or ``$CASCADEZOO_MAX_IMAGE_PIXELS``."""
    own = os.environ.get("CASCADEZOO_MAX_IMAGE_PIXELS", "")
    return int(own) if own.isdecimal() else MOST_PIXELS


def most_bytes() -> int:
    """The bytes that a file may have: those of ``most_pixels()`` of four 16-bit levels, and 16 MiB of anything else."""
    return 8 * most_pixels() + 2**24


def not_there(given: str | os.PathLike[str]) -> MissingResource:
    """The error for a path where nothing is; an address on the network is named as such, as it was typed."""
    text = os.fspath(given)
    is_address = _ADDRESS.match(text)
    if is_address and isinstance(given, os.PathLike):
        text = re.sub("^([^/]+:)/(?!/)", r"\1//", text)  # a Path has no two slashes in a row
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    if is_address and text.lower().startswith(("http://", "https://")):
        return MissingResource(
            f"{shown} is a URL, not a file: give the bytes that cascadezoo.fetch_image fetches from it, or the path of "
            "a file"
        )
    if is_address:
        return MissingResource(f"{shown} is a URL, not a file: download it first, and give the path of the file")
    return MissingResource(f"no such image: {shown}")


class Header(NamedTuple):
    """Pillow's names of the format and the mode, the EXIF orientation, 1 to 8, that is left to be applied, and the
    width and height before it is."""

    format: str
    mode: str
    orientation: int
    width: int
    height: int


def read_header(what: str, data: bytes | BinaryIO, most: int | None = None) -> Header:
    """The header of an image that it says is small enough to decode; ``what`` is how a message calls the image.

    ``data``: the file's bytes, or the file, of which only the header is read.  ``most``: the pixels that it may have,
    at most ``most_pixels()``, which None means.

    Raises TooManyPixels, also for a side that is too long, UnreadableImage for a header that Pillow does not know, and
    OutOfMemory.
    """
    limit = most_pixels() if most is None else most
    if limit > MOST_PIXELS:
        Image.MAX_IMAGE_PIXELS = None  # whoever lifts our limit means Pillow's too
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as header:
                (width, height), kind = header.size, header.format or ""
                _refuse_large(what, kind, width, height, most)
                # of a PNG this decodes all of it: EXIF may come last, and libpng would tell of damage on stderr
                turned = 1 if kind in _TURNED_BY_OPENCV else header.getexif().get(_ORIENTATION, 1)
                return Header(kind, header.mode, turned if turned in range(1, 9) else 1, width, height)
    except Image.DecompressionBombError as error:
        raise TooManyPixels(_too_large(what, "far too many", most)) from error
    except MemoryError as error:
        raise no_room_for(what) from error
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError, TypeError, OverflowError) as error:
        raise UnreadableImage(f"{what} is no image that can be decoded: damaged or of another kind") from error


def require_whole(what: str, data: bytes) -> None:
    """Raise UnreadableImage for a JPEG, PNG, WebP or GIF file that lacks its end; what follows the end is ignored."""
    for start, is_whole in _WHOLE.items():
        if data.startswith(start) and not is_whole(data):
            raise UnreadableImage(f"{what} is an image that is damaged or cut short: get it again")


def no_room_for(what: str) -> OutOfMemory:
    """The error for an image that the machine has no memory to decode."""
    return OutOfMemory(f"this machine has too little memory now to decode {what}: free some, or shrink the image")


def _refuse_large(what: str, kind: str, width: int, height: int, most: int | None) -> None:
    if width * height > (most_pixels() if most is None else most):
        raise TooManyPixels(_too_large(what, f"{width} x {height}", most))
    longest = LONGEST_SIDE_OF_JPEG if kind == "JPEG" else LONGEST_SIDE
    if max(width, height) > longest:
        raise TooManyPixels(
            f"{what} claims {width} x {height} pixels, and no {kind} image with a side of more than {longest:,} is "
            "read: cut it into parts"
        )


def _too_large(what: str, pixels: str, most: int | None) -> str:
    advice = ", or set CASCADEZOO_MAX_IMAGE_PIXELS if you trust it" if most is None else ""
    limit = most_pixels() if most is None else most
    return f"{what} claims {pixels} pixels, more than the {limit:,} allowed: shrink it{advice}"


def without_profile(data: bytes) -> bytes:
    """A PNG file without its colour profile, which OpenCV does not apply: where one is malformed, libpng writes the
    name that the file gives it to the terminal as it is."""
    kept, copied = bytearray(), 0
    for kind, start, end in _png_chunks(data):
        if kind == b"iCCP":
            kept += data[copied:start]
            copied = end
    return bytes(kept + data[copied:]) if copied else data


def _is_whole_png(data: bytes) -> bool:
    """Whether the chunks lie inside the file and reach its end chunk.

    OpenCV takes memory for the length that a chunk claims, up to 4 GiB, before it reads the chunk.
    """
    return any(kind == b"IEND" and end <= len(data) for kind, _, end in _png_chunks(data))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The chunks up to the end chunk or the file's: the kind, where it begins, and where it says that it ends."""
    start, kind = len(_PNG), b""
    while start + 8 <= len(data) and kind != b"IEND":
        length, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        end = start + 12 + length  # with the length itself, the kind and the checksum
        yield kind, start, end
        start = end


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether the segments lie inside the file and reach its end marker; a thumbnail's own lies inside a segment."""
    at = 2
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = found[1][0], found.end()
        if marker == 0xD9:
            return True
        if marker not in _ALONE:
            at += int.from_bytes(data[at : at + 2], "big")
    return False


def _is_whole_webp(data: bytes) -> bool:
    return data[8:12] != b"WEBP" or len(data) >= 8 + int.from_bytes(data[4:8], "little")


def _is_whole_gif(data: bytes) -> bool:
    return b"\x3b" in data[-64:]


_WHOLE: dict[bytes, Callable[[bytes], bool]] = {
    b"\xff\xd8\xff": _is_whole_jpeg,
    _PNG: _is_whole_png,
    b"RIFF": _is_whole_webp,
    b"GIF8": _is_whole_gif,
}
