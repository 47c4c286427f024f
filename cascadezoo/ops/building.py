"""Builds the compiled operators into the user's cache, one library a kind of device; never called by an import.

Libraries are bound to LibTorch's stable ABI, so one outlives an upgrade of torch and of Python.  This module must not
import the operators: they load what it built, and a library that kills the process must still be replaceable.
"""

import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path

from cascadezoo.errors import NoCompiler, UsageError
from cascadezoo.ops import compilers, trust
from cascadezoo.paths import cannot_be_written, home, ops_folder

KINDS = ("cpu", "cuda")
SCHEMAS = "schemas"  # a library for programs without Python, which define no operators: Python never loads it
_SUFFIXES = (".cpp", ".cu", ".h", ".cuh")
_COMMON = ("-O3", "-std=c++17")
_CXX = (
    *(*_COMMON, "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"),
    "-DTORCH_TARGET_VERSION=0x020b000000000000",  # runs in torch 2.11 and everything later
)
_NVCC = (*_COMMON, "-Xcompiler", "-fPIC,-fvisibility=hidden")


def sources() -> Traversable:
    """The folder of the sources, as installed; it may lie in an archive."""
    return files("cascadezoo.csrc")


def folder() -> Path:
    """Where the libraries of these sources and this builder lie, or would lie."""
    return ops_folder() / _made_of()


def _made_of() -> str:
    """The folder's name: this system, and the digest of these sources and this builder."""
    digest = hashlib.sha256(files("cascadezoo.ops").joinpath("building.py").read_bytes())
    for parts, source in sorted(_texts(sources()), key=lambda text: text[0]):
        digest.update(f"{os.sep.join(parts)}\0".encode() + source.read_bytes())
    return f"{platform.system()}-{platform.machine()}-{digest.hexdigest()[:16]}".lower()


def locks(folder: Path) -> list[Path]:
    """The files that builders lock while they write to a folder of libraries, one for each kind of library."""
    return [folder / f".{kind}.lock" for kind in (*KINDS, SCHEMAS)]


def own_flags(source: Path) -> list[str]:
    """What the first line of a ``.cu`` file asks of nvcc, for itself alone: ``// nvcc: --fmad=false``.

    Kernels that decide, such as suppression, compare what they compute with a threshold: with products and sums fused
    they would decide otherwise than on a CPU.
    """
    with source.open() as lines:
        first = re.fullmatch(r"// nvcc: (.+)\n", lines.readline())
    return first[1].split() if first else []


def built(kind: str, cuda: str | None) -> Path | None:
    """The library of this kind that was built last, if there is one; ``cuda`` is the version that torch was built for.

    Raises:
        OSError: the cache cannot be read.
    """
    if kind == "cuda" and cuda is None:
        return None
    pattern = "cascadezoo_cpu.so" if kind == "cpu" else f"cascadezoo_cu{_major(cuda)}_*.so"
    return max(folder().glob(pattern), key=lambda path: path.lstat().st_mtime, default=None)


def prebuilt(kind: str) -> Path | None:
    """The library of this kind in the installed wheel of prebuilt operators, if it was made of these sources."""
    spec = find_spec("cascadezoo_ops")
    folders = (spec and spec.submodule_search_locations) or ()
    made = (Path(each) / _made_of() / f"cascadezoo_{kind}.so" for each in folders)
    return next((path for path in made if path.is_file()), None)


def build(kind: str, archs: Sequence[str] = (), force: bool = False) -> Path:
    """Compile the operators for ``kind``, or their schemas, unless they are there, and return the library.

    Args:
        kind: one of ``KINDS``, or ``SCHEMAS``.
        archs: GPU architectures such as "80" and "90"; none: those of this machine's GPUs, or all where it has none.
        force: compile even where the library is there.

    Raises:
        NoCompiler: no compiler, or not the one that torch needs; the message says which.
        BuildError: the compiler failed; the message holds its own words.
        UntrustedCache: another user could put something into the cache, or has.
        UnwritableOutput: the cache cannot be made.
        OSError: it cannot be written.
    """
    if os.name != "posix":
        raise NoCompiler("compiled operators are supported on Linux and macOS: the PyTorch ones run instead")
    if not Path(str(sources())).is_dir():
        raise NoCompiler(f"{sources()} is no folder: install cascadezoo with pip instead of running it from an archive")
    compiler = compilers.find_cxx()
    toolkit = _Cuda(compiler, archs) if kind == "cuda" else None
    name = f"cascadezoo_{toolkit.name if toolkit else kind}.so"
    try:
        target = trust.make_private(home(), "ops", folder().name)
    except OSError as error:
        raise cannot_be_written(error) from error
    library = target / name
    with trust.locked(locks(target)[(*KINDS, SCHEMAS).index(kind)]):
        if trust.is_trusted(library) and not force:  # perhaps by another builder, while this one waited
            library.touch()  # what was asked for last is what loads
            return library
        for stale in target.glob(f".{kind}-build-*"):  # of builders that were killed: the lock is ours
            shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{kind}-build-", dir=target) as scratch:
            fresh = Path(scratch) / name
            objects = _compile(kind, compiler, toolkit, trust.make_private(home(), "ops", target.name, "obj"))
            linker = toolkit.link() if toolkit else compiler
            compilers.make([*linker, "-shared", *objects, "-o", fresh, *_torch(kind)], fresh)
            compilers.check_cxx_library(fresh)
            fresh.chmod(0o600)
            # every symbol resolves, in a process whose death harms nobody; mode 2 is RTLD_NOW
            code = f"import torch, ctypes; ctypes.CDLL({str(fresh)!r}, mode=2)"
            compilers.run([sys.executable, "-c", code])
            os.replace(fresh, library)  # never a half-written library under this name: loading one would kill Python
    return library


