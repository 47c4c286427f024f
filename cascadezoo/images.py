"""Reading an image of any accepted kind into one form: uint8 (H, W, 3) RGB.

Files are decoded by OpenCV, as the publishers do it: transparency is dropped and grey is repeated, and JPEG pixels come
out equal to theirs.  The EXIF orientation is applied here, since OpenCV's versions apply it to different formats; three
formats are Pillow's, since OpenCV's versions read AVIF and GIF differently or not at all, and none minds the range that
a PGM or PPM states.
"""

import errno
import io
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from cascadezoo.errors import UnreadableImage
from cascadezoo.image_files import (
    Header,
    most_bytes,
    no_room_for,
    not_there,
    read_header,
    require_whole,
    without_profile,
)
from cascadezoo.levels import Pixels as Pixels  # for the rooms that read images
from cascadezoo.levels import rgb
from cascadezoo.paths import expanded

if TYPE_CHECKING:
    import torch

ImageInput: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | npt.NDArray[Any] | "
    "torch.Tensor"
)

_EXPECTED = (
    "give a path, a file's bytes, a file opened with 'rb', a PIL image, or an (H, W, 3) or (H, W) array or a (3, H, W) "
    "tensor of uint8, uint16, bool or floats in 0..1"
)
_PIECE = 2**24  # bytes read at a time from a file object, which may have no end
_NO_MEMORY = -4  # OpenCV's StsNoMem
_BYTES = 16  # that a decoder may take for a pixel
_BY_PILLOW = frozenset({"AVIF", "GIF", "PPM"})
_OF_ANY_DEPTH = frozenset({"PNG", "TIFF"})  # the others state how many bits their levels have: decoders scale them
_SCALED_TO_16_BITS = frozenset({"PNG", "PPM"})  # by Pillow, whatever mode it opens them in


