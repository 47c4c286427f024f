"""``cascadezoo.export``: a model out of this package, by format.

(Not ``export.py``: that is the function's name.)
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cascadezoo.checkpoints.exporting import export as export_checkpoint
from cascadezoo.errors import OutputExists, UnwritableOutput, UsageError, WeightsNotFound, WrongType
from cascadezoo.exporting.formats import GRAPHS, Format, Options, check_options, dynamic_axes, unmeasurable
from cascadezoo.files import can_be_written
from cascadezoo.hub.sources import LocalSource, parse
from cascadezoo.manifest import ZooEntry
from cascadezoo.paths import expanded
from cascadezoo.providers import FORMATS
from cascadezoo.registry import info

if TYPE_CHECKING:
    from cascadezoo.converters.report import ExportReport
    from cascadezoo.detector import Detector
    from cascadezoo.exporting.report import GraphReport


def export(
    model: "str | Detector",
    format: str,
    weights: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    *,
    precision: str | None = None,
    opset: int | None = None,
    preprocess: bool = False,
    dynamic: Sequence[str] | None = None,
    calibration: str | os.PathLike[str] | None = None,
    val_json: str | os.PathLike[str] | None = None,
    val_images: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> "ExportReport | GraphReport":
    """Write a model as a file that other programs run: a whole detector, or a checkpoint of its publisher.

    A publisher's format (mmdet, paddle, …) holds canonical weights as the publisher's own code reads them, equal in
    every tensor that inference uses.  The other formats hold the whole detector; what is written has been run beside
    PyTorch on two images of different sizes and on a batch of two, as far as its axes are dynamic.

    Args:
        model: an entry's name, or what else ``load`` takes; a loaded model for a format that is no publisher's.
        format: a publisher, or one of ``exporting.formats.GRAPHS``.
        weights: a file, as for ``load``; for a publisher's format a canonical one.  Default: the entry's published
            weights, which the formats of whole detectors fetch where the cache lacks them; for a publisher's format
            they have to be in the cache already (``download``).
        output: the file to write; default: ``<entry>`` with the format's ending, beside ``weights`` or in the current
            folder.
        precision: "fp32", the default; "fp16", of which the weights are stored in half and the rest is as in fp32; or
            "int8", in which most products are computed.
        opset: the version of ONNX's operators; default: the lowest that has all that is used.
        preprocess: the graph takes RGB images (N, h, w, 3), resized already, and normalises and pads them itself.
        dynamic: which of batch, height and width may differ from call to call; default: all; of a network that
            pads every image to one square, only the batch.  What may not is one image of the entry's scale.
        calibration: a folder of images to quantise by.
        val_json, val_images: COCO annotations and the folder of their images, on which the cost of fp16 and of int8 is
            measured; default: for an entry that was trained on the drawn shapes, these.
        force: replace ``output`` if it exists, never an input; write fp16 and int8 whatever it costs.

    Raises:
        UsageError: no such entry or format, an option that the format does not take, a model in training mode or an
            optimised one, OutputExists.
        MissingResource: a package that the format needs is not installed, or the weights are not to be had.
        DepartsFromModel: the file does not detect what the model does; nothing is left at ``output``.
        LosesAccuracy: fp16 or int8 loses too much average precision; nothing is left at ``output``.
        FileError: the weights cannot be read, or the output cannot be written.
    """
    if dynamic is not None and (isinstance(dynamic, str) or not isinstance(dynamic, Iterable)):
        raise WrongType(f'dynamic: give a sequence of names, such as ("batch", "height"), not {dynamic!r}')
    options = Options(
        precision=precision,
        opset=opset,
        preprocess=preprocess or None,
        dynamic=None if dynamic is None else tuple(dynamic),
        calibration=None if calibration is None else expanded(calibration),
        val_json=None if val_json is None else expanded(val_json),
        val_images=None if val_images is None else expanded(val_images),
        force=force,
    )
    if format not in GRAPHS and format not in FORMATS:
        raise UsageError(f"no files of {format!r} can be written: choose one of {', '.join((*GRAPHS, *FORMATS))}")
    check_options(format, options)
    if format in GRAPHS:
        return _export_graph(model, format, weights, output, options)
    if not isinstance(model, str):
        raise WrongType(f"model: give an entry's name and weights=FILE for the format {format}, not a loaded model")
    source = None if weights is None else expanded(weights)
    return export_checkpoint(model, format, source, None if output is None else expanded(output), force=force)


def _export_graph(
    model: "str | Detector",
    format: str,
    weights: str | os.PathLike[str] | None,
    output: str | os.PathLike[str] | None,
    options: Options,
) -> "GraphReport":
    if not isinstance(model, str) and weights is not None:
        raise UsageError("a loaded model brings its own weights: leave weights=FILE out")
    if weights is not None and not expanded(weights).is_file():
        raise WeightsNotFound(f"{expanded(weights)}: no such file; give the weights of {model}")
    chosen = GRAPHS[format]
    inputs = _inputs(model, weights, options)
    if output is not None:
        _protect(expanded(output), chosen, options.force, inputs)
    elif not _is_open(folder := Path() if weights is None else expanded(weights).parent):
        raise UnwritableOutput(f"{folder.absolute()} cannot be written to: choose an output elsewhere")
    if isinstance(model, str):
        chosen.require(options.precision)  # before its weights are fetched; of a loaded model what is wrong comes first
        if weights is None and parse(model) is None:
            _require_data(info(model), options)
    from cascadezoo.detector import OptimizedDetector  # torch, now that there is something to export
    from cascadezoo.exporting.report import GraphReport
    from cascadezoo.loading import load
    from cascadezoo.saving import bare

    detector = load(model, weights=weights, pretrained=weights is None) if isinstance(model, str) else bare(model)
    if isinstance(detector, OptimizedDetector):
        raise UsageError("an optimised model has layers of its own: export the model that it was made of")
    if detector.training:
        raise UsageError("the model is in training mode: call model.eval() before export")
    target = expanded(output) if output is not None else _default(detector, weights, chosen.suffix)
    _protect(target, chosen, options.force, inputs)
    options = replace(options, dynamic=dynamic_axes(detector.spec.preprocess, options))
    chosen.require(options.precision)
    written = chosen.write()(detector, options, target)
    return GraphReport(
        entry=detector.origin.entry,
        format=format,
        output=target,
        output_sha256=written.sha256,
        precision=options.precision or chosen.precisions[0],
        images=written.check.images,
        detections=written.check.detections,
        box_difference=written.check.box,
        score_difference=written.check.score,
        mask_iou=written.check.mask,
        notes=written.notes,
    )


def _require_data(entry: ZooEntry, options: Options) -> None:
    """Raise UsageError where what a narrower precision costs has to be measured, and no data are there for it."""
    if options.is_narrow and not options.force and options.val_json is None and entry.data != "shapes":
        raise unmeasurable(options)


def _default(model: "Detector", weights: str | os.PathLike[str] | None, suffix: str) -> Path:
    name = f"{model.origin.entry or model.origin.architecture or 'model'}{suffix}"
    return Path(name) if weights is None else expanded(weights).with_name(name)


def _is_open(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK)


def _can_be_written(target: Path, format: Format) -> bool:
    """Whether kinds of files and permissions allow this output."""
    if format.is_folder:
        return _is_open(Path(os.path.realpath(target)).parent)
    return can_be_written(target) and not (format.pairs and format.second and not can_be_written(format.second(target)))


def _inputs(model: "str | Detector", weights: str | os.PathLike[str] | None, options: Options) -> list[Path]:
    """The files and folders that are read, as far as they are the caller's and there."""
    source = parse(model) if isinstance(model, str) else None
    named = [None if weights is None else expanded(weights), options.val_json, options.calibration, options.val_images]
    if isinstance(source, LocalSource):
        named += [source.folder / "config.json", source.folder / "model.safetensors"]
    return [path for path in named if path is not None and path.exists()]


