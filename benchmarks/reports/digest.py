"""The installed sources as one digest: which code a report was measured with."""

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.resources.abc import Traversable, TraversableResources
from importlib.util import find_spec
from typing import Any

ROOMS = ("cascadezoo", "cascadezoo.converters", "cascadezoo.benchmarks", "cascadezoo.csrc")

_SOURCES = (".py", ".cpp", ".cu", ".h")
_OUTER = ("converters", "benchmarks", "zoo_manifest", "csrc")  # inside the package in a wheel, beside it in a checkout


@cache
def code_digest(of: tuple[str, ...] = ("",), without: tuple[str, ...] = ()) -> str:
    """SHA-256 of the sources that are installed, by name: the same for a checkout and a wheel of it.

    ``of``: only those whose names, such as cascadezoo.modeling.network.py, begin so; ``without``: less those that begin
    so.
    """
    digest = hashlib.sha256()
    for room in ROOMS:
        for name, file in sorted(sources(room)):
            if name.startswith(of) and not name.startswith(without):
                digest.update(f"{name}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def sources(room: str) -> Iterator[tuple[str, Traversable]]:
    """The names and files of the sources of a package, which is not imported: that would take torch along."""
    spec = find_spec(room)
    assert spec is not None  # a room of this package
    loader: Any = spec.loader
    resources: TraversableResources = loader.get_resource_reader(room)
    return _sources(resources.files(), room)


def _sources(folder: Traversable, name: str) -> Iterator[tuple[str, Traversable]]:
    for item in folder.iterdir():
        path = f"{name}.{item.name}"
        if item.is_dir() and not (name == "cascadezoo" and item.name in _OUTER):
            yield from _sources(item, path)
        elif item.name.endswith(_SOURCES):
            yield path, item
