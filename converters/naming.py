"""The names of a state dict's tensors without what a wrapper of the model put before them."""

from collections.abc import Mapping
from dataclasses import dataclass

from cascadezoo.converters.keymap import Shapes

# DataParallel and DistributedDataParallel, Lightning and other trainers, torch.compile, averaged models
_WRAPPERS = ("module.", "model.", "_orig_mod.", "net.", "network.", "detector.", "ema_model.", "ema.")


@dataclass(frozen=True)
class Names:
    """How a file names its tensors.

    Attributes:
        prefix: what was before every name, such as "module._orig_mod."; "" where there was nothing.
        keys: name without the prefix -> key in the file.
        counters: keys without the prefix, of single numbers that the wrapper keeps beside the model ("n_averaged").
    """

    prefix: str
    keys: Mapping[str, str]
    counters: tuple[str, ...]


def unwrapped(shapes: Shapes, unsafe: Mapping[str, str]) -> Names:
    """The names of tensors (``shapes`` by key) and of values that were not made (``unsafe``), without their wrapper's
    prefix where all have it, but for single numbers."""
    keys = [*shapes, *unsafe]
    prefix = ""
    counters: set[str] = set()
    while found := _shared(keys, shapes, prefix, counters):
        prefix += found
    kept = [key for key in keys if key not in counters]
    return Names(prefix, {key.removeprefix(prefix): key for key in kept}, tuple(sorted(counters)))


def _shared(keys: list[str], shapes: Shapes, prefix: str, counters: set[str]) -> str | None:
    """The next wrapper's prefix; the numbers that lack it are added to ``counters``."""
    for wrapper in _WRAPPERS:
        wanted = prefix + wrapper
        others = [key for key in keys if not key.startswith(wanted) and key not in counters]
        if len(others) + len(counters) < len(keys) and all(_is_number(shapes.get(key)) for key in others):
            counters.update(others)
            return wrapper
    return None


def _is_number(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and all(side == 1 for side in shape)
