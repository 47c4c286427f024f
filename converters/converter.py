"""What checkpoints look like: one ``Converter`` record per publisher, in ``converters.CONVERTERS``, and our own
``Layout``."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from cascadezoo.converters.keymap import KeyMap
from cascadezoo.manifest import ZooEntry
from cascadezoo.spec.model import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

_MAX_CLASSES = 100_000  # names


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a checkpoint's metadata states; what they do not is empty or None.

    Attributes:
        backbone: fields of the backbone's spec with their values.
        pixels: "mean" and "std" per channel in RGB, grey levels of 0..255.
        stems: of its configuration's file names.
        classes: names by label, without background.
        unread_classes: whether it has a list of classes that is none of distinct names.
        data_sets: names of the data sets it was trained on.
        num_classes: the number of classes, without background.
    """

    backbone: Mapping[str, object] = field(default_factory=dict)
    pixels: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    stems: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    unread_classes: bool = False
    data_sets: tuple[str, ...] = ()
    num_classes: int | None = None

    @property
    def network(self) -> str:
        """The numbers of the network as a phrase."""
        return ", ".join(_phrase(name, value) for name, value in {**self.backbone, **self.pixels}.items())

    def differences(self, spec: ModelSpec) -> list[str]:
        """Where the metadata contradict a network, as phrases."""
        network = {name: getattr(spec.backbone, name, None) for name in self.backbone}
        network |= {name: getattr(spec.preprocess, name) for name in self.pixels}
        stated = {**self.backbone, **self.pixels}
        return [
            f"{_phrase(name, value)}, where the network has {_phrase(name, network[name])}"
            for name, value in stated.items()
            if not _alike(value, network[name])
        ]


_TOLERANCE = 0.01  # grey levels; configurations round differently


def _alike(one: object, other: object) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(abs(a - b) <= _TOLERANCE for a, b in zip(one, other, strict=True))
    return one == other


def _phrase(name: str, value: object) -> str:
    if name == "stride_in_1x1":
        return "caffe style" if value else "pytorch style"
    if name == "deformable_stages":
        return f"deformable convolutions in stages {_listed(value)}" if value else "no deformable convolutions"
    return f"{_WORDS.get(name, name)} {value}"


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


_WORDS = {
    "blocks": "blocks",
    "width_per_group": "channels per group",
    "mean": "pixel means (RGB)",
    "std": "deviations (RGB)",
}


def class_names(*lists: object) -> tuple[str, ...] | None:
    """The first of these values that is a list of distinct names; a text is the name of the only class."""
    for given in lists:
        names = [given] if isinstance(given, str) else given
        if (
            isinstance(names, list | tuple)
            and 0 < len(names) <= _MAX_CLASSES
            and all(isinstance(name, str) and name for name in names)
            and len(set(names)) == len(names)
        ):
            return tuple(names)
    return None


def are_unread(*lists: object) -> bool:
    """Whether there are names among these, and ``class_names`` takes none."""
    return class_names(*lists) is None and any(isinstance(given, list | tuple | dict) and given for given in lists)


@dataclass(frozen=True, kw_only=True)
class Model:
    """The model that is written into a publisher's file beside its tensors; ``classes`` are names by label."""

    entry: ZooEntry
    spec: ModelSpec
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the tensors of a checkpoint are named and laid out, and how that is recognised.

    Attributes:
        publisher: whose layout it is: a name of the manifest.
        hallmark: where the tensors lie that it is recognised by, such as "backbone.layer1. and roi_head.".
        key_map: gives the key map of an architecture.
        refusal: gives the reason why a file with these tensor keys and this metadata is not the publisher's, or comes
            from a version of its code that computes something else; None where the file is accepted.
        describe: gives what a checkpoint's metadata states.
        scored_otherwise: number of classes -> why a network of so many computes other scores than the zoo's networks,
            though it has their tensors.
        confused: given the architecture that was asked for and the one that the tensors fit, names the file that
            people commonly take for it by mistake; None where no such mistake is known.
    """

    publisher: str
    hallmark: str
    key_map: Callable[[str], KeyMap]
    refusal: Callable[[Collection[str], object], str | None]
    describe: Callable[[object], Description]
    scored_otherwise: Mapping[int, str] = field(default_factory=dict)
    confused: Callable[[str, str], str | None] = lambda wanted, found: None


@dataclass(frozen=True, kw_only=True)
class Converter(Layout):
    """The layout of one publisher's checkpoints, and how they are written.

    Attributes:
        suffix: the ending of the publisher's file names, such as ".pth".
        write: writes a state dict in the publisher's own format; the same tensors always give the same bytes.
    """

    suffix: str
    write: "Callable[[BinaryIO, Mapping[str, Tensor], Model], None]"
