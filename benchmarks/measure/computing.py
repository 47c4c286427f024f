"""What a network computes in while it is timed: always stated, never what torch or the environment would choose."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from cascadezoo.devices import arithmetic

PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
_TF32: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]


@contextmanager
def computing(device: torch.device, precision: str) -> Iterator[None]:
    """``cascadezoo.devices.arithmetic``, where TF32 is off, and besides it ``tf32``: float32 whose products and
    convolutions a GPU rounds to TF32.  torch's switches are put back at the end."""
    with arithmetic(device, "fp32" if precision == "tf32" else precision):
        if precision == "tf32":
            for switch in _TF32:  # ``arithmetic`` puts back what it found
                switch.fp32_precision = "tf32"
        yield
