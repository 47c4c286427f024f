"""What the arguments of ``cascadezoo predict`` stand for: images wherever they are, videos and cameras."""

import glob
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from cascadezoo.cli.inputs import VIDEOS, Inputs, find_images, leave_out, why_left_out
from cascadezoo.errors import CascadezooError, MissingResource, UnreadableImage, UsageError
from cascadezoo.hub.images import fetch_image
from cascadezoo.hub.redaction import redacted
from cascadezoo.images import Pixels, decode, read_image
from cascadezoo.paths import expanded

_LIST = ".txt"
_WILD = frozenset("*?[")
_WEB = re.compile("https?://", re.IGNORECASE)
_CAMERA = re.compile(r"camera:(\d{1,4})", re.ASCII)
_UNFIT = re.compile(r"[^\w.-]+")
_LONGEST = 80  # characters of a name made of an address


class Still(NamedTuple):
    """An image.

    Attributes:
        name: as it was given, an address without its secrets.
        stem: what files of its own may be named by.
        path: its file, if it has one.
        url: its address, if it has one.
        pixels: itself, if it has been read.
    """

    name: str
    stem: str
    path: Path | None = None
    url: str | None = None
    pixels: Pixels | None = None

    def fetched(self) -> "Still | bytes":
        """What ``read`` takes: itself, or the bytes at its address.  Raises what ``fetch_image`` does."""
        return self if self.url is None else fetch_image(self.url)

    def read(self, fetched: "Still | bytes") -> Pixels:
        """Its pixels.  Raises MissingResource and UnreadableImage."""
        if isinstance(fetched, bytes):
            return decode(self.name, fetched)
        return self.pixels if self.pixels is not None else read_image(self.path or self.name)


class Moving(NamedTuple):
    """A video or a camera: its name as it was given, what files of its own may be named by, and its file or number."""

    name: str
    stem: str
    source: Path | int


@dataclass
class Sources(Inputs):
    """As ``Inputs``, with none in ``paths``.

    Attributes:
        stills: the images in the order given, each once.
        moving: the videos and cameras likewise.
    """

    stills: list[Still] = field(default_factory=list)
    moving: list[Moving] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.stills or self.moving)


def find_sources(given: Iterable[str], recursive: bool = False) -> Sources:
    """What arguments stand for, in this order of meaning:

    - ``-``: an image on stdin, read here;
    - ``camera:N``: the camera of this number;
    - an address of http or https: an image, fetched when its turn comes;
    - a file that ends in .txt: a list with one of these on each line;
    - a file whose name is that of a video: the video;
    - a file or folder, as ``find_images`` takes it;
    - a path with wildcards (``**`` for any folders): the images and videos that fit.
    """
    sources = Sources()
    for text in given:
        _add(text, sources, recursive, is_listed=False)
    sources.stills = list({still.url or still.name: still for still in sources.stills}.values())
    sources.moving = list(dict.fromkeys(sources.moving))
    return sources


def _add(text: str, sources: Sources, recursive: bool, is_listed: bool) -> None:
    try:
        _find(text, sources, recursive, is_listed)
    except CascadezooError as error:
        sources.failed.append((redacted(text) if _WEB.match(text) else text, error))


def _find(text: str, sources: Sources, recursive: bool, is_listed: bool) -> None:
    path = expanded(text)
    if text == "-":
        sources.stills.append(Still("-", "stdin", pixels=_of_stdin()))
    elif camera := _CAMERA.fullmatch(text):
        sources.moving.append(Moving(text, f"camera-{camera[1]}", int(camera[1])))
    elif _WEB.match(text):
        sources.stills.append(Still(redacted(text), _stem_of(text), url=text))
    elif text and _WILD & set(text) and not os.path.exists(path):
        _add_fitting(text, path, sources)
    elif os.path.isfile(path) and path.suffix.lower() == _LIST and not is_listed:
        _add_listed(path, sources, recursive)
    elif os.path.isfile(path):
        _add_file(path, sources)
    else:
        found = find_images([text], recursive)
        sources.left_out += found.left_out
        sources.failed += found.failed
        sources.notes += found.notes
        for each in found.paths:
            _add_file(each, sources)


def _add_file(path: Path, sources: Sources) -> None:
    if path.suffix.lower() in VIDEOS:
        sources.moving.append(Moving(str(path), path.stem, path))
    else:
        sources.stills.append(Still(str(path), path.stem, path))


def _add_fitting(pattern: str, path: Path, sources: Sources) -> None:
    files = [Path(each) for each in sorted(glob.glob(str(path), recursive=True)) if not os.path.isdir(each)]
    reasons = {str(each): reason for each in files if (reason := why_left_out(each, False)) in ("no image", "hidden")}
    leave_out(pattern, reasons, sources)
    fitting = [each for each in files if str(each) not in reasons]
    if not fitting:
        raise MissingResource(f"no {'image' if files else 'file'} fits {pattern}")
    for each in fitting:
        _add_file(each, sources)


def _add_listed(path: Path, sources: Sources, recursive: bool) -> None:
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise UnreadableImage(f"the list {path} cannot be read: {error.strerror or error}") from error
    named = list(filter(None, map(str.strip, lines)))
    if not named:
        raise MissingResource(f"the list {path} names no image")
    for line in named:
        _add(line, sources, recursive, is_listed=True)


def _of_stdin() -> Pixels:
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None or sys.stdin.isatty():
        raise UsageError("- is an image on stdin, and nothing is piped in there: give `< photo.jpg`, or a path")
    return read_image(stream)


def _stem_of(url: str) -> str:
    """The name of the file at an address, as far as it is fit for a file's name here."""
    try:
        name = PurePosixPath(unquote(urlsplit(url).path)).stem
    except ValueError:  # the first bracket of an IPv6 address without the last
        name = ""
    return _UNFIT.sub("_", name).strip("._")[:_LONGEST] or "image"


def stems_of(given: Sequence[tuple[str, Path | None]], folder: Path, suffix: str) -> list[str]:
    """What the files of each of some inputs are named by, of its stem and its own file: the stem, numbered where two
    share one, and never such that the result, which ends in ``suffix``, would replace what was given."""
    taken = {os.path.realpath(path).casefold() for _, path in given if path is not None}
    stems = []
    for wanted, _ in given:
        stem, copy = wanted, 1
        while (target := os.path.realpath(folder / f"{stem}{suffix}").casefold()) in taken:
            copy += 1
            stem = f"{wanted}-{copy}"
        taken.add(target)
        stems.append(stem)
    return stems
