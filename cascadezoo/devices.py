"""Which device computes."""

import torch

from cascadezoo.errors import UsageError


def usable(device: torch.device | str | None, local: int | None = None) -> torch.device:
    """The device of this name; None: a GPU where there is one, else the CPU.

    ``local``: which of the machine's GPUs is this process's, unless ``device`` has a number.
    Raises UsageError where torch cannot compute on it.
    """
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if chosen == torch.device("cuda") and local is not None:
            chosen = torch.device("cuda", local)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without it
        why = str(error).partition("\n")[0].rstrip(".")
        raise UsageError(
            f"'{device}' is no device that torch can use here ({why}): give cpu, cuda or cuda:N"
        ) from error
    return chosen
