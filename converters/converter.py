"""What a publisher's checkpoints look like: one ``Converter`` record for each, in ``converters.CONVERTERS``."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from cascadezoo.converters.keymap import KeyMap
from cascadezoo.manifest import ZooEntry
from cascadezoo.spec.model import ModelSpec, ResNetSpec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a checkpoint's metadata states: its backbone, and the ``stems`` of its configuration's file names."""

    backbone: ResNetSpec | None = None
    stems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Model:
    """The model that is written into a publisher's file beside its tensors; ``classes`` are names by label."""

    entry: ZooEntry
    spec: ModelSpec
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Converter:
    """How the checkpoints of one publisher are recognised, read and written.

    Attributes:
        publisher: its name in the manifest.
        key_map: gives the key map of an architecture.
        refusal: gives the reason why a file with these tensor keys and this metadata is not the publisher's, or comes
            from a version of its code that computes something else; None where the file is accepted.
        describe: gives what a checkpoint's metadata states.
        suffix: the ending of the publisher's file names, such as ".pth".
        write: writes a state dict in the publisher's own format; the same tensors always give the same bytes.
        confused: given the architecture that was asked for and the one that the tensors fit, names the file that
            people commonly take for it by mistake; None where no such mistake is known.
    """

    publisher: str
    key_map: Callable[[str], KeyMap]
    refusal: Callable[[Collection[str], object], str | None]
    describe: Callable[[object], Description]
    suffix: str
    write: "Callable[[BinaryIO, Mapping[str, Tensor], Model], None]"
    confused: Callable[[str, str], str | None] = lambda wanted, found: None
