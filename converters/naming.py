"""The names of a state dict's tensors without what a wrapper of the model put before them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cascadezoo.converters.keymap import Shapes

# torch.compile, FSDP, activation checkpointing and Fabric, which wrap parts of a model too
_OF_PARTS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module.")
# DataParallel and DistributedDataParallel, Lightning and other trainers, averaged models
_WRAPPERS = ("module.", "model.", *_OF_PARTS, "net.", "network.", "detector.", "ema_model.", "ema.")
_INSIDE = re.compile(rf"(?<![^.])(?:{'|'.join(map(re.escape, _OF_PARTS))})|(?<=\.)module\.")


@dataclass(frozen=True)
class Names:
    """How a file names its tensors.

    Attributes:
        prefix: what was before every name, such as "module._orig_mod."; "" where there was nothing.
        keys: name without the prefix -> key in the file.
        counters: keys without the prefix, of single numbers that the wrapper keeps beside the model ("n_averaged").
        inside: what wrappers of the model's parts put within names, such as "_fsdp_wrapped_module."; ``keys`` lack it.
    """

    prefix: str
    keys: Mapping[str, str]
    counters: tuple[str, ...]
    inside: tuple[str, ...] = ()


def unwrapped(shapes: Shapes, unsafe: Mapping[str, str]) -> Names:
    """The names of tensors (``shapes`` by key) and of values that were not made (``unsafe``), without their wrapper's
    prefix where all have it, except single numbers, and without those of its parts' wrappers."""
    keys = [*shapes, *unsafe]
    prefix = ""
    counters: set[str] = set()
    while found := _shared(keys, shapes, prefix, counters):
        prefix += found
    kept = [key for key in keys if key not in counters]
    names = {key.removeprefix(prefix): key for key in kept}
    plain = {_INSIDE.sub("", name): key for name, key in names.items()}
    if len(plain) < len(names):  # two tensors would have one name
        return Names(prefix, names, tuple(sorted(counters)))
    inside = dict.fromkeys(part for name in names for part in _INSIDE.findall(name))
    return Names(prefix, plain, tuple(sorted(counters)), tuple(inside))


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
