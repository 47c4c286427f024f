"""A model of Triton Inference Server: the ONNX file with its configuration, as a folder of a model repository.

    <name>/config.pbtxt      written from the inputs and outputs of the file
    <name>/1/model.onnx      the model, for the onnxruntime backend; weights of 2 GiB in model.onnx.data beside it
    <name>/labels.txt        the categories' names, a line for each label
    <name>/cascadezoo.json   the document of ``metadata``

Fields: triton-inference-server/common ``protobuf/model_config.proto``.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cascadezoo.detector import Detector
from cascadezoo.errors import OutputExists, UnwritableOutput
from cascadezoo.exporting import metadata, to_onnx
from cascadezoo.exporting.formats import Options, Written

_CONFIG = "config.pbtxt"
_TYPES = {1: "TYPE_FP32", 2: "TYPE_UINT8", 7: "TYPE_INT64", 10: "TYPE_FP16"}  # by the number of ONNX's TensorProto
_MOST = 8  # images of a batch
_DELAY = 2000  # microseconds that an image waits for others of its size
_log = logging.getLogger("cascadezoo")


def write(model: Detector, options: Options, target: Path) -> Written:
    """Write the folder ``target``, whose name is the model's; a model that is there is replaced, of a link its target.

    Raises OutputExists where something else is there, such as a whole repository, and what ``to_onnx.write`` raises;
    then nothing is left, and what was there is.
    """
    if target.is_dir() and any(target.iterdir()) and not (target / _CONFIG).is_file():
        raise OutputExists(
            f"{target} is a folder without {_CONFIG}, so no model, and not replaced: choose another output"
        )
    place = Path(os.path.realpath(target))
    name = place.name if target.name in ("", "..") else target.name  # of a link its own, which Triton looks for
    try:
        with TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as made:
            folder = Path(made) / name
            (folder / "1").mkdir(parents=True)
            file = folder / "1" / "model.onnx"
            written = to_onnx.write(model, options, file)
            _write_beside(folder, file, list(model.categories))
            _put(folder, place, Path(f"{made}.old"))
    except OSError as error:
        raise UnwritableOutput(f"{target} cannot be written: {error.strerror or error}") from error
    return written


def _put(folder: Path, place: Path, old: Path) -> None:
    """Rename a folder to ``place``; what is there is ``old`` until then, and there again after an error or Ctrl-C."""
    try:
        if place.is_dir():
            place.rename(old)
        folder.rename(place)
    except BaseException:
        if old.is_dir() and not place.exists():
            old.rename(place)
        raise
    try:
        if old.is_dir():
            shutil.rmtree(old)
    except OSError as error:
        _log.warning("%s, which was there before, could not be removed: %s", old, error.strerror or error)


def _write_beside(folder: Path, file: Path, names: list[str]) -> None:
    import onnx

    model = onnx.load(file, load_external_data=False)
    (about,) = (each.value for each in model.metadata_props if each.key == metadata.KEY)
    (folder / f"{metadata.KEY}.json").write_text(about, "utf-8")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in names), "utf-8")
    (folder / _CONFIG).write_text(config(model, folder.name), "utf-8")


def config(model: Any, name: str) -> str:
    """The text of config.pbtxt for an ONNX model (``onnx.ModelProto``) in a folder called ``name``.

    Where the first axis of every input and output is dynamic it is the batch: Triton leaves it out of the dimensions,
    and joins requests whose other dimensions are equal.
    """
    inputs, outputs = list(model.graph.input), list(model.graph.output)
    batched = all(_dims(each)[0] == -1 for each in (*inputs, *outputs))
    lines = [f"name: {json.dumps(name)}", 'backend: "onnxruntime"', f"max_batch_size: {_MOST if batched else 0}"]
    for kind, values in (("input", inputs), ("output", outputs)):
        lines += [f"{kind} [", ",\n".join("\n".join(_tensor(each, int(batched))) for each in values), "]"]
    if batched:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {_DELAY} }}")
    lines.append("instance_group [ { count: 1 kind: KIND_AUTO } ]")  # a GPU where Triton has one
    return "\n".join(lines) + "\n"


def _tensor(value: Any, skipped: int) -> Iterator[str]:
    yield "  {"
    yield f"    name: {json.dumps(value.name)}"
    yield f"    data_type: {_TYPES[value.type.tensor_type.elem_type]}"
    dims = _dims(value)[skipped:]
    # without its batch, one number for each image has no dimension left, where Triton wants one
    yield f"    dims: [ {', '.join(map(str, dims or [1]))} ]"
    if not dims:
        yield "    reshape: { shape: [ ] }"
    yield "  }"


def _dims(value: Any) -> list[int]:
    """The sizes of the axes; -1 for a dynamic one."""
    return [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]
