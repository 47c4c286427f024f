"""OpenVINO's intermediate representation of a detector, a ``.xml`` and a ``.bin`` file, made of its ONNX file.

OpenVINO computes in float32 only where it is told to: on processors that have bfloat16 its CPU plugin takes that unless
``INFERENCE_PRECISION_HINT`` is ``f32``, which no file can say.
"""

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from cascadezoo.detector import Detector
from cascadezoo.errors import OutputExists
from cascadezoo.exporting.accuracy import measured, opened
from cascadezoo.exporting.calibrating import Calibration, as_float16, facts, in_float32, note
from cascadezoo.exporting.checking import Arrays, Infer, check, compared
from cascadezoo.exporting.formats import Options, Written
from cascadezoo.exporting.graph import Graph
from cascadezoo.exporting.metadata import KEY, document, text
from cascadezoo.exporting.quiet import quiet
from cascadezoo.exporting.scratch import no_room, scratch
from cascadezoo.exporting.to_onnx import is_large, put, require_exportable, save, translated

FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
_PRODUCTS = frozenset({"Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"})
_log = logging.getLogger("cascadezoo")


def write(model: Detector, options: Options, target: Path) -> Written:
    """Write ``target`` and the ``.bin`` file beside it, read again and run beside PyTorch.

    int8 is quantised by NNCF after training, on the images of ``options.calibration``; fp16 stores the weights of
    products in float16, and computes in float32.  What either costs is measured (``accuracy.measured``).  The metadata
    lie in ``rt_info`` under ``metadata.KEY``.

    Raises:
        DepartsFromModel: the file does not detect what the model does.
        LosesAccuracy: fp16 or int8 costs too much; and what ``accuracy.opened`` and ``Calibration`` raise.
        OutputExists: the ``.bin`` file is there.
        UnwritableOutput: there is no room, or no right, to write them.
    """
    require_exportable(model)
    weights = target.with_suffix(".bin")
    if weights.exists() and not options.force:
        raise OutputExists(f"{weights} is already there: choose another output, or pass --force to replace it")
    graph = Graph(model, bool(options.preprocess)).eval()
    calibration = None if options.calibration is None else Calibration(model, graph, options.calibration)
    with scratch() as folder, opened(model, options) as data:
        _log.info("translating the graph to ONNX, and that to OpenVINO")
        network = folded(_translated(graph, options, folder))
        more: dict[str, Any] = {}
        notes: tuple[str, ...] = ()
        if options.is_narrow:
            _log.info("making it narrower, and measuring what that costs")
            plain = runner(network)
            network = halved(network) if calibration is None else quantised(network, calibration)
            cost = measured(model, graph, data, plain, runner(network), options)
            more, notes = facts(calibration, cost), (note(calibration, cost),)
        _log.info("running the file beside PyTorch")
        network.set_rt_info(text(document(model, graph, options, **more)), [KEY])
        made = folder / "model.xml"
        import openvino

        try:
            openvino.save_model(network, made, compress_to_fp16=False)
        except RuntimeError as error:  # its streams do not say why
            raise no_room("is the disk full?") from error
        compare = compared if options.is_narrow else check
        found = compare(model, graph, runner(read(made)), options.axes)
        return Written(put((made, target), (made.with_suffix(".bin"), weights)), found, notes)


def _translated(graph: Graph, options: Options, folder: Path) -> Any:
    """OpenVINO's model of the graph; weights that one ONNX file cannot hold lie in ``folder`` as long as it is used."""
    if not is_large(graph.model):
        return completed(read(translated(graph, options, "")), graph, options.axes)
    path = folder / "large.onnx"
    save(path, graph, options, "")
    return completed(read(path), graph, options.axes)


def completed(network: Any, graph: Graph, axes: Sequence[str]) -> Any:
    """The same with all inputs of the graph: OpenVINO leaves out those that nothing needs, which ``original_sizes`` is
    to many entries where the batch is fixed."""
    from openvino import PartialShape, Type, opset13

    there = {name for port in network.inputs for name in port.names}
    for name in graph.inputs:
        if name not in there:
            added = opset13.parameter(PartialShape([-1 if "batch" in axes else 1, 2]), Type.f32, name=name)
            added.output(0).tensor.set_names({name})
            network.add_parameters([added])
    return network


def read(file: Path | bytes) -> Any:
    """OpenVINO's model of an ONNX or ``.xml`` file."""
    import openvino

    return openvino.Core().read_model(file)


def folded(network: Any) -> Any:
    """The same with its constants folded: a weight that is computed is neither stored in 8 bits nor quantised well."""
    from openvino.passes import ConstantFolding, Manager

    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(network)
    return network


def runner(network: Any, threads: int | None = None) -> Infer:
    """How to run a model on the CPU, in float32 where it is not quantised; None: on as many threads as it likes."""
    import openvino

    settings = FLOAT32 if threads is None else {**FLOAT32, "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(network, "CPU", settings)
    names = [port.any_name for port in compiled.outputs]

    def infer(inputs: Arrays) -> Arrays:
        contiguous = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        return dict(zip(names, compiled(contiguous).values(), strict=True))

    return infer


def quantised(network: Any, calibration: Calibration) -> Any:
    """The same with convolutions and matrix products in 8 bits, except for those ``in_float32``."""
    os.environ.setdefault("NNCF_CI", "1")  # else it tells its makers that it is used
    import nncf

    nncf.set_log_level(logging.ERROR)  # it names all that it leaves as it is
    others = [node.get_friendly_name() for node in network.get_ordered_ops() if not _narrowed(node)]
    with quiet(), redirect_stdout(sys.stderr):  # its progress
        return nncf.quantize(
            network,
            nncf.Dataset(calibration),
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(names=others, validate=False),
        )


def halved(network: Any) -> Any:
    """The same, changed in place, with the weights of its products in float16 and a conversion to float32 behind each.

    OpenVINO's own ``compress_to_fp16`` would take the constants of the geometry, such as anchors, as well.
    """
    from openvino import opset13

    for node in network.get_ordered_ops():
        weight = node.input_value(1).get_node() if node.get_type_name() in _PRODUCTS else None
        if weight is None or weight.get_type_name() != "Constant" or in_float32(weight.get_friendly_name()):
            continue
        half = as_float16(weight.data)
        if half is not None:
            stored = opset13.constant(half, name=f"{weight.get_friendly_name()}.float16")
            node.input(1).replace_source_output(opset13.convert(stored, "f32").output(0))
    return network


def _narrowed(node: Any) -> bool:
    if node.get_type_name() not in _PRODUCTS:
        return False
    weight = node.input_value(1).get_node().get_friendly_name()
    unnamed = node.get_type_name() == "MatMul" and not weight.startswith("model.")  # a linear layer of a backbone
    return not (unnamed or in_float32(weight))