def read_image(image: ImageInput) -> Pixels:
    """An image as a contiguous uint8 (H, W, 3) RGB array.

    ``image``:

    - a path (``~`` is expanded), the bytes of an image file, or a file opened in binary mode, read from its start:
      EXIF orientation applied;
    - a PIL image: EXIF orientation applied; any mode but I, F and LAB, which say nothing of their range or their white;
    - an array (H, W, 3) RGB, (H, W) or (H, W, 1) grey, (H, W, 4) RGBA: uint8, uint16, bool, or floats in 0..1;
    - a tensor (3, H, W), (H, W), (1, H, W) or (4, H, W) of the same types, on any device.

    A uint8 (H, W, 3) array is returned as it is when contiguous.  What becomes of other types and channels, whichever
    way they come in, ``levels.rgb`` says: of 16 bits the upper 8 are kept, transparency is dropped.

    Raises ``MissingResource`` when the file does not exist, ``OutOfMemory`` when there is no room to decode it, and
    ``UnreadableImage`` for anything else that is no image: a file that cannot be decoded, is cut short or has too many
    pixels (``image_files``), wrong shapes, types or value ranges.
    """
    if isinstance(image, str | os.PathLike):
        return decode(str(image), _content_of_path(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return decode(f"the {type(image).__name__} object given", bytes(image))
    if isinstance(image, Image.Image):
        return _from_pil(image, f"the PIL image of mode {image.mode}")
    if isinstance(image, np.ndarray):
        return rgb(image, f"a {image.dtype} array of shape {image.shape}", _EXPECTED)
    torch = sys.modules.get("torch")  # a tensor cannot be given before torch is imported
    if torch is not None and isinstance(image, torch.Tensor):
        return _from_tensor(image)
    if hasattr(image, "read"):
        name = getattr(image, "name", None)
        what = f"the open file {name}" if isinstance(name, str) else f"the {type(image).__name__} object given"
        return decode(what, _content_of_file(cast("IO[bytes]", image), what))
    raise UnreadableImage(f"a {type(image).__name__} is no image; {_EXPECTED}")


@contextmanager
def opencv_on_one_thread() -> Iterator[None]:
    """OpenCV without threads of its own, for the time in which worker processes are forked: a child has none of its
    parent's threads, and would wait for them for ever when it ends the pool or uses it."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _content_of_path(given: str | os.PathLike[str]) -> bytes:
    path = expanded(given)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not path.is_dir():
            raise UnreadableImage(f"{path} is a pipe or a device: give the path of a regular file")
        _refuse_more_than(most_bytes(), status.st_size, str(path))
        return path.read_bytes()
    except IsADirectoryError as error:
        raise UnreadableImage(f"{path} is a folder; give the path of an image") from error
    except MemoryError as error:
        raise no_room_for(str(path)) from error
    except (OSError, ValueError) as error:
        absent = getattr(error, "errno", None) in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
        raise (not_there(given) if absent else _why(path, error)) from error


def _content_of_file(file: IO[bytes], what: str) -> bytes:
    """All bytes from the start, or from where it stands if that is all it can do."""
    limit, content = most_bytes(), bytearray()
    try:
        if getattr(file, "seekable", bool)():
            file.seek(0)
        while len(content) <= limit and (piece := file.read(_PIECE)):
            content += piece
    except (UnicodeDecodeError, TypeError) as error:
        raise UnreadableImage(
            f"{what} gives text, not bytes: open it in binary mode, as in open(path, 'rb')"
        ) from error
    except (OSError, ValueError) as error:
        raise _why(what, error) from error
    except MemoryError as error:
        raise no_room_for(what) from error
    _refuse_more_than(limit, len(content), what)
    return bytes(content)


def _why(what: object, error: OSError | ValueError) -> UnreadableImage:
    return UnreadableImage(f"{what} cannot be read: {getattr(error, 'strerror', None) or error}")


def _refuse_more_than(limit: int, size: int, what: str) -> None:
    if size > limit:
        raise UnreadableImage(
            f"{what} has more than {limit:,} bytes, which no image of the pixels allowed needs: shrink it, or set "
            "CASCADEZOO_MAX_IMAGE_PIXELS if you trust it"
        )


def decode(what: str, data: bytes, most: int | None = None) -> Pixels:
    """The bytes of an image file as ``read_image`` reads them, with its errors; ``what``: their name in these.

    ``most``: the pixels that it may have, as ``image_files.read_header`` takes them.
    """
    if not data:
        raise UnreadableImage(f"{what} is empty, an empty file is not an image")
    require_whole(what, data)
    header = read_header(what, data, most)
    try:
        return _decoded(what, data, header)
    except (MemoryError, cv2.error, UnreadableImage) as error:
        if not lacks_memory(error) and _is_room_for(header):
            raise
        raise no_room_for(what) from error


def lacks_memory(error: BaseException) -> bool:
    """Whether Python, NumPy, Pillow or OpenCV says so that the machine had no room for something."""
    return isinstance(error, MemoryError) or (isinstance(error, cv2.error) and error.code == _NO_MEMORY)


def _is_room_for(header: Header) -> bool:
    """Some decoders call an image damaged where they had no room for it: whether that may have been."""
    try:
        np.empty((header.height, header.width, _BYTES), np.uint8)  # is not touched, and so takes none
    except MemoryError:
        return False
    return True


def _decoded(what: str, data: bytes, header: Header) -> Pixels:
    if header.format in _BY_PILLOW:
        return _by_pillow(what, data)
    _refuse_without_range(header.mode, what)
    pixels = _by_opencv(what, data, header)
    if (header.format, header.mode) == ("TIFF", "RGBA") and pixels.dtype == np.uint8:
        # OpenCV has multiplied them with their transparency
        return _by_pillow(what, data)
    return rgb(_UPRIGHT[header.orientation](pixels), what, "save it as PNG or JPEG of 8 bits")


def _by_pillow(what: str, data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return _from_pil(image, what)


def _by_opencv(what: str, data: bytes, header: Header) -> npt.NDArray[Any]:
    """(H, W, 3) RGB of 8 or 16 bits, not turned."""
    depth = cv2.IMREAD_ANYDEPTH if header.format in _OF_ANY_DEPTH else 0
    data = without_profile(data) if header.format == "PNG" else data
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION | depth)
    except cv2.error as error:
        if lacks_memory(error):
            raise
        raise UnreadableImage(f"{what} cannot be decoded: {str(error).strip()}") from error
    if bgr is None:
        raise UnreadableImage(f"{what} is no image that OpenCV can decode: damaged, cut short or of another kind")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


# EXIF orientation -> what sets an (H, W, 3) image upright
_UPRIGHT: dict[int, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}


def _from_pil(image: Image.Image, what: str) -> Pixels:
    sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SCALED_TO_16_BITS)
    if not sixteen_bits:
        _refuse_without_range(image.mode, what)
    try:
        upright = ImageOps.exif_transpose(image)
        if sixteen_bits:
            values = np.asarray(upright).astype(np.uint16)
        else:
            values = np.array((upright.convert("LA") if upright.mode == "La" else upright).convert("RGB"))
    except (AssertionError, AttributeError) as error:  # what Pillow says when it has no file any more
        raise UnreadableImage(f"{what} was closed before it was read: read it inside its with block") from error
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"{what} cannot be decoded: {error}") from error
    return rgb(values, what, _EXPECTED)


_NO_RANGE = (
    "levels, which have no fixed range: scale it to 0..255 and convert it to 8 bits first, as in "
    "Image.fromarray((levels * (255 / levels.max())).astype('uint8')) with levels = numpy.asarray(image)"
)
_REFUSED = {
    "I": f"32-bit {_NO_RANGE}",
    "F": f"floating-point {_NO_RANGE}",
    "LAB": "Lab colours: convert it to sRGB first, as with PIL.ImageCms",
}


def _refuse_without_range(mode: str, what: str) -> None:
    if mode in _REFUSED:
        raise UnreadableImage(f"{what} has {_REFUSED[mode]}")


def _from_tensor(image: "torch.Tensor") -> Pixels:
    import torch

    shape = tuple(image.shape)
    what = f"a {image.dtype} tensor of shape {shape}"
    # (1 or 4, W, 3) is more likely channels last than three pixels wide
    channels_last = len(shape) == 3 and shape[0] in (1, 4) and shape[2] == 3
    if channels_last or image.layout != torch.strided or image.is_quantized or image.is_meta:
        raise UnreadableImage(f"{what} is no image; {_EXPECTED}")
    values = image.detach().permute(1, 2, 0) if len(shape) == 3 else image.detach()
    if values.is_floating_point():
        values = values.float()  # NumPy has no bfloat16
    return rgb(values.cpu().numpy(), what, _EXPECTED)
