"""Which device computes, and in what arithmetic."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from threading import Condition, local
from typing import Any, Literal

import torch

from cascadezoo.errors import MissingResource, UsageError

DTYPES = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}  # what products may be computed in, by its name

Float32 = Literal["ieee", "tf32"]  # torch's names for float32 as it is, and for products of 10-bit fractions

_GPU: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
_CPU: tuple[Any, ...] = (torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv)  # type: ignore[attr-defined]

_turn = Condition()
_kind: Float32 | None = None  # what the switches say while any thread is inside ``full_float32`` or ``tf32``
_inside = 0  # how many threads are
_own = local()  # of each thread, ``kind``: what it is inside
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
        if chosen.type == "meta":
            raise TypeError("the meta device computes nothing")
    except (RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"{device!r} names no device: give cpu, cuda, cuda:N or mps") from error
    named = f"cuda:{device}" if isinstance(device, int) else str(device)
    if chosen == torch.device("cuda") and local is not None:
        chosen = torch.device("cuda", local)
        named = str(chosen)
    try:
        if str(chosen) != named:
            raise RuntimeError("torch keeps 8 bits of a device's number, and would take another one")
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, ImportError) as error:  # the latter two where torch was built without it
        raise MissingResource(f"there is no device {named} here: torch can use {', '.join(_present())}") from error
    return chosen


def _present() -> list[str]:
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]


def full_float32() -> AbstractContextManager[None]:
    """float32 is float32 inside: products and convolutions use neither TF32 on a GPU nor bfloat16 on a CPU.

    torch keeps these switches for the whole process.  While any thread is inside they are so for all of it, and the
    last one to leave puts back what the first one found.  A thread that wants ``tf32`` waits until then; what is
    entered last holds within a thread, so none waits for itself.
    """
    return _float32_as("ieee")


def tf32() -> AbstractContextManager[None]:
    """Inside, a GPU computes products and convolutions of float32 in TF32, with fractions of 10 bits; on a CPU float32
    stays float32.  The switches are shared as those of ``full_float32`` are."""
    return _float32_as("tf32")


@contextmanager
def _float32_as(kind: Float32) -> Iterator[None]:
    outer: Float32 | None = getattr(_own, "kind", None)
    if kind == outer:
        yield
        return
    if outer is not None:
        _leave()  # or two threads inside the one would wait for each other to get to the other
    try:
        _enter(kind)
        try:
            yield
        finally:
            _leave()
    finally:
        if outer is not None:
            _enter(outer)


def _enter(kind: Float32) -> None:
    global _inside, _kind
    with _turn:
        _turn.wait_for(lambda: _kind in (None, kind))
        if not _inside:
            _set(kind)
        _inside, _kind, _own.kind = _inside + 1, kind, kind


def _leave() -> None:
    global _inside, _kind
    with _turn:
        _inside, _own.kind = _inside - 1, None
        if not _inside:
            while _put_back:
                _put_back.pop()()
            _kind = None
            _turn.notify_all()


def _set(kind: Float32) -> None:
    """Set the switches, older ones first: torch refuses to read one that contradicts a newer one, and a program that
    has used the newer ones has no older ones to put back."""
    _put_back.extend(partial(setattr, each, "fp32_precision", each.fp32_precision) for each in (*_GPU, *_CPU))
    with suppress(RuntimeError):
        _put_back.append(partial(setattr, torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32))
        torch.backends.cudnn.allow_tf32 = kind == "tf32"
    with suppress(RuntimeError):
        _put_back.append(partial(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()))
        torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    for each in (*_GPU, *_CPU):
        each.fp32_precision = kind if each in _GPU else "ieee"


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
