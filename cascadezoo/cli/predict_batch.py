"""``cascadezoo predict --engine ray``: many images, results in parts that outlive the process, then in one piece."""

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cascadezoo
from cascadezoo import errors
from cascadezoo.batch.parts import Part, PartsFolder, digest_of, divided, parts_folder
from cascadezoo.cli.batch_inputs import BatchInputs, find_batch
from cascadezoo.cli.parameters import threshold_text
from cascadezoo.cli.progress import progress
from cascadezoo.cli.terminal import echo
from cascadezoo.errors import MissingResource, UsageError
from cascadezoo.tiling.tiles import Tiles

if TYPE_CHECKING:
    from cascadezoo.detector import Detector
    from cascadezoo.predictor import Predictor

_LINES, _TABLE = ".jsonl", ".parquet"  # ends of the output's name; any other is a folder for an annotation file


def predict_batch(
    name: str,
    images: Sequence[str],
    out: Path,
    *,
    annotation_file: str,
    address: str | None,
    actors: int | None,
    column: str | None,
    **options: Any,
) -> int:
    """Detect on what ``images`` stand for, with ``options`` for ``Predictor``; returns the exit code.

    ``out`` is a file of JSON lines, a folder for Parquet files, or one for the ``annotation_file``, by its name's end.

    Raises MissingResource where there is no Ray, before anything else is done, and what its parts raise.
    """
    if find_spec("ray") is None:
        raise MissingResource('--engine ray needs Ray: pip install "ray[data]"')
    if options["device"] not in (None, "cpu", "cuda"):
        raise UsageError(f"--device {options['device']}: Ray says which GPU an actor gets, so give cpu or cuda alone")
    inputs = find_batch(images, column)
    for note in inputs.notes:
        echo(f"cascadezoo: {note}", err=True)
    for _, error in inputs.failed:
        echo(f"cascadezoo: {error}", err=True)
    exit_code = max((error.exit_code for _, error in inputs.failed), default=0)
    parts = divided(inputs.pieces)
    if not parts:
        return exit_code
    from cascadezoo.predictor import Predictor  # torch is imported only when there is an image

    target = out if out.suffix.lower() in (_LINES, _TABLE) else out / annotation_file
    with parts_folder(out / "parts" if target != out else out.with_name(f"{out.name}.parts")) as folder:
        model = Predictor(name, **{**options, "device": "cpu", "optimize": False, "exact": False}).build()
        folder.claim(_identity(name, model, options, parts))
        categories = model.categories
        del model  # the actors make their own
        _detect(Predictor(name, **options), parts, folder, address, actors)
        threshold = threshold_text(options["threshold"])
        description = f"cascadezoo {cascadezoo.version.__version__} predict {name} --threshold {threshold}"
        _assemble(target, folder, parts, categories, description, inputs)
        return max(exit_code, _sum_up(target, folder, parts))


def _identity(
    name: str, model: "Detector", options: dict[str, Any], parts: Sequence[Part]
) -> dict[str, dict[str, object]]:
    """All that a part's results depend on."""
    from cascadezoo.converters.canonical import content_digest

    tiles: Tiles | None = options["tiles"]
    settings = (
        "device", "precision", "optimize", "exact", "batch_size", "threshold", "classes", "max_detections", "tta",
    )  # fmt: skip
    return {
        "model": {
            "name": name,
            "weights": content_digest(model.state_dict()),
            "network": _sha256(model.spec.to_json()),
            "categories": _sha256(model.categories.to_json()),
        },
        "settings": {setting: options[setting] for setting in settings} | {"tiles": tiles and asdict(tiles)},
        "software": {package: version(package) for package in ("torch", "torchvision")}
        | {"cascadezoo": cascadezoo.version.__version__},
        "images": {"images": sum(len(part.names) for part in parts), "list of images": digest_of(parts)},
    }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _detect(
    predictor: "Predictor", parts: Sequence[Part], folder: PartsFolder, address: str | None, actors: int | None
) -> None:
    done = folder.done()
    todo = [part for part in parts if part.number not in done]
    if not todo:
        return
    from cascadezoo.batch.engine import detected

    total, left = (sum(len(part.names) for part in some) for some in (parts, todo))
    if left < total:
        echo(f"cascadezoo: {total - left} of {total} images are done already", err=True)
    with (
        progress("predict", "images", total, total - left) as advance,
        closing(detected(predictor, todo, address=address, actors=actors)) as results,
    ):
        for part, lines in results:
            folder.keep(part, lines)
            advance(len(part.names))


def _assemble(
    target: Path, folder: PartsFolder, parts: Sequence[Part], categories: Any, description: str, inputs: BatchInputs
) -> None:
    from cascadezoo.batch.assembly import write_annotation_file, write_lines, write_table

    if target.suffix.lower() == _LINES:
        write_lines(target, folder, parts)
    elif target.suffix.lower() == _TABLE:
        write_table(target, folder, parts, categories)
    else:
        left_out = [{"file_name": path, "reason": reason} for path, reason in inputs.left_out]
        failed = [{"file_name": given, "error": str(error)} for given, error in inputs.failed]
        write_annotation_file(target, folder, parts, categories, description, left_out, failed)


def _sum_up(target: Path, folder: PartsFolder, parts: Sequence[Part]) -> int:
    """Name the images that failed, and say what there is; returns the exit code of the worst."""
    images = failed = found = exit_code = 0
    for part in parts:
        for _, record in folder.read(part):
            images += 1
            if "error" in record:
                failed += 1
                exit_code = max(exit_code, getattr(errors, record["error_type"]).exit_code)
                echo(f"cascadezoo: {record['error']}", err=True)
            else:
                found += len(record["detections"])
    said = f", {failed} of which failed" if failed else ""
    echo(f"{images} image{'s' * (images != 1)}{said}: {found} detection{'s' * (found != 1)} -> {target}")
    return exit_code
