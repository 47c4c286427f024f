"""What a publisher has to say about its checkpoints: one ``Converter`` record each, in ``converters.CONVERTERS``."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from cascadezoo.converters.keymap import KeyMap
from cascadezoo.spec import ResNetSpec


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a checkpoint's metadata tells, read as text: its backbone, and names of its configuration."""

    backbone: ResNetSpec | None = None
    stems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Converter:
    """``key_map``: an architecture's map.  ``refusal``: from tensor keys and metadata, why a file is not one of this
    publisher, or not of a version that computes the same; None when it is.  ``describe``: its metadata."""

    publisher: str
    key_map: Callable[[str], KeyMap]
    refusal: Callable[[Collection[str], object], str | None]
    describe: Callable[[object], Description]
