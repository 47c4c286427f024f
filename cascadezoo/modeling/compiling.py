"""What ``torch.compile(model)`` compiles, and what it leaves alone.

Compiled are ``Network.extract``, ``find`` and ``segment``, which see tensors only, each whole.  Reading and resizing
images, and making results of the network's outputs, run as they are written: they use OpenCV, and their shapes depend
on data.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import torch
from torch import nn

COMPILED = ("extract", "find", "segment")
"""The methods that ``Detector.compile`` replaces."""

P = ParamSpec("P")
R = TypeVar("R")


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, and all that it calls, as written, under ``torch.compile`` too."""
    return cast(Callable[P, R], torch.compiler.disable(function))


def around_compiled(function: Callable[P, R]) -> Callable[P, R]:
    """``function`` as written, under ``torch.compile`` too, but what it calls may be compiled."""
    return cast(Callable[P, R], torch.compiler.disable(function, recursive=False))


def calls_foreign_code(model: nn.Module) -> bool:
    """Whether a forward calls what torch.compile made, or hooks: code that may not be for several threads at once."""
    is_compiled = any(name in model.__dict__ for name in COMPILED)
    return is_compiled or any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
