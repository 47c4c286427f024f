"""Which images the arguments of ``predict --engine ray`` stand for: more kinds than files and folders."""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from cascadezoo.batch.sources import Piece, entries, is_uri, require_usable, table_pieces
from cascadezoo.cli.inputs import Inputs, find_images, leave_out, why_left_out
from cascadezoo.errors import CascadezooError, MissingResource, UnreadableImage
from cascadezoo.paths import expanded

_TABLE, _LIST = ".parquet", ".txt"
_WILD = frozenset("*?[")


@dataclass
class BatchInputs(Inputs):
    """As ``Inputs``, with all images in ``pieces`` and none in ``paths``.

    Attributes:
        pieces: the images in the order given, each file once.
    """

    pieces: list[Piece] = field(default_factory=list)


def find_batch(given: Iterable[str], column: str | None) -> BatchInputs:
    """The images that arguments stand for, in this order of meaning:

    - the URI of an object, of a folder, whose images are taken, or one whose last part has wildcards;
    - the path of a file or folder, as ``find_images`` takes it;
    - a path with wildcards (``**`` for any folders): the files that fit.

    A file that ends in .parquet is a table with a column of paths, of URIs or of encoded images, and a folder whose
    name ends so is a folder of them; a file that ends in .txt has a path or URI on each line.

    Raises UsageError for a column that is not there.
    """
    inputs = BatchInputs()
    for text in given:
        try:
            for address in _addresses(text, inputs):
                inputs.pieces += _pieces(address, column, inputs)
        except (MissingResource, UnreadableImage) as error:
            inputs.failed.append((text, error))
    inputs.pieces = list(dict.fromkeys(inputs.pieces))
    return inputs


def _addresses(text: str, inputs: Inputs) -> Iterator[str]:
    """Files and objects, unopened."""
    if is_uri(text):
        require_usable(text)
        yield from _behind(text, inputs)
    elif os.path.exists(path := expanded(text)) or not _WILD & set(text):
        if path.suffix.lower() == _TABLE and path.is_dir():
            yield from _required(map(str, sorted(path.glob(f"*{_TABLE}"))), f"no Parquet files in the folder {path}")
            return
        found = find_images([text])
        inputs.left_out += found.left_out
        inputs.failed += found.failed
        inputs.notes += found.notes
        yield from map(str, found.paths)
    else:
        files = (each for each in sorted(glob.glob(str(path), recursive=True)) if not os.path.isdir(each))
        yield from _required(files, f"no file fits {text}")


def _behind(uri: str, inputs: Inputs) -> Iterator[str]:
    folder, _, pattern = uri.rpartition("/")
    if _WILD & set(pattern):
        found = entries(folder) or []
        fitting = (each.address for each in found if not each.is_folder and fnmatchcase(each.name, pattern))
        yield from _required(fitting, f"no object fits {uri}")
        return
    inside = entries(uri)
    if inside is None:
        yield uri
        return
    if uri.rstrip("/").lower().endswith(_TABLE):
        tables = (each.address for each in inside if each.name.lower().endswith(_TABLE))
        yield from _required(tables, f"no Parquet files in the folder {uri}")
        return
    reasons = {each.address: reason for each in inside if (reason := why_left_out(Path(each.name), each.is_folder))}
    leave_out(uri, reasons, inputs)
    images = (each.address for each in inside if each.address not in reasons)
    yield from _required(images, f"no images in the folder {uri}")


def _pieces(address: str, column: str | None, inputs: Inputs) -> list[Piece]:
    name = address.partition("?")[0].lower() if is_uri(address) else address.lower()
    if name.endswith(_TABLE):
        return table_pieces(address, column)
    if not name.endswith(_LIST) or is_uri(address):
        return [address]
    lines = [line.strip() for line in Path(address).read_text(errors="surrogateescape").splitlines()]
    named: list[Piece] = []
    for line in filter(None, lines):
        try:
            if is_uri(line):
                require_usable(line)
            named.append(line if is_uri(line) else str(expanded(line)))
        except CascadezooError as error:
            inputs.failed.append((line, error))
    return named


def _required(found: Iterable[str], otherwise: str) -> Iterator[str]:
    empty = True
    for each in found:
        empty = False
        yield each
    if empty:
        raise MissingResource(otherwise)
