"""Reading an image of any accepted kind into one form: uint8 (H, W, 3) RGB.

Files are decoded by OpenCV, as the publishers do it: transparency is dropped and grey is repeated, and JPEG pixels come
out equal to theirs.  The EXIF orientation is applied here, since OpenCV's versions apply it to different formats.
"""

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from cascadezoo.errors import MissingResource, UnreadableImage
from cascadezoo.image_files import orientation_of, require_whole

if TYPE_CHECKING:
    import torch

Pixels: TypeAlias = npt.NDArray[np.uint8]
ImageInput: TypeAlias = "str | os.PathLike[str] | Image.Image | npt.NDArray[Any] | torch.Tensor"

_OVERSHOOT = 0.100001  # a tenth, of a float tensor beyond 0..1: what a bicubic resize leaves at edges is cut off
_EXPECTED = "give a path, a PIL image, a uint8 (H, W, 3) RGB array, or a (3, H, W) tensor of uint8 or of 0..1"


def read_image(image: ImageInput) -> Pixels:
    """An image as a contiguous uint8 (H, W, 3) RGB array.

    ``image``: a path; a PIL image (EXIF orientation applied); a uint8 (H, W, 3) RGB array, returned as it is when
    contiguous; a (3, H, W) RGB tensor on any device, uint8 or floating point in 0..1, which is rounded to 255
    levels; values up to 0.1 outside, as a bicubic resize leaves them, are clamped.

    Raises ``MissingResource`` when the file does not exist and ``UnreadableImage`` for anything else that is no
    image: a file that cannot be decoded, is cut short or has too many pixels (``image_files``), wrong shapes,
    types or value ranges.
    """
    if isinstance(image, str | os.PathLike):
        return _from_path(Path(image))
    if isinstance(image, Image.Image):
        return _from_pil(image)
    if isinstance(image, np.ndarray):
        return _from_array(image)
    torch = sys.modules.get("torch")  # a tensor cannot be given before torch is imported
    if torch is not None and isinstance(image, torch.Tensor):
        return _from_tensor(image)
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


def _from_path(path: Path) -> Pixels:
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise UnreadableImage(f"{path} is a pipe or a device: give the path of a regular file")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingResource(f"no such image: {path}") from error
    except IsADirectoryError as error:
        raise UnreadableImage(f"{path} is a folder; give the path of an image") from error
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not data:
        raise UnreadableImage(f"{path} is an empty file, not an image")
    require_whole(path, data)
    turned = orientation_of(path, data)
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise UnreadableImage(f"{path} cannot be decoded: {str(error).strip()}") from error
    if bgr is None:
        raise UnreadableImage(f"{path} is no image that OpenCV can decode: damaged, cut short or of another kind")
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(_UPRIGHT[turned](rgb), dtype=np.uint8)


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


def _from_pil(image: Image.Image) -> Pixels:
    _refuse_empty((image.height, image.width), "PIL image")
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "I" or upright.mode.startswith("I;16"):
            return _from_grey16(np.asarray(upright))
        if upright.mode == "F":
            raise UnreadableImage("a PIL image of mode F has no fixed range of values; convert it to RGB first")
        return np.array(upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"the PIL image {image!r} cannot be decoded: {error}") from error


def _from_grey16(grey: npt.NDArray[Any]) -> Pixels:
    """16-bit grey levels by their upper byte, as OpenCV reads such files; PIL would clip them at 255."""
    if grey.min() < 0 or grey.max() > 0xFFFF:
        raise UnreadableImage(f"a PIL image with grey levels {grey.min()}..{grey.max()}; convert it to RGB first")
    return np.repeat((grey.astype(np.uint16) >> 8).astype(np.uint8)[..., None], 3, axis=2)


def _from_array(image: npt.NDArray[Any]) -> Pixels:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UnreadableImage(f"a {image.dtype} array of shape {image.shape} is no image; {_EXPECTED}")
    _refuse_empty(image.shape[:2], "array")
    return np.ascontiguousarray(image)


def _from_tensor(image: "torch.Tensor") -> Pixels:
    import torch

    shape = tuple(image.shape)
    if len(shape) != 3 or shape[0] != 3 or not (image.dtype == torch.uint8 or image.is_floating_point()):
        raise UnreadableImage(f"a {image.dtype} tensor of shape {shape} is no image; {_EXPECTED}")
    _refuse_empty(shape[1:], "tensor")
    image = image.detach().cpu()
    if image.dtype != torch.uint8:
        levels = image.float()
        low, high = levels.min().item(), levels.max().item()
        if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):  # also when either is NaN
            raise UnreadableImage(
                f"a {image.dtype} tensor with values {low:.6g}..{high:.6g}; scale it to 0..1, or use uint8"
            )
        image = (levels.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def _refuse_empty(size: Sequence[int], kind: str) -> None:
    if 0 in size:
        raise UnreadableImage(f"a {kind} of {size[0]}x{size[1]} pixels (height x width) holds no image")
