"""Which images the arguments of a command stand for; nothing in a folder is left out without being counted."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cascadezoo.errors import CascadezooError, MissingResource, UnreadableImage
from cascadezoo.image_files import not_there
from cascadezoo.paths import expanded

_SUFFIXES = {
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm",
    ".tif", ".tiff", ".webp",
}  # fmt: skip
VIDEOS = frozenset({
    ".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm", ".wmv",
})  # fmt: skip
"""How files are named that are taken for videos."""

_MOST_NAMED = 5
_SAID = {  # why something in a folder is left out: of one, of several
    "no image": ("file is no image and was left out", "files are no images and were left out"),
    "hidden": ("hidden file was left out", "hidden files were left out"),
    "folder": ("folder inside was not entered", "folders inside were not entered"),
    "video": ("video was left out", "videos were left out"),
}


@dataclass
class Inputs:
    """What the arguments stand for.

    Attributes:
        paths: each image file once, in the order given; those of a folder by name.
        left_out: what else lies in the folders given, and why it is left out: "no image" by the end of its name,
            "hidden", "folder" or "video".
        failed: arguments that stand for nothing, as they were typed.
        notes: one line for each folder and reason that something was left out for.
    """

    paths: list[Path] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, CascadezooError]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_images(given: Iterable[str], recursive: bool = False) -> Inputs:
    """The files given, whatever their names, and the images that lie directly in the folders given, or anywhere in
    them; links to folders are not followed."""
    inputs = Inputs()
    for text in given:
        path = expanded(text)
        if not text or not os.path.exists(path):
            inputs.failed.append((text, not_there(text)))
        elif os.path.isdir(path):
            try:
                _look_into(path, inputs, recursive)
            except (OSError, MissingResource) as error:
                reason = error if isinstance(error, MissingResource) else _unreadable(path, error)
                inputs.failed.append((text, reason))
        else:
            inputs.paths.append(path)
    inputs.paths = list(dict.fromkeys(inputs.paths))
    return inputs


def _look_into(folder: Path, inputs: Inputs, recursive: bool) -> None:
    reasons: dict[str, str] = {}
    images = _images_in(folder, reasons, inputs, recursive)
    inputs.paths += images
    leave_out(str(folder), reasons, inputs)
    if not images:
        raise MissingResource(f"no images in the folder {folder}")


def _images_in(folder: Path, reasons: dict[str, str], inputs: Inputs, recursive: bool) -> list[Path]:
    """The images by name, a folder's own before those of the folders inside; in ``reasons``, why the rest is none."""
    images, inside = [], []
    for path in sorted(folder.iterdir()):
        reason = why_left_out(path, os.path.isdir(path))
        if reason is None:
            images.append(path)
        elif reason == "folder" and recursive and not path.is_symlink():
            inside.append(path)
        else:
            reasons[str(path)] = reason
    for path in inside:
        try:
            images += _images_in(path, reasons, inputs, recursive)
        except OSError as error:
            inputs.failed.append((str(path), _unreadable(path, error)))
    return images


def leave_out(folder: str, reasons: Mapping[str, str], inputs: Inputs) -> None:
    """Count what lies in a folder and is left out: ``reasons`` by its path or address."""
    left: dict[str, list[str]] = defaultdict(list)
    for path, reason in reasons.items():
        left[reason].append(path)
    for reason, paths in left.items():
        inputs.left_out += [(path, reason) for path in paths]
        shown = [path.removeprefix(folder).lstrip("/\\") for path in paths[:_MOST_NAMED]]
        names = ", ".join(shown + ["…"] * (len(paths) > _MOST_NAMED))
        inputs.notes.append(f"{folder}: {len(paths)} {_SAID[reason][len(paths) > 1]}: {names}")


def why_left_out(path: Path, is_folder: bool) -> str | None:
    """Why something in a folder is no image to detect on, by its name; None where it is one."""
    if path.name.startswith("."):
        return "hidden"
    if is_folder:
        return "folder"
    suffix = path.suffix.lower()
    return None if suffix in _SUFFIXES else "video" if suffix in VIDEOS else "no image"


def _unreadable(folder: Path, error: OSError) -> UnreadableImage:
    return UnreadableImage(f"the folder {folder} cannot be read: {error.strerror or error}")
