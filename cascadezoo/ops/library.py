"""The ``cascadezoo::`` operators: schema, reference and fake in Python, so that compile and export see one node each.

A reference serves every device until a compiled kernel for that device is loaded over it.
"""

from collections.abc import Callable
from typing import Any

import torch

_library = torch.library.Library("cascadezoo", "FRAGMENT")


def define(schema: str, reference: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Register the operator of ``schema``; ``fake`` gives the shapes of its results without their values."""
    name = schema.split("(", 1)[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, reference, "CompositeExplicitAutograd")
    torch.library.register_fake(f"cascadezoo::{name}", fake, lib=_library)
