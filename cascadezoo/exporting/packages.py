"""Packages of PyTorch: the graph as ``torch.export`` saves it (``pt2``), and as AOTInductor compiles it (``aoti``).

Both compute on a CPU, in float32, by the lean form of the network (``optimizing/lean.py``), whose operators all have a
kernel in the compiled library, so that no Python is needed where they run.  The metadata's document is the extra file
``cascadezoo.json``; in an ``aoti`` package it is the metadata ``cascadezoo`` too, which its loader hands out in C++.
"""

import io
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.export import ExportedProgram

from cascadezoo.detector import Detector
from cascadezoo.errors import BuildError, UsageError
from cascadezoo.exporting.checking import Arrays, Infer, check
from cascadezoo.exporting.formats import Options, Written
from cascadezoo.exporting.graph import LEAST, Graph, program
from cascadezoo.exporting.metadata import KEY, document, text
from cascadezoo.files import whole_file, written_sha256
from cascadezoo.modeling.preprocess import padded_size
from cascadezoo.ops.compilers import find_cxx
from cascadezoo.optimizing.lean import lean

Module = Callable[..., tuple[torch.Tensor, ...]]
_DOCUMENT = f"{KEY}.json"
_log = logging.getLogger("cascadezoo")
_OPERATORS = "without Python the compiled operators are loaded first, of `cascadezoo build-ops`: see docs/packages.md"


def write_pt2(model: Detector, options: Options, target: Path) -> Written:
    """The program of ``torch.export``, for ``torch.export.load``; what ``formats`` says of a writer."""

    def save(made: ExportedProgram, words: str, file: BinaryIO) -> Module:
        with warnings.catch_warnings():  # weights that lie channels last are saved as they lie, with a doubt about it
            warnings.filterwarnings("ignore", "No complete tensor found")
            with _deferring(file) as taking:
                torch.export.save(made, taking, extra_files={_DOCUMENT: words})
        file.seek(0)
        return torch.export.load(file).module()

    return _write(model, options, target, save)


def write_aoti(model: Detector, options: Options, target: Path) -> Written:
    """A package compiled by AOTInductor; what ``formats`` says of a writer.

    Raises NoCompiler where there is no C++ compiler, and BuildError where it fails.
    """
    cxx = find_cxx()[0]

    def save(made: ExportedProgram, words: str, file: BinaryIO) -> Module:
        settings = {"aot_inductor.metadata": {KEY: words}, "cpp.cxx": (cxx,)}
        try:
            with _deferring(file) as taking:
                torch._inductor.aoti_compile_and_package(made, package_path=taking, inductor_configs=settings)
        except RuntimeError as error:  # InvalidCxxCompiler, CppCompileError
            raise BuildError(f"AOTInductor could not compile the network with {cxx}: {error}") from error
        _add(file, words)
        file.seek(0)
        loaded: Module = torch._inductor.aoti_load_package(file)
        return loaded

    return _write(model, options, target, save, _OPERATORS, "it runs on processors with the instructions of this one")


def _write(
    model: Detector,
    options: Options,
    target: Path,
    save: Callable[[ExportedProgram, str, BinaryIO], Module],
    *notes: str,
) -> Written:
    """``save`` writes a program with its document, and returns what it reads back."""
    preprocess, shorter = options.preprocess or False, model.spec.preprocess.min_size
    if padded_size((shorter, shorter), model.spec.preprocess)[0] < LEAST:
        raise UsageError(
            f"a package takes sides of {LEAST} pixels or more: load the model with a min_size above {shorter}"
        )
    if any(weight.device.type != "cpu" or weight.dtype != torch.float32 for weight in model.parameters()):
        raise UsageError("a package is made of a model in float32 on the CPU: load it so")
    own = Graph(model, preprocess)
    words = text(document(model, own, options))
    _log.info("tracing the network")
    made = program(Graph(lean(model, fused=False), preprocess), options.axes)
    with whole_file(target) as file:
        _log.info("writing the package")
        module = save(made, words, file)
        _log.info("running the package beside PyTorch")
        found = check(model, own, _infer(module, own), options.axes)
        return Written(written_sha256(file), found, notes)


class _Taking(io.RawIOBase):
    """A file that takes all that is written to it; ``error``: the first that was raised by the one behind it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: BaseException | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        return self.file.seek(place, whence)

    def write(self, data: Any) -> int:
        try:
            if self.error is None:
                self.file.write(data)
        except BaseException as error:  # Ctrl-C too
            self.error = error
        return memoryview(data).nbytes


@contextmanager
def _deferring(file: BinaryIO) -> Iterator[Any]:
    """``file`` for torch's writer, which ends the process where writing fails: what is raised then is raised after."""
    taking = _Taking(file)
    yield taking
    if taking.error is not None:
        raise taking.error


def _infer(module: Module, graph: Graph) -> Infer:
    def infer(inputs: Arrays) -> Arrays:
        with torch.no_grad():
            given = [torch.from_numpy(inputs[name]).contiguous() for name in graph.inputs]
            return {name: got.numpy() for name, got in zip(graph.outputs, module(*given), strict=True)}

    return infer


def _add(file: BinaryIO, words: str) -> None:
    """Put the document where ``torch.export.save`` puts extra files; AOTInductor takes none."""
    file.seek(0)
    with zipfile.ZipFile(file, "a") as archive:
        root = archive.namelist()[0].split("/", 1)[0]
        archive.writestr(f"{root}/extra/{_DOCUMENT}", words)
