"""ONNX of standard operators alone, run by onnxruntime beside PyTorch before it is written.

The graph goes through ``torch.export``, is brought to ONNX's operators (``lowering``), and translated by PyTorch's
exporter.  The file holds the document of ``metadata`` under its key.
"""

import contextlib
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from cascadezoo.detector import Detector
from cascadezoo.errors import OutputExists, UsageError
from cascadezoo.exporting import metadata
from cascadezoo.exporting.accuracy import measured, opened
from cascadezoo.exporting.calibrating import Calibration, facts, note
from cascadezoo.exporting.checking import Arrays, Infer, check, compared
from cascadezoo.exporting.formats import OPSETS, Options, Written
from cascadezoo.exporting.graph import Graph, program
from cascadezoo.exporting.lowering import lowered
from cascadezoo.exporting.onnx_narrow import halved, quantised, with_metadata
from cascadezoo.files import whole_file, written_sha256

_LARGEST = 2**31 - 2**24  # bytes of weights in one file; protocol buffers end at 2 GiB, of which the graph needs some
_log = logging.getLogger("cascadezoo")


def write(model: Detector, options: Options, target: Path) -> Written:
    """Write ``target``, one file, and beside it ``<target>.data`` where the weights have 2 GiB or more.

    Raises:
        UsageError: fp16 or int8 for weights of 2 GiB, or what ``require_exportable`` refuses.
        OutputExists: the second file is there.
        DepartsFromModel: the file does not detect what the model does.
        LosesAccuracy: fp16 or int8 costs too much; and what ``accuracy.opened`` and ``Calibration`` raise.
        UnwritableOutput: there is no room, or no right, to write it.
    """
    require_exportable(model)
    _log.info("preparing the graph")
    graph = Graph(model, bool(options.preprocess)).eval()
    if is_large(model):
        return _write_two(model, graph, options, target)
    calibration = None if options.calibration is None else Calibration(model, graph, options.calibration)
    with opened(model, options) as data:
        _log.info("translating the graph to ONNX")
        content = translated(graph, options, metadata.text(metadata.document(model, graph, options)))
        notes: tuple[str, ...] = ()
        _log.info("running the file beside PyTorch")
        if not options.is_narrow:
            found = check(model, graph, runner(content, graph), options.axes)
        else:
            narrow = halved(content) if calibration is None else quantised(content, calibration)
            infer = runner(narrow, graph)
            cost = measured(model, graph, data, runner(content, graph), infer, options)
            about = metadata.document(model, graph, options, **facts(calibration, cost))
            content = with_metadata(narrow, metadata.KEY, metadata.text(about))
            found, notes = compared(model, graph, infer, options.axes), (note(calibration, cost),)
    with whole_file(target) as file:
        file.write(content)
        return Written(written_sha256(file), found, notes)


def _write_two(model: Detector, graph: Graph, options: Options, target: Path) -> Written:
    """Write ``target`` and its weights beside it."""
    weights = target.with_name(f"{target.name}.data")
    if options.is_narrow:
        raise UsageError(
            f"this model has 2 GiB of weights, which are not written in {options.precision}: leave --precision out, or "
            "choose the format openvino"
        )
    if weights.exists() and not options.force:
        raise OutputExists(f"{weights} is already there: choose another output, or pass --force to replace it")
    with TemporaryDirectory(prefix="cascadezoo-") as folder:
        made = Path(folder) / target.name
        _log.info("translating the graph to ONNX")
        save(made, graph, options, metadata.text(metadata.document(model, graph, options)))
        _log.info("running the file beside PyTorch")
        found = check(model, graph, runner(made, graph), options.axes)
        digest = put((made, target), (made.with_name(weights.name), weights))
    return Written(digest, found, (f"its weights are in {weights}, which has to stay beside it",))


def put(first: tuple[Path, Path], second: tuple[Path, Path]) -> str:
    """Copy two files (from, to), the second into its place before the first; its SHA-256.  Where either cannot be
    written whole, none is."""
    with whole_file(first[1]) as file, whole_file(second[1]) as data:
        for source, copy in ((first[0], file), (second[0], data)):
            with source.open("rb") as content:
                shutil.copyfileobj(content, copy)
        for copy in (file, data):
            copy.flush()
            os.fsync(copy.fileno())
        return written_sha256(data)


def is_large(model: nn.Module) -> bool:
    """Whether a model has 2 GiB of weights or more, which one ONNX file cannot hold."""
    return sum(each.nbytes for each in model.parameters()) > _LARGEST


def require_exportable(model: Detector) -> None:
    """Raise UsageError for a model that is not on the CPU in float32."""
    weight = next(model.parameters())
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        raise UsageError("an ONNX file is made of a model in float32 on the CPU: load it so")


def translated(graph: Graph, options: Options, about: str) -> bytes:
    """The ONNX file of a graph that has passed ONNX's checker; ``about`` becomes its metadata."""
    import onnx

    made = _exported(graph, options).model_proto
    _finish(made, graph, about)
    onnx.checker.check_model(made, full_check=True)  # with the inference of all types and shapes
    content: bytes = made.SerializeToString(deterministic=True)
    return content


def save(path: Path, graph: Graph, options: Options, about: str) -> None:
    """``translated`` as a file at ``path`` and one of its weights beside it, ``<name>.data``."""
    import onnx

    _exported(graph, options).save(path, external_data=True)
    made = onnx.load(path, load_external_data=False)
    _finish(made, graph, about)
    path.write_bytes(made.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path), full_check=True)


def _exported(graph: Graph, options: Options) -> Any:
    """What PyTorch's exporter makes of the graph."""
    from cascadezoo.exporting.translation import TABLE

    with _quiet():
        return torch.onnx.export(
            lowered(program(graph, options.axes)),
            dynamo=True,
            custom_translation_table=TABLE,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=options.opset or OPSETS[0],
            verbose=False,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says to those who write exporters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _finish(made: Any, graph: Graph, about: str) -> None:
    """Call the dynamic axes batch, height and width, where PyTorch numbers its own symbols; ``about`` becomes the
    metadata."""
    first = made.graph.input[0].type.tensor_type.shape.dim
    place = 1 if graph.preprocess else 2
    named = {first[axis].dim_param: name for axis, name in ((0, "batch"), (place, "height"), (place + 1, "width"))}
    for value in (*made.graph.input, *made.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = named.get(dim.dim_param, dim.dim_param)
    del made.graph.value_info[:]  # in terms of those symbols; whoever needs them infers them
    for node in made.graph.node:  # names of the exporter's source files and of this machine's folders
        del node.metadata_props[:]
        node.doc_string = ""
    made.metadata_props.add(key=metadata.KEY, value=about)


def runner(content: bytes | Path, graph: Graph, threads: int = 0) -> Infer:
    """How to run an ONNX file, or its content, by onnxruntime on the CPU; 0: on as many threads as it likes."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.enable_cpu_mem_arena = threads > 0  # not for a few runs, whose memory need not be kept
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])

    def infer(inputs: Arrays) -> Arrays:
        return dict(zip(graph.outputs, session.run(list(graph.outputs), inputs), strict=True))

    return infer