class _Cuda:
    """nvcc, and the architectures that it shall compile for."""

    def __init__(self, compiler: Sequence[str], archs: Sequence[str]) -> None:
        import torch

        if torch.version.cuda is None:
            raise NoCompiler("this torch was built without CUDA: install one with CUDA to build for GPUs")
        major = _major(torch.version.cuda)
        self.nvcc, self.root = compilers.find_nvcc(major)
        self.host = compilers.as_host(compiler)
        if bad := [arch for arch in archs if not re.fullmatch(r"\d{2,3}[af]?", arch)]:
            raise UsageError(f"{bad[0]} is not a GPU architecture: write it like 80 or 90")
        if not archs and torch.cuda.is_available():
            found = {torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
            archs = [f"{high}{low}" for high, low in sorted(found)]
        self.name = "_".join((f"cu{major}", *(f"sm{arch}" for arch in archs))) if archs else f"cu{major}_all"
        codes = [f"-gencode=arch=compute_{arch},code=[sm_{arch},compute_{arch}]" for arch in archs]
        self.flags = [*_NVCC, *(codes or ["-arch=all-major"])]

    def compile(self) -> list[str]:
        return [self.nvcc, *self.host, *self.flags]

    def link(self) -> list[str]:
        paths = [f"-L{self.root / 'lib'}"] if self.root else []
        return [self.nvcc, *self.host, *paths]


def _compile(kind: str, compiler: Sequence[str], toolkit: _Cuda | None, objects: Path) -> list[Path]:
    """One object a source of this kind, kept under the digest of all that it depends on."""
    torch_include = _torch_folder() / "include"
    headers = b"".join(path.read_bytes() for path in _sources() if path.suffix in (".h", ".cuh"))

    def one(source: Path) -> Path:
        if source.suffix == ".cu":
            assert toolkit is not None
            command = [*toolkit.compile(), *own_flags(source)]  # no torch header: nvcc takes 5 s for those
        else:
            command = [*compiler, *_CXX, "-isystem", str(torch_include)]
        digest = hashlib.sha256("\0".join([*command, str(source)]).encode() + source.read_bytes() + headers).hexdigest()
        made = objects / f"{source.stem}-{digest[:16]}.o"
        if not trust.is_trusted(made):
            half = made.with_suffix(f".{kind}.part")
            half.unlink(missing_ok=True)
            compilers.make([*command, "-c", source, "-o", half], half)
            half.chmod(0o600)
            os.replace(half, made)
        return made

    # csrc/cpu/x.cpp is of "cpu", csrc/schemas.cpp of "schemas"
    top = Path(str(sources()))
    mine = [path for path in _sources() if path.suffix in (".cpp", ".cu")]
    mine = [path for path in mine if path.relative_to(top).with_suffix("").parts[0] == kind]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, mine))


def _texts(folder: Traversable, *above: str) -> Iterator[tuple[tuple[str, ...], Traversable]]:
    """The sources below a folder of this package, which may lie in an archive, and their names from there on."""
    for each in folder.iterdir():
        if each.is_dir():
            yield from _texts(each, *above, each.name)
        elif each.name.endswith(_SUFFIXES):
            yield (*above, each.name), each


def _sources() -> list[Path]:
    return sorted(path for path in Path(str(sources())).rglob("*") if path.suffix in _SUFFIXES)


def _torch(kind: str) -> list[str]:
    return [f"-L{_torch_folder() / 'lib'}", "-ltorch_cpu", *(["-ltorch_cuda"] if kind == "cuda" else [])]


def _torch_folder() -> Path:
    spec = find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _major(version: str | None) -> str:
    return (version or "").split(".")[0]
