"""What ``torch.compile(model)`` compiles, and what it leaves alone.

Compiled are ``Network.extract``, ``find`` and ``segment``, which see tensors only, each whole.  Reading and resizing
images, and making results of the network's outputs, run as they are written: they use OpenCV, and their shapes depend
on data.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import torch

P = ParamSpec("P")
R = TypeVar("R")


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, and all that it calls, as written, under ``torch.compile`` too."""
    return cast(Callable[P, R], torch.compiler.disable(function))


def around_compiled(function: Callable[P, R]) -> Callable[P, R]:
    """``function`` as written, under ``torch.compile`` too, but what it calls may be compiled."""
    return cast(Callable[P, R], torch.compiler.disable(function, recursive=False))
