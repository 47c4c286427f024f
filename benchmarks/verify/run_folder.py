"""The folder of a run: locked while the run lasts, it holds what is finished and says of what each figure is.

``run.json`` says what all entries share; a folder that is another run's is refused.  An entry's ``report.json`` holds
its finished parts, each with all that its figures depend on: where any of it has changed, that part is measured again.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import Field, ValidationError

from cascadezoo import registry
from cascadezoo.benchmarks.reports.digest import code_digest
from cascadezoo.benchmarks.reports.schema import EntryReport, Machine, Settings
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.errors import CascadezooError, UnsupportedEntry, UnwritableOutput, UsageError
from cascadezoo.files import parse_json, write_json
from cascadezoo.folder_lock import locked
from cascadezoo.hub.cache import weights_path
from cascadezoo.manifest import ZooEntry
from cascadezoo.spec.model import ModelSpec
from cascadezoo.spec.record import Record

Depends = dict[str, Any]  # by the word for it in messages; JSON data, None for what is not known now
Part = Literal["accuracy", "speed"]

_RUN, _ENTRY = "run.json", "report.json"
_FORMAT: Literal["cascadezoo verify run 2"] = "cascadezoo verify run 2"
# begins of names of the sources that figures come from; of other sources a change is none of theirs
_DETECTING = tuple(
    f"cascadezoo.{name}."
    for name in (
        "coco", "csrc", "detecting", "detection_fields", "detection_rows", "detections", "detector", "devices",
        "image_files", "images", "levels", "loading", "mask_rles", "modeling", "ops", "optimizing", "spec", "threads",
        "benchmarks.verify.accuracy", "benchmarks.verify.coco_layout", "benchmarks.verify.results_stream",
        "benchmarks.verify.shares",
    )
)  # fmt: skip


def _is_deformable(entry: ZooEntry, spec: ModelSpec) -> bool:
    return bool(getattr(spec.backbone, "deformable_stages", ()))


# of these, what only some networks use: whether this one does
_ONLY: tuple[tuple[tuple[str, ...], Callable[[ZooEntry, ModelSpec], bool]], ...] = (
    (
        ("modeling.internimage.", "ops.dcnv3.", "csrc.dcnv3_", "csrc.cpu.dcnv3", "csrc.cuda.dcnv3"),
        lambda entry, spec: spec.backbone.kind == "internimage",
    ),
    (("modeling.convnext.",), lambda entry, spec: spec.backbone.kind == "convnext"),
    (("modeling.swin.",), lambda entry, spec: spec.backbone.kind == "swin"),
    (("modeling.vit.", "modeling.simple_pyramid."), lambda entry, spec: spec.backbone.kind == "vit"),
    (("modeling.channels_last.",), lambda entry, spec: spec.backbone.kind != "resnet"),
    (("csrc.dcnv3.",), lambda entry, spec: spec.backbone.kind == "internimage" or _is_deformable(entry, spec)),
    (("ops.deform_conv2d.", "csrc.cpu.deform_conv2d"), _is_deformable),
    (("modeling.fpn.",), lambda entry, spec: spec.neck is not None),
    (("modeling.mask_head.", "ops.mask_paste."), lambda entry, spec: spec.mask is not None),
    (("modeling.tta.",), lambda entry, spec: any(evaluation.tta for evaluation in entry.evaluations)),
)
_JUDGING = ("cascadezoo.benchmarks.reports.verdict.",)
_TIMING = ("cascadezoo.benchmarks.verify.speed.", "cascadezoo.benchmarks.verify.timing.")
_CONVERTING = ("cascadezoo.converters.", "cascadezoo.checkpoints.")  # of weights that were given
_LIBRARIES = ("torch", "torchvision", "numpy", "opencv-python-headless")

_log = logging.getLogger("cascadezoo")


class _Kept(Record):
    """An entry's finished parts as they lie on disk."""

    format: Literal["cascadezoo verify run 2"] = _FORMAT
    depends: dict[Part, Depends] = Field(description="What each finished part depends on.")
    report: EntryReport


@dataclass(frozen=True)
class Finished:
    """What is kept of an entry.

    Attributes:
        report: its finished parts; None where there are none.
        depends: what each of them depends on.
        parts: those of them that need not be measured again.
        changed: of each of the others, what has changed since.
    """

    report: EntryReport | None = None
    depends: Mapping[Part, Depends] = field(default_factory=dict)
    parts: frozenset[Part] = frozenset()
    changed: Mapping[Part, Sequence[str]] = field(default_factory=dict)


