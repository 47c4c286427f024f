"""Which device computes."""

import torch

from cascadezoo.errors import MissingResource, UsageError


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
