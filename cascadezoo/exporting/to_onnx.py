"""ONNX of standard operators alone, run by onnxruntime beside PyTorch before it is written.

The graph goes through ``torch.export``, is brought to ONNX's operators (``lowering``), and translated by PyTorch's
exporter.  The file holds the document of ``metadata`` under its key.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from cascadezoo.detector import Detector
from cascadezoo.errors import MissingResource, UsageError
from cascadezoo.exporting import metadata
from cascadezoo.exporting.accuracy import measured
from cascadezoo.exporting.calibrating import Calibration, facts, note
from cascadezoo.exporting.checking import Arrays, Infer, check, compared
from cascadezoo.exporting.formats import Options, Written
from cascadezoo.exporting.graph import Graph, program
from cascadezoo.exporting.lowering import lowered
from cascadezoo.exporting.onnx_int8 import quantised, with_metadata
from cascadezoo.files import whole_file, written_sha256

OPSETS = range(20, 24)
"""The versions of ONNX's operators that can be asked for; the first has all that is used."""

_LARGEST = 2**31 - 2**24  # bytes of weights; protocol buffers end at 2 GiB, of which the graph needs some
_log = logging.getLogger("cascadezoo")


def write(model: Detector, options: Options, target: Path) -> Written:
    """Write ``target``, one file.

    Raises:
        MissingResource: onnx, onnxscript or onnxruntime is not installed.
        UsageError: no such opset, or what ``require_exportable`` refuses.
        DepartsFromModel: the file does not detect what the model does.
        LosesAccuracy: int8 costs too much; and what else ``accuracy.measured`` and ``Calibration`` raise.
        UnwritableOutput: there is no room, or no right, to write it.
    """
    require("onnx", "onnxscript", "onnxruntime")
    if options.opset is not None and options.opset not in OPSETS:
        raise UsageError(f"--opset {options.opset}: choose one from {OPSETS[0]} to {OPSETS[-1]}")
    require_exportable(model)
    _log.info("preparing the graph")
    graph = Graph(model, bool(options.preprocess)).eval()
    calibration = Calibration(model, graph, options) if options.precision == "int8" else None
    _log.info("translating the graph to ONNX")
    content = translated(graph, options, metadata.text(metadata.document(model, graph, options)))
    notes: tuple[str, ...] = ()
    _log.info("running the file beside PyTorch")
    if calibration is None:
        found = check(model, graph, runner(content, graph), options.axes)
    else:
        narrow = quantised(content, calibration)
        infer = runner(narrow, graph)
        cost = measured(model, graph, options, runner(content, graph), infer)
        about = metadata.document(model, graph, options, "int8", **facts(calibration, cost))
        content = with_metadata(narrow, metadata.KEY, metadata.text(about))
        found, notes = compared(model, graph, infer, options.axes), (note(calibration, cost),)
    with whole_file(target) as file:
        file.write(content)
        return Written(written_sha256(file), found, notes)


def require_exportable(model: Detector) -> None:
    """Raise UsageError for a model that is not on the CPU in float32, or one of 2 GiB, which no entry has."""
    weights = list(model.parameters())
    if weights[0].device.type != "cpu" or weights[0].dtype != torch.float32:
        raise UsageError("an ONNX file is made of a model in float32 on the CPU: load it so")
    if sum(each.nbytes for each in weights) > _LARGEST:
        raise UsageError("this model has 2 GiB of weights, which one ONNX file cannot hold")


def require(*packages: str) -> None:
    """Raise MissingResource where one of these packages is not there."""
    for package in packages:
        try:
            import_module(package)
        except ImportError as error:
            raise MissingResource(f"{package} is not installed: pip install {' '.join(packages)}") from error


def translated(graph: Graph, options: Options, about: str) -> bytes:
    """The ONNX file of a graph that has passed ONNX's checker; ``about`` becomes its metadata."""
    import onnx

    from cascadezoo.exporting.translation import TABLE

    with _quiet():
        exported = torch.onnx.export(
            lowered(program(graph, options.axes)),
            dynamo=True,
            custom_translation_table=TABLE,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=options.opset or OPSETS[0],
            verbose=False,
        )
    assert exported is not None
    made = exported.model_proto
    _name_axes(made, graph)
    made.metadata_props.add(key=metadata.KEY, value=about)
    onnx.checker.check_model(made, full_check=True)  # with the inference of all types and shapes
    content: bytes = made.SerializeToString(deterministic=True)
    return content


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


def _name_axes(made: Any, graph: Graph) -> None:
    """Call the dynamic axes batch, height and width; PyTorch numbers its own symbols."""
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


def runner(content: bytes, graph: Graph, threads: int = 0) -> Infer:
    """How to run an ONNX file by onnxruntime on the CPU; 0: on as many threads as it likes."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.enable_cpu_mem_arena = threads > 0  # not for a few runs, whose memory need not be kept
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])

    def infer(inputs: Arrays) -> Arrays:
        return dict(zip(graph.outputs, session.run(list(graph.outputs), inputs), strict=True))

    return infer