class RunFolder:
    """Where a run keeps detections and finished parts.

    Attributes:
        path: the folder.
        is_temporary: it is removed when the run ends.
    """

    def __init__(self, path: Path, is_temporary: bool = False) -> None:
        self.path, self.is_temporary = path, is_temporary

    def claim(self, run: Mapping[str, Mapping[str, Any]]) -> None:
        """Write down whose results these are: ``run`` by what it is (settings, machine, …), each by name.

        Raises UsageError where they are of another run.
        """
        if not self.require_own(run):
            write_json(self.path / _RUN, {"format": _FORMAT, **run})

    def require_own(self, run: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether it is written down that these results are this run's; raises UsageError where they are of another."""
        path = self.path / _RUN
        if not path.is_file():
            return False
        earlier = self._claimed(path)
        if earlier is None:
            _log.warning("%s is damaged or of another version: what each entry depends on decides", path)
            return False
        self._require_same(earlier, json.loads(json.dumps(run)))
        return True

    def finished(self, name: str, depends: Mapping[Part, Depends]) -> Finished:
        """The parts that are finished, those of them that depend on the same as now, and what has changed of others."""
        path = self.path / name / _ENTRY
        if not path.is_file():
            return Finished()
        try:
            kept = _Kept.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            _log.warning("%s is damaged or of another version: %s is measured again", path, name)
            return Finished()
        now: dict[Part, Depends] = json.loads(json.dumps(depends))
        differ = {part: _changed(kept.depends[part], now[part]) for part in now if part in kept.depends}
        changed = {part: names for part, names in differ.items() if names}
        return Finished(kept.report, kept.depends, frozenset(differ.keys() - changed.keys()), changed)

    def forget(self, name: str) -> None:
        """Remove what is kept of an entry: it is measured again, detections included.  Raises UnwritableOutput."""
        try:
            shutil.rmtree(self.path / name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise UnwritableOutput(f"{self.path / name} cannot be removed: {error.strerror or error}") from error

    def keep(self, report: EntryReport, depends: Mapping[Part, Depends], earlier: Finished) -> None:
        """Keep what is finished, now or ``earlier``.

        Without it the run still ends as it should; going on would measure it again.
        """
        whole = {part: depends[part] for part in depends if _is_whole(report, part)}
        for part in earlier.depends.keys() - (depends.keys() - earlier.parts):
            whole[part] = earlier.depends[part]
            report = report.model_copy(update={part: getattr(earlier.report, part)})
        path = self.path / report.name / _ENTRY
        if not whole:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, _Kept(depends=whole, report=report).model_dump(mode="json"))
        except (OSError, UnwritableOutput) as error:
            _log.warning("%s is not kept: %s", path, error)

    def _claimed(self, path: Path) -> dict[str, Any] | None:
        try:
            data = parse_json(path.read_bytes())
        except ValueError:
            return None
        whole = isinstance(data, dict) and data.pop("format", None) == _FORMAT
        return data if whole and all(isinstance(value, dict) for value in data.values()) else None

    def _require_same(self, earlier: dict[str, Any], now: dict[str, Any]) -> None:
        differ = {
            what: [
                f"{name} was {_shown(then.get(name))}, is {_shown(value)}"
                for name, value in now[what].items()
                if then.get(name) != value
            ]
            for what in now
            if (then := earlier.get(what, {})) != now[what]
        }
        if differ:
            details = "; ".join(line for lines in differ.values() for line in lines)
            raise UsageError(
                f"{self.path} holds another run ({', '.join(differ)} differ: {details}): choose another folder"
            )


@contextmanager
def run_folder(path: Path | None, is_first: bool) -> Iterator[RunFolder]:
    """The folder of a run, made where it is missing and locked by the run's first process; None: a temporary one.

    The lock ends with its process, however that ends.  Raises UsageError where another run has it, UnwritableOutput.
    """
    if path is None:
        with _temporary() as folder:
            yield RunFolder(folder, is_temporary=True)
    elif is_first:
        in_use = f"{path} is in use by another run of `cascadezoo verify`: wait for its end, or choose another folder"
        with locked(path, in_use=in_use, unusable=f"{path} cannot be used as --run-dir"):
            yield RunFolder(path)
    else:
        yield RunFolder(path)


@contextmanager
def _temporary() -> Iterator[Path]:
    try:
        folder = TemporaryDirectory(prefix="cascadezoo-verify-", ignore_cleanup_errors=True)
    except OSError as error:
        raise UnwritableOutput(
            f"no temporary folder can be made ({error.strerror or error}): set TMPDIR to a folder with room, or give "
            "--run-dir DIR"
        ) from error
    with folder as name:
        yield Path(name)


def run_depends(settings: Settings, machine: Machine, baseline: str | None) -> dict[str, dict[str, Any]]:
    """What the figures of every entry of a run depend on; ``baseline``: the SHA-256 of the file."""
    return {
        "settings": {
            "precision": settings.computed_in,
            **settings.model_dump(mode="json", include={"evaluator", "limit", "seed"}),
        },
        "machine": {
            # how many threads compute is no part of it: of speed, ``part_depends`` counts it
            "device": machine.gpu or machine.device.removesuffix(f", {machine.threads} threads"),
            "CUDA": machine.cuda,
            "decoder": machine.decoder,
            "evaluator": machine.evaluator,
            **{name: machine.packages.get(name) for name in _LIBRARIES},
        },
        "baseline": {"sha256": baseline},
    }


def results_depend(entry: ZooEntry, run: Mapping[str, Any], annotations: str | None) -> Depends:
    """What the detections of an entry depend on besides its weights."""
    return {
        "precision": run["settings"]["precision"],
        "machine": run["machine"],
        "network": _network(entry),
        "annotations": annotations,
        "code": code_digest(_DETECTING, _unused(entry)),
    }


def part_depends(
    entry: ZooEntry,
    run: Mapping[str, Any],
    settings: Settings,
    *,
    annotations: str | None,
    given: str | None,
    device: str,
    batch_size: int,
) -> dict[Part, Depends]:
    """What each part that was asked for depends on.

    Args:
        run: as ``run_depends`` gives it.
        annotations: SHA-256 of the file, or None where there is none now.
        given: SHA-256 of the weights' file, or None for the published weights.
        device: what speed depends on, a report's ``Machine.device``.
        batch_size: images at a time.
    """
    base = results_depend(entry, run, annotations) | {
        "settings": run["settings"],
        "weights": None if given else _published_digest(entry),
        "given weights": given or "none",
        "code of conversion": code_digest(_CONVERTING) if given else None,
    }
    parts: dict[Part, Depends] = {}
    if settings.accuracy:
        figures = entry.model_dump_json(include={"evaluations", "later_figures"})
        judged = {
            "published figures": figures,
            "tta": settings.tta,
            "tolerance": settings.model_dump_json(include={"tolerance"}),
        }
        parts["accuracy"] = {**base, **judged, "code of verdicts": code_digest(_JUDGING)}
    if settings.speed:
        figures = entry.model_dump_json(include={"fps", "fps_device"})
        timed = {
            "published speed": figures,
            "device": device,
            "batch size": batch_size,
            "decode": settings.decode,
            "min seconds": settings.min_seconds,
            "baseline": run["baseline"],
        }
        parts["speed"] = {**base, **timed, "code of verdicts": code_digest(_JUDGING + _TIMING)}
    return parts


def _unused(entry: ZooEntry) -> tuple[str, ...]:
    """Begins of names of sources that this entry's figures do not come from, in the order of ``_ONLY``."""
    try:
        spec = registry.spec_of(entry)
    except UnsupportedEntry:  # told when it is loaded
        return ()
    return tuple(f"cascadezoo.{name}" for names, uses in _ONLY if not uses(entry, spec) for name in names)


def _network(entry: ZooEntry) -> str | None:
    try:
        return hashlib.sha256(registry.spec_of(entry).model_dump_json().encode()).hexdigest()
    except UnsupportedEntry:  # told when it is loaded
        return None


def _published_digest(entry: ZooEntry) -> str | None:
    """The content digest that the file in use states; None where there is none yet, or none that can be read."""
    from cascadezoo.converters.safetensors_file import open_safetensors

    try:
        return open_safetensors(weights_path(entry)).metadata.get("content_digest")
    except (CascadezooError, OSError):
        return None


def _changed(then: Depends, now: Depends) -> list[str]:
    """What differs; of what is not known now, nothing is said."""
    return [name for name, value in now.items() if value is not None and then.get(name) != value]


def _is_whole(report: EntryReport, part: Part) -> bool:
    """Whether a part was measured, all of it that was asked for: what failed or had no data is tried again."""
    if part == "speed":
        return report.speed is not None and report.speed.verdict not in (Verdict.ERROR, Verdict.SKIPPED)
    verdicts = {evaluation.verdict for evaluation in report.accuracy}
    return Verdict.ERROR not in verdicts and bool(verdicts - {Verdict.SKIPPED})


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
