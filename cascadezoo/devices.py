"""Which device computes, and in what arithmetic."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from threading import Lock
from typing import Any

import torch

from cascadezoo.errors import MissingResource, UsageError

DTYPES = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}  # what products may be computed in, by its name

_PRECISE = "ieee"  # torch's name for float32 as it is, in products and convolutions
_SWITCHES: tuple[Any, ...] = (  # what each of them computes float32 in
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # type: ignore[attr-defined]
    torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
    torch.backends.mkldnn.conv,  # type: ignore[attr-defined]
)

_lock = Lock()
_inside = 0  # how many are in ``full_float32``
_put_back: list[Callable[[], object]] = []


def usable(device: torch.device | str | int | None, local: int | None = None) -> torch.device:
    """The device of this name, or the GPU of this number; None: a GPU where there is one, else the CPU.

    Args:
        device: such as cpu, cuda, cuda:1, mps or 1.
        local: which of the machine's GPUs is this process's, unless ``device`` has a number.

    Raises:
        UsageError: there is no such kind of device.
        MissingResource: this machine, or this torch, has none of it.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if isinstance(device, bool):
            raise TypeError("a truth value names no device")
        chosen = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"{device!r} names no device: give cpu, cuda, cuda:N or mps") from error
    if chosen == torch.device("cuda") and local is not None:
        chosen = torch.device("cuda", local)
    try:
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without it
        raise MissingResource(f"there is no device {chosen} here: torch can use {', '.join(_present())}") from error
    return chosen


def _present() -> list[str]:
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]


@contextmanager
def full_float32() -> Iterator[None]:
    """float32 is float32 inside: products and convolutions use neither TF32 on a GPU nor bfloat16 on a CPU.

    torch keeps these switches for the whole process.  While any thread is inside they are so for all of it, and the
    last one to leave puts back what the first one found.
    """
    global _inside
    with _lock:
        if not _inside:
            _set_precise()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            while not _inside and _put_back:
                _put_back.pop()()


def _set_precise() -> None:
    """Set the switches, older ones first: torch refuses to read one that contradicts a newer one, and a program that
    has used the newer ones has no older ones to put back."""
    _put_back.extend(partial(setattr, switch, "fp32_precision", switch.fp32_precision) for switch in _SWITCHES)
    with suppress(RuntimeError):
        _put_back.append(partial(setattr, torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32))
        torch.backends.cudnn.allow_tf32 = False
    with suppress(RuntimeError):
        _put_back.append(partial(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()))
        torch.set_float32_matmul_precision("highest")
    for switch in _SWITCHES:
        switch.fp32_precision = _PRECISE


@contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """What a model computes in: float32 without TF32, as ``Detector.predict``, or mixed with a narrower type.

    ``precision``: a name of ``DTYPES``.
    """
    dtype = DTYPES[precision]
    with full_float32(), nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype):
        yield


def random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    """torch's random numbers, on the CPU and, for a GPU, on all of them, go on afterwards as if nothing had been seeded
    or drawn inside."""
    gpus = range(torch.cuda.device_count()) if device.type == "cuda" else ()
    return torch.random.fork_rng(devices=gpus)