def _protect(target: Path, format: Format, force: bool, inputs: Sequence[Path]) -> None:
    """Raise where ``target`` cannot be written, or what would be replaced by it and by the file beside it is an input
    or, without ``force``, anything."""
    if format.pairs and target.suffix != format.suffix:
        raise UsageError(f"{target}: this format writes a pair of files, end the first one's name in {format.suffix}")
    if target.is_file() if format.is_folder else target.is_dir():
        kinds = ("a file", "a folder") if format.is_folder else ("a folder", "a file")
        raise UnwritableOutput(f"{target} is {kinds[0]}, and this format writes {kinds[1]}: choose another output")
    if format.is_folder and (target.is_mount() or Path.cwd().is_relative_to(target.resolve())):
        raise UnwritableOutput(
            f"{target} is the current folder, one above it or a mount, which is not replaced: name a folder of its own"
        )
    if not _can_be_written(target, format):
        raise UnwritableOutput(
            f"{target} cannot be written: give an output in a folder that is there and can be written to"
        )
    for path in inputs:
        if format.is_folder and path.resolve().is_relative_to(target.resolve()):
            raise OutputExists(f"{path}, an input, lies in {target}: choose another output")
        for written in (target, *([format.second(target)] if format.second else [])):
            if path.is_dir() and written.exists() and written.resolve().is_relative_to(path.resolve()):
                raise OutputExists(f"{written} lies in {path}, an input: choose another output")
            if written.exists() and written.samefile(path):
                raise OutputExists(f"{written} is an input itself: choose another output")
    if (target.is_file() or target.is_dir()) and not force:
        raise OutputExists(f"{target} is already there: choose another output, or pass --force to replace it")
