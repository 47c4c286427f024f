"""ONNX files in narrower precisions.

* int8: products between QuantizeLinear and DequantizeLinear, by ONNX Runtime's static quantisation; weights have a
  scale for each of their outputs.
* fp16: weights of products stored in float16, each with a Cast to float32 behind it; the products are in float32.

What is left in float32 is what ``calibrating.in_float32`` says.
"""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cascadezoo.exporting.calibrating import Calibration, as_float16, in_float32

_PRODUCTS = ["Conv", "ConvTranspose", "Gemm"]  # MatMul: linear layers of backbones


def quantised(content: bytes, calibration: Calibration) -> bytes:
    """The ONNX file of ``content`` with convolutions and matrix products in 8 bits, without metadata of ours."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with TemporaryDirectory(prefix="cascadezoo-") as folder:
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        _fold(content, source)
        kept = [
            node.name
            for node in onnx.load(source).graph.node
            if node.op_type in _PRODUCTS and in_float32(node.input[1])
        ]
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)  # of steps before it that are done here
        try:
            quantize_static(
                source,
                target,
                _reader(calibration),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_PRODUCTS,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=kept,
            )
        finally:
            logging.disable(before)
        return target.read_bytes()


def halved(content: bytes) -> bytes:
    """The ONNX file of ``content`` with the weights of its products in float16, without metadata of ours."""
    import onnx
    from onnx import helper, numpy_helper

    with TemporaryDirectory(prefix="cascadezoo-") as folder:
        source = Path(folder) / "float32.onnx"
        _fold(content, source)
        made = onnx.load(source)
    weights = {node.input[1] for node in made.graph.node if node.op_type in (*_PRODUCTS, "MatMul")}
    casts = []
    for tensor in made.graph.initializer:
        if tensor.name not in weights or in_float32(tensor.name):
            continue
        half = as_float16(numpy_helper.to_array(tensor))
        if half is not None:
            casts.append(helper.make_node("Cast", [f"{tensor.name}.float16"], [tensor.name], to=onnx.TensorProto.FLOAT))
            tensor.CopyFrom(numpy_helper.from_array(half, f"{tensor.name}.float16"))
    nodes = [*casts, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return bytes(made.SerializeToString(deterministic=True))


def with_metadata(content: bytes, key: str, about: str) -> bytes:
    """The ONNX file with this metadata alone."""
    import onnx

    made = onnx.load_from_string(content)
    del made.metadata_props[:]
    made.metadata_props.add(key=key, value=about)
    whole: bytes = made.SerializeToString(deterministic=True)
    return whole


def _fold(content: bytes, target: Path) -> None:
    """Write the file with its constants folded: a weight that is computed would be quantised as an input is."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _reader(calibration: Calibration) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.inputs = iter(calibration)

        def get_next(self) -> Any:
            return next(self.inputs, None)

    return Reader()
