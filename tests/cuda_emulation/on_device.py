"""The operators as the tests beside the emulator call them, with tensors on the CPU, computed on a real device.

``KERNELS_ON=cuda`` puts them in the emulated ones' place, so that whatever a kernel has to meet in the emulator it
meets on a GPU too.  ``make gpu`` does.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

DEVICE = os.environ.get("KERNELS_ON", "")


class OnDevice:
    """``torch.ops.cascadezoo`` on ``device`` for tensors on the CPU, where results come back to."""

    def __init__(self, device: str) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operator = getattr(torch.ops.cascadezoo, name)

        def call(*arguments: Any) -> Any:
            there = tree_map_only(torch.Tensor, lambda x: x.to(self._device), arguments)
            return tree_map_only(torch.Tensor, lambda x: x.cpu(), operator(*there))

        return call
