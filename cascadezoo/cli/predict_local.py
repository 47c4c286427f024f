"""``cascadezoo predict`` on this machine: images, then videos, then the files of all images."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cascadezoo
from cascadezoo.cli.parameters import threshold_text
from cascadezoo.cli.sources import Moving, Still, find_sources, stems_of
from cascadezoo.cli.terminal import echo, echo_json
from cascadezoo.errors import CascadezooError
from cascadezoo.outputs.kinds import ANNOTATIONS

if TYPE_CHECKING:
    from cascadezoo.outputs.outputs import Outputs
    from cascadezoo.predictor import Predictor


@dataclass
class _Told:
    """What has been said: lines on stdout, or with ``--json`` on stderr, and failures, each named when it happens; the
    worst decides the exit code."""

    as_json: bool
    exit_code: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)

    def line(self, text: str) -> None:
        echo(text, err=self.as_json)

    def notes(self, texts: Sequence[str]) -> None:
        for text in texts:
            echo(f"cascadezoo: {text}", err=True)

    def failure(self, name: str, error: CascadezooError) -> None:
        self.notes([str(error)])
        self.failed.append({"file_name": name, "error": str(error)})
        self.exit_code = max(self.exit_code, error.exit_code)


def predict_local(
    name: str,
    given: Sequence[str],
    out: Path,
    kinds: Sequence[str],
    *,
    recursive: bool,
    at_once: int | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Detect on what ``given`` stands for, with ``options`` for ``Predictor``, and write ``kinds`` of results into
    ``out``; returns the exit code.  Raises what makes all of it impossible."""
    told = _Told(as_json)
    sources = find_sources(given, recursive)
    told.notes(sources.notes)
    for text, error in sources.failed:
        told.failure(text, error)
    if not sources:
        return told.exit_code
    from cascadezoo.hub.progress import steps
    from cascadezoo.outputs.outputs import Outputs  # and torch, now that there is an image
    from cascadezoo.predictor import Predictor

    predictor = Predictor(name, **options)
    with steps(f"loading {name}"):
        model = predictor.model
    threshold = threshold_text(options["threshold"])
    of_outputs: dict[str, Any] = {
        "categories": model.categories,
        "has_masks": model.spec.mask is not None,
        "description": f"cascadezoo {cascadezoo.version.__version__} predict {name} --threshold {threshold}",
        "given": [still.path for still in sources.stills if still.path is not None],
    }
    more: dict[str, Any] = {
        "left_out": [{"file_name": str(path), "reason": reason} for path, reason in sources.left_out],
        "failed": told.failed,
    }
    of_stills = [kind for kind in kinds if sources.stills or kind == "coco"]
    with Outputs(of_stills or kinds, out, **of_outputs) as outputs:
        _on_stills(predictor, sources.stills, outputs, at_once, told)
        interrupted = False
        if sources.moving:
            more["videos"] = []
            interrupted = _on_moving(predictor, sources.moving, (kinds, out), of_outputs, at_once, told, more["videos"])
        if of_stills:
            outputs.finish(more)
    told.notes(outputs.notes)
    if interrupted:
        raise KeyboardInterrupt
    if as_json:
        echo_json((out / ANNOTATIONS).read_text(encoding="utf-8"))
    return told.exit_code


def _on_stills(
    predictor: "Predictor", stills: Sequence[Still], outputs: "Outputs", at_once: int | None, told: _Told
) -> None:
    from cascadezoo.cli.predict_images import predicted

    with closing(predicted(predictor, stills, outputs, at_once)) as done:
        for still, one in zip(stills, done, strict=True):
            if isinstance(one, CascadezooError):
                told.failure(still.name, one)
            else:
                told.line(one)


def _on_moving(
    predictor: "Predictor",
    moving: Sequence[Moving],
    results: tuple[Sequence[str], Path],
    of_outputs: dict[str, Any],
    at_once: int | None,
    told: _Told,
    records: list[dict[str, Any]],
) -> bool:
    """Whether Ctrl-C ended it: of a camera it ends that alone.  ``results``: their kinds and folder."""
    from cascadezoo.cli.predict_video import seen

    kinds, folder = results
    files = [one.source if isinstance(one.source, Path) else None for one in moving]
    stems = stems_of([(one.stem, file) for one, file in zip(moving, files, strict=True)], folder, ".mp4")
    for one, file, stem in zip(moving, files, stems, strict=True):
        try:
            found = seen(predictor, one, kinds, folder, stem, at_once, **of_outputs)
        except CascadezooError as error:
            told.failure(one.name, error)
            continue
        records.append(found.record)
        told.line(found.line)
        told.notes(found.notes)
        if found.fault is not None:
            told.failure(one.name, found.fault)
        if found.interrupted and file is not None:
            return True
    return False
