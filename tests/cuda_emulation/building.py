"""Builds the kernels of csrc/cuda with a C++ compiler and the emulator beside this file, and loads them as operators.

``EMULATED_SANITIZER`` (address or thread) says which of gcc's sanitizers the kernels get; the emulator gets none.  In
its place they can get gcc's counts of what ran (coverage).
``EMULATED_FIBRES=ucontext`` takes the portable fibres where this machine has its own.  Objects are kept below
build/emulated under the digest of all that they depend on.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from cuda_emulation.on_device import DEVICE, OnDevice

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "csrc/cuda"
EMULATOR = Path(__file__).parent / "emulator"
MADE = ROOT / "build/emulated"
OPERATORS = (
    "dcnv3",
    "dcnv3_backward",
    "dcnv3_fused",
    "pyramid_roi_align",
    "pyramid_roi_align_backward",
    "grouped_nms",
    "class_nms",
    "paste_rle",
    "preprocess",
    "rpn_select",
)
CXX = shutil.which("g++")
EMULATED = pytest.param("emulated", marks=pytest.mark.emulated)  # beside the other versions of an operator
needs_compiler = pytest.mark.skipif(CXX is None, reason="no g++ here")

_BASE = ("-std=c++17", "-g", "-fPIC", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror")
_SANITIZE = {
    "": ("-O2",),
    "address": ("-O1", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"),
    "thread": ("-O1", "-fsanitize=thread"),
    "coverage": ("-O0", "-fno-exceptions", "--coverage"),  # each line by itself, and no ways that an exception takes
}
_NOTES = {"address": ("-DCZ_ASAN",), "thread": ("-DCZ_TSAN",)}  # what the emulator tells which sanitizer


def compiled(source: Path, *flags: str) -> Path:
    """The object of ``source``, from an earlier call where nothing that it may include has changed."""
    command = [str(CXX), *_BASE, *flags, "-I", str(EMULATOR), "-iquote", str(KERNELS)]
    digest = hashlib.sha256("\0".join([*command, str(source)]).encode() + source.read_bytes())
    for header in sorted([*(ROOT / "csrc").rglob("*.h"), *EMULATOR.glob("*.h")]):
        digest.update(header.read_bytes())
    made = MADE / f"{source.stem}-{digest.hexdigest()[:16]}.o"
    if not made.exists():
        MADE.mkdir(parents=True, exist_ok=True)
        half = made.with_suffix(f".{os.getpid()}")
        _run([*command, "-x", "c++", "-c", str(source), "-o", str(half)])
        half.replace(made)
    return made


def emulator(sanitizer: str = "", fibres: str = "") -> list[Path]:
    """The emulator's objects: first in a link, so that what they share with the kernels is not the sanitized copy."""
    own = "" if platform.machine() == "x86_64" else "ucontext"
    portable = (fibres or own) == "ucontext"
    flags = ["-O2", *_NOTES.get(sanitizer, ()), *(["-DCZ_FIBRES_BY_UCONTEXT"] if portable else [])]
    sources = ["scheduler.cpp", "fibre_ucontext.cpp" if portable else "fibre_x86_64.cpp"]
    return [compiled(EMULATOR / source, *flags) for source in sources]


def kernel_object(source: Path, sanitizer: str = "") -> Path:
    """The object of a kernel file, or of what calls it."""
    return compiled(source, *_SANITIZE[sanitizer])


def program(name: str, sources: Sequence[Path], sanitizer: str = "", fibres: str = "") -> Path:
    """A program of kernels and a ``main``."""
    objects = emulator(sanitizer, fibres)
    objects += [kernel_object(source, sanitizer) for source in sources]
    return _linked(name, objects, *_SANITIZE[sanitizer])


_kept: list[Any] = []  # a library's operators go with it


@contextmanager
def shared_memory(kilobytes: int) -> Iterator[None]:
    """While it lasts a block of the operators' kernels may have so much: 163 on sm_80, 227 on sm_90.  A real device has
    what it has."""
    if DEVICE:
        yield
        return
    operators()
    limit = ctypes.c_size_t.in_dll(_kept[0], "cuda_emulated_most_shared")
    before = limit.value
    limit.value = kilobytes << 10
    try:
        yield
    finally:
        limit.value = before


def fail_next_launch() -> None:
    if DEVICE:
        pytest.skip("only the emulator fails when asked to")
    operators()
    ctypes.c_int.in_dll(_kept[0], "cuda_emulated_error").value = 1


@functools.cache
def operators() -> Any:
    """``torch.ops.cascadezoo_emulated``: the CUDA operators, bindings included, for tensors on the CPU.

    Where ``KERNELS_ON`` names a device, those of that device instead.
    """
    import torch

    import cascadezoo.ops.dcnv3_fused
    import cascadezoo.ops.nms
    import cascadezoo.ops.paste_rle
    import cascadezoo.ops.preprocess
    import cascadezoo.ops.roi_align
    import cascadezoo.ops.rpn_select  # noqa: F401  (they define the schemas)

    if DEVICE:
        return OnDevice(DEVICE)
    if CXX is None:
        pytest.skip("no g++ here")
    sanitizer, fibres = (os.environ.get(f"EMULATED_{name}", "") for name in ("SANITIZER", "FIBRES"))
    torch_folder = Path(str(find_spec("torch").origin)).parent  # type: ignore[union-attr]
    binding = ["-DCZ_EMULATED", "-DTORCH_TARGET_VERSION=0x020b000000000000", "-isystem", str(torch_folder / "include")]
    objects = emulator(sanitizer, fibres)
    objects += [kernel_object(source, sanitizer) for source in sorted(KERNELS.glob("*.cu"))]
    objects += [compiled(source, *_SANITIZE[sanitizer], *binding) for source in sorted(KERNELS.glob("*.cpp"))]
    link = ["-shared", f"-L{torch_folder / 'lib'}", "-ltorch_cpu"]
    library = _linked("cuda_emulated.so", objects, *_SANITIZE[sanitizer], *link)
    definitions = torch.library.Library("cascadezoo_emulated", "DEF")
    for name in OPERATORS:
        schema = str(getattr(torch.ops.cascadezoo, name).default._schema)
        definitions.define(schema.removeprefix("cascadezoo::"))
    _kept.extend((ctypes.CDLL(str(library)), definitions))
    return torch.ops.cascadezoo_emulated


def _linked(name: str, objects: Sequence[Path], *flags: str) -> Path:
    digest = hashlib.sha256("\0".join([*map(str, objects), *flags]).encode()).hexdigest()[:16]
    made = MADE / f"{digest}-{name}"
    if not made.exists():
        half = made.with_suffix(f".{os.getpid()}")
        _run([str(CXX), *map(str, objects), *flags, "-o", str(half)])
        half.replace(made)
    return made


def _run(command: Sequence[str]) -> None:
    """Without the sanitizer that this process may have been started with: it would slow the compiler down."""
    subprocess.run(command, check=True, env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"})
