"""Where in a checkpoint's object the state dict is: bare, or under the names that trainers give it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# by rank: of a model and its running average, the model's own are the weights
_NAMES = (
    "state_dict", "model_state_dict", "model", "blobs", "module", "net", "network", "detector", "weights", "params",
    "model_state", "net_state_dict", "network_state_dict", "model_weights", "model_params", "parameters", "generator",
    "student", "best_model", "checkpoint", "app", "state",
    "ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "params_ema", "ema", "teacher",
)  # fmt: skip
# as in a "meta" of mmdetection
_META = (
    "cfg", "config", "CLASSES", "classes", "dataset_meta", "experiment_name", "exp_name", "config_name", "hook_msgs",
)  # fmt: skip
_DEPTH = 4  # wrappers inside one another


@dataclass(frozen=True)
class Wrapped:
    """A state dict and what lies about it.

    Attributes:
        path: the names of the entries that lead to it, outermost first; none for a bare one.
        state: the state dict.
        meta: what tells about the model: the entry "meta", or those of its usual contents that lie beside the weights.
        beside: the names of all other entries on the way; those of the inner wrappers with their path.
    """

    path: tuple[str, ...]
    state: Mapping[Any, Any]
    meta: Any
    beside: tuple[tuple[str, object], ...]


def unwrap(root: Mapping[Any, Any], is_tensor: Callable[[object], bool]) -> Wrapped:
    """The state dict in a checkpoint's object: the outermost mapping under known names that holds tensors, or, where
    there is none, what a known name holds, or the object itself."""
    path: tuple[str, ...] = ()
    beside: list[tuple[str, object]] = []
    state, meta = root, None
    while len(path) < _DEPTH and (name := _inner(state, is_tensor)) is not None:
        told = state.get("meta")
        if told is None:
            told = {key: state[key] for key in _META if key in state} or None
        used = {name, "meta"} if "meta" in state else {name, *(told or ())}
        prefix = "".join(f"{part}." for part in path)
        beside += [(prefix, key) for key in state if key not in used]
        meta = meta if told is None else told
        state, path = state[name], (*path, name)
    return Wrapped(path, state, meta, tuple(beside))


def _inner(level: object, is_tensor: Callable[[object], bool]) -> str | None:
    """The entry to go into; None where this level is the state dict itself."""
    if not isinstance(level, Mapping):
        return None
    names = [name for name in _NAMES if name in level]
    for name in names:
        if _has_tensors(level[name], is_tensor, _DEPTH):
            return name
    if any(is_tensor(value) for value in level.values()):
        return None
    return names[0] if names else None


def _has_tensors(value: object, is_tensor: Callable[[object], bool], depth: int) -> bool:
    if not isinstance(value, Mapping):
        return False
    if any(is_tensor(item) for item in value.values()):
        return True
    return depth > 0 and any(_has_tensors(value.get(name), is_tensor, depth - 1) for name in _NAMES)
