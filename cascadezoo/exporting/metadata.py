"""What a runner without this package has to know beside the graph, as one JSON document.

The same document goes into ONNX's ``metadata_props`` under ``KEY``, into packages of PyTorch as ``<KEY>.json``, into
OpenVINO's ``rt_info`` and beside a server's model.
"""

import json
from typing import Any

from cascadezoo.converters.canonical import content_digest
from cascadezoo.detector import Detector
from cascadezoo.exporting.formats import Options
from cascadezoo.exporting.graph import Graph
from cascadezoo.spec.conventions import Interpolation
from cascadezoo.spec.model import MaskHeadSpec
from cascadezoo.version import __version__

KEY = "cascadezoo"
VERSION = 1  # of the document: raised where a reader of the one before would go wrong


def document(model: Detector, graph: Graph, options: Options, **more: Any) -> dict[str, Any]:
    """The document; ``more`` is what one format alone knows, such as how it was quantised."""
    spec, origin = model.spec, model.origin
    conventions, resize = spec.conventions.model_dump(mode="json"), spec.conventions.resize
    tensors = {name: tensor.detach().float().cpu() for name, tensor in model.state_dict().items()}
    return {
        "format": VERSION,
        "library": "cascadezoo",
        "version": __version__,
        "entry": origin.entry,
        "architecture": origin.architecture,
        "publisher": origin.publisher,
        "categories": [{"id": i, "name": name} for i, name in zip(model.categories.ids, model.categories, strict=True)],
        "preprocess": {
            **spec.preprocess.model_dump(mode="json"),  # min_size, max_size, mean, std, size_divisor, square
            **resize.model_dump(mode="json"),  # interpolation, step, float32, rounded_limit, scaled_twice, bounds
            "colour": "RGB",
            "resized_by": "Pillow" if resize.interpolation is Interpolation.PILLOW else "OpenCV",
            "in_graph": graph.preprocess,
        },
        "paste": conventions["paste"],
        "extent": spec.stages[-1].extent,
        "mask_side": _mask_side(spec.mask),
        "score_threshold": spec.conventions.selection.score_thresh,
        "detections_per_image": spec.conventions.selection.detections_per_img,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "dynamic": list(options.axes),
        "precision": options.precision or "fp32",
        "conventions": conventions,
        "content_digest": content_digest(tensors),
        "started_from": origin.started_from,
        "code_license": origin.code_license,
        "weights_license": origin.weights_license,
        "attribution": origin.attribution,
        "source_url": origin.source_url,
        **more,
    }


def _mask_side(mask: MaskHeadSpec | None) -> int | None:
    """M; the fourth ResNet stage halves the side that the transposed convolution doubles."""
    if mask is None:
        return None
    return mask.resolution if mask.shares_box_features else 2 * mask.resolution


def text(found: dict[str, Any]) -> str:
    """The document as JSON; infinities are strings, so that it is JSON to everyone."""
    plain = json.loads(json.dumps(found), parse_constant=str)
    return json.dumps(plain, ensure_ascii=False, allow_nan=False)
