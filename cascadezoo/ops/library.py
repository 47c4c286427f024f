"""The ``cascadezoo::`` operators: schema, reference and fake in Python, so that compile and export see one node each.

A reference serves every device until a compiled kernel for that device is loaded over it.  Nothing is compiled here:
`cascadezoo build-ops` does that.  ``CASCADEZOO_OPS``, read once when the operators load, says what runs:

auto      compiled kernels where they are built, else the references (the default)
torch     the references only
compiled  an operator that could be compiled and is not raises ``OpsNotBuilt``
"""

import ctypes
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

from cascadezoo.errors import OpsNotBuilt, UntrustedCache, UnwritableOutput, UsageError
from cascadezoo.ops import building, trust
from cascadezoo.paths import home

MODES = ("auto", "torch", "compiled")
MODE = os.environ.get("CASCADEZOO_OPS") or "auto"
if MODE not in MODES:
    raise UsageError(f"CASCADEZOO_OPS={MODE} is not known: it is one of {', '.join(MODES)}")

KERNELS: dict[str, tuple[str, ...]] = {}
"""For each operator that is defined the kinds of device that csrc/ has a kernel for."""

_library = torch.library.Library("cascadezoo", "FRAGMENT")


def define(
    schema: str,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    *,
    backward: Callable[..., Any] | None = None,
    setup: Callable[..., Any] | None = None,
    compiled: Collection[str] = (),
) -> None:
    """Register the operator of ``schema``; ``fake`` gives the shapes of its results without their values.

    ``backward`` and ``setup`` are those of ``torch.library.register_autograd``; ``compiled``: the kinds of device that
    csrc/ has a kernel for.
    """
    name = schema.split("(", 1)[0]
    KERNELS[name] = tuple(compiled)
    tags = [torch.Tag.pt2_compliant_tag]
    if not ("cuda" in compiled and "cuda" in COMPILED):  # the references wait for the device, which a graph cannot hold
        tags.append(torch.Tag.cudagraph_unsafe)
    _library.define(schema, tags=tags)
    _library.impl(
        name,
        _refusal(name, reference, compiled) if compiled and MODE == "compiled" else reference,
        "CompositeExplicitAutograd",
    )
    torch.library.register_fake(f"cascadezoo::{name}", fake, lib=_library)
    if backward is not None:
        torch.library.register_autograd(f"cascadezoo::{name}", backward, setup_context=setup, lib=_library)


def _refusal(name: str, reference: Callable[..., Any], kinds: Collection[str]) -> Callable[..., Any]:
    """What is registered instead of ``reference`` under CASCADEZOO_OPS=compiled.

    On a device that csrc/ has a kernel for it raises ``OpsNotBuilt``: it only runs while that kernel is not loaded,
    since a loaded kernel takes its place.  On any other device it calls ``reference``.
    """

    def refuse(first: torch.Tensor | list[torch.Tensor], *rest: Any) -> Any:
        kind = (first[0] if isinstance(first, list) else first).device.type
        if kind not in kinds:
            return reference(first, *rest)
        option = " --cuda" if kind == "cuda" else ""
        raise OpsNotBuilt(
            f"CASCADEZOO_OPS=compiled, but {name} has no compiled kernel for {kind}"
            f" ({STATUS.get(kind, 'none exists')}): run `cascadezoo build-ops{option}`, or set CASCADEZOO_OPS=auto"
        )

    return refuse


def _load(kind: str) -> Path | str:
    if MODE == "torch":
        return "not loaded: CASCADEZOO_OPS=torch"
    try:
        path = building.built(kind, torch.version.cuda)
        if path is not None:
            # not torch's load_library, which resolves links again
            with trust.opened(home(), *path.relative_to(home()).parts) as checked:
                ctypes.CDLL(checked)
            return path
    except UnwritableOutput:  # no home folder, and so no cache
        pass
    except (OSError, UntrustedCache) as error:  # no such right, not a library, one that this torch cannot resolve
        return str(error)
    return _load_prebuilt(kind)


def _load_prebuilt(kind: str) -> Path | str:
    """Of a wheel: a package's file, which is trusted as this one is."""
    path = building.prebuilt(kind)
    if path is None:
        return "not built"
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        return str(error)
    return path


STATUS: dict[str, Path | str] = {kind: _load(kind) for kind in building.KINDS}
"""For each kind of device the library that is loaded, or why none is."""

COMPILED = tuple(kind for kind, library in STATUS.items() if isinstance(library, Path))
"""The kinds of device whose library is loaded."""
