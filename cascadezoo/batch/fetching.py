"""Columns of a part's images, as they travel from task to task on Ray; without torch, which fetching needs not."""

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from cascadezoo.batch.parts import Part
from cascadezoo.batch.sources import RowGroup, fetched, is_uri
from cascadezoo.errors import CascadezooError, CorruptData

Columns = dict[str, npt.NDArray[Any]]

_THREADS = 16  # which wait for objects


def packed(part: Part) -> bytes:
    """A part as one value of a column."""
    return pickle.dumps(part)


def is_fetched(part: Part) -> bool:
    """Whether its images are no files, which a process that detects reads for itself."""
    return part.group is not None or is_uri(part.names[0])


def fetch(batch: Columns) -> Iterator[Columns]:
    """The images of the ``packed`` parts in the column ``part``, a few at a time.

    Columns: ``part`` (its number), ``image_id``, ``name`` (``name_of`` decodes it), ``error`` and ``error_type`` (why
    it cannot be fetched, or ""), and ``bytes`` of images that are no files.
    """
    for data in batch["part"]:
        part: Part = pickle.loads(data)  # by the process that reads the results
        if not is_fetched(part):
            yield _columns(part, 0, [""] * len(part.names))
        elif part.group is None:
            yield from _objects(part)
        else:
            yield from _rows(part, part.group)


def name_of(value: bytes) -> str:
    """The name in a column: those of files may be no UTF-8, and a column's texts are."""
    return bytes(value).decode(errors="surrogatepass")


def _objects(part: Part) -> Iterator[Columns]:
    with ThreadPoolExecutor(_THREADS) as pool:
        for index, image in enumerate(pool.map(_bytes_of, part.names)):
            yield _columns(part, index, [image])


def _bytes_of(uri: str) -> bytes | CascadezooError:
    try:
        return fetched(uri)
    except CascadezooError as error:
        return error


def _rows(part: Part, group: RowGroup) -> Iterator[Columns]:
    done, count = 0, len(part.names)
    try:
        for images in group.images():
            yield _columns(part, done, [image or b"" for image in images])
            done += len(images)
        if done != count:
            raise CorruptData(f"{group.file} has changed: {done} rows in a group of {count}")
    except CascadezooError as error:
        if done < count:
            yield _columns(part, done, [error] * (count - done))


def _columns(part: Part, first: int, images: list[Any]) -> Columns:
    """``images``: bytes, an error, or "" for a file."""
    count = len(images)
    errors = [each if isinstance(each, CascadezooError) else None for each in images]
    columns = {
        "part": np.full(count, part.number),
        "image_id": np.arange(part.first + first, part.first + first + count),
        "name": _objects_of([name.encode(errors="surrogatepass") for name in part.names[first : first + count]]),
        "error": _objects_of(["" if each is None else str(each) for each in errors]),
        "error_type": _objects_of(["" if each is None else type(each).__name__ for each in errors]),
    }
    if is_fetched(part):
        columns["bytes"] = _objects_of([each if isinstance(each, bytes) else b"" for each in images])
    return columns


def _objects_of(values: list[Any]) -> npt.NDArray[Any]:
    return np.array(values, object)
