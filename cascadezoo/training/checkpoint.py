"""A run's state on disk: whole or not at all, read without running anything, the last few kept."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from cascadezoo.errors import CorruptCheckpoint, UsageError
from cascadezoo.files import whole_file

SCHEDULE = "schedule"  # the part of a run's identity that may change when it is extended
_PATTERN = "checkpoint-*.pt"


class State(NamedTuple):
    """Everything that the steps after ``step`` depend on, except the data and the options.

    The place in the data, the learning rate and all randomness follow from ``step``.

    Attributes:
        step: steps done.
        identity: the data and the options in words; a run goes on only where they are the same.
        origin: of the weights that the run started from, an ``Origin``'s fields.
        model, optimizer, scaler, ema: their state dicts; no ``ema`` where the recipe has none.
    """

    step: int
    identity: dict[str, str]
    origin: Mapping[str, Any]
    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    scaler: Mapping[str, Any]
    ema: Mapping[str, Any] | None


def save(folder: Path, state: State, keep: int) -> Path:
    """Write a checkpoint, then remove all but the last ``keep``; returns its path.  Raises UnwritableOutput."""
    path = folder / f"checkpoint-{state.step:08d}.pt"
    with whole_file(path) as file:
        try:
            torch.save(state._asdict(), file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # a full disk: torch's writer fails again on its way out
                raise error.__context__ from None
            raise
    for old in _checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def latest(folder: Path, identity: Mapping[str, str], *, extend: bool = False) -> State | None:
    """The newest state of a run, on the CPU; None where the run was stopped before its first checkpoint.

    ``extend``: the schedule may be another.

    Raises CorruptCheckpoint for a damaged file, UsageError where the run was begun with another ``identity``.
    """
    paths = _checkpoints(folder)
    if not paths:
        return None
    state = _read(paths[-1])
    for key in sorted(identity.keys() | state.identity.keys()):
        then, now = state.identity.get(key), identity.get(key)
        if then != now and not (extend and key == SCHEDULE):
            way = " except for its schedule, with --extend (in Python extend=True)" if key == SCHEDULE else ""
            raise UsageError(
                f"{folder} was begun with {key} {then}, now it is {now}: a run goes on only as it began{way}"
            )
    return state


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob(_PATTERN))


def _read(path: Path) -> State:
    try:
        return State(**torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, EOFError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise CorruptCheckpoint(f"{path} is no checkpoint of a run: remove it to resume from the one before") from error
