"""What a publisher has to say about its checkpoints: one ``Converter`` record each, in ``converters.CONVERTERS``."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from torch import Tensor

from cascadezoo.converters.keymap import KeyMap
from cascadezoo.manifest import ZooEntry
from cascadezoo.spec.model import ModelSpec, ResNetSpec


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a checkpoint's metadata tells, read as text: its backbone, and names of its configuration."""

    backbone: ResNetSpec | None = None
    stems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a publisher's file may tell about its tensors; ``classes`` are names by label."""

    entry: ZooEntry
    spec: ModelSpec
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Converter:
    """``key_map``: an architecture's map.  ``refusal``: from tensor keys and metadata, why a file is not one of this
    publisher, or not of a version that computes the same; None when it is.  ``describe``: its metadata.
    ``confused``: from the architecture asked for and the one that fits, how such a file is commonly come by, if it
    is.  ``write``: a state dict in the publisher's own file format, whose names end with ``suffix``; the same bytes
    for the same tensors."""

    publisher: str
    key_map: Callable[[str], KeyMap]
    refusal: Callable[[Collection[str], object], str | None]
    describe: Callable[[object], Description]
    suffix: str
    write: Callable[[BinaryIO, Mapping[str, Tensor], Model], None]
    confused: Callable[[str, str], str | None] = lambda wanted, found: None
