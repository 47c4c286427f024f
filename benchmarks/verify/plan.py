"""What a call of ``verify`` would do: nothing is loaded, fetched, drawn or written; of each data set one image
is read."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from cascadezoo.benchmarks.reports.schema import describe_machine
from cascadezoo.benchmarks.verify.coco_layout import NAMES, Dataset, shapes_drawn
from cascadezoo.benchmarks.verify.estimates import costs, images_of
from cascadezoo.benchmarks.verify.job import Job, asked, found_parts
from cascadezoo.benchmarks.verify.live import earlier_report
from cascadezoo.benchmarks.verify.request import NO_DATA, Request, default_batch_size
from cascadezoo.benchmarks.verify.run_folder import Finished, RunFolder, run_depends
from cascadezoo.computed import computed
from cascadezoo.errors import BadAnnotations
from cascadezoo.hub.cache import weights_path
from cascadezoo.hub.offline import switch
from cascadezoo.images import read_image
from cascadezoo.manifest import ZooEntry
from cascadezoo.paths import home
from cascadezoo.spec.record import Record

_OF_IMAGE = {False: 11_000, True: 40_000}  # bytes of a hundred detections in the run folder, by whether they have masks

State = Literal["measure", "finished", "taken", "SKIPPED"]


class EntryPlan(Record):
    """What would become of one entry."""

    name: str = Field(description="The entry's full name.")
    state: State = Field(
        description="measure; finished: the run folder has it; taken from the earlier report; or SKIPPED."
    )
    reason: str = Field(default="", description="Why it is SKIPPED, or what has changed since it was measured.")
    evaluations: tuple[str, ...] = Field(default=(), description="What would be measured, such as plain, tta, speed.")
    dataset: str | None = Field(default=None, description="The data set's name.")
    weights: str = Field(default="", description="Where the weights come from.")
    download_bytes: int = Field(default=0, description="Room that the weights need in the cache, about.")
    results_bytes: int = Field(default=0, description="Room that the detections need, about.")
    seconds: float | None = Field(default=None, description="How long it takes, about; None where nothing tells.")


class DataPlan(Record):
    """A data set that would be used."""

    name: str = Field(description="Its name.")
    annotations: str | None = Field(default=None, description="The annotation file; None: it is drawn first.")
    annotations_sha256: str | None = Field(default=None, description="SHA-256 of that file.")
    images: int = Field(default=0, description="How many images it has.")
    image: str | None = Field(default=None, description="The image that was decoded to see whether it can be.")


class Room(Record):
    """A folder that would be written to."""

    folder: str = Field(description="Its path.")
    what: str = Field(description="What would go there.")
    needed: int = Field(description="Bytes, about.")
    free: int = Field(description="Bytes.")


class Plan(Record):
    """What a call of ``verify`` would do."""

    entries: tuple[EntryPlan, ...] = Field(description="In the order of the manifest, or as they were named.")
    data: tuple[DataPlan, ...] = Field(description="The data sets.")
    rooms: tuple[Room, ...] = Field(description="The folders.")
    seconds: float | None = Field(description="How long it takes on one device, about; None where nothing tells.")

    @property
    def lacks_room(self) -> bool:
        """Whether a folder has less room than is needed."""
        return any(room.needed > room.free for room in self.rooms)


def planned(request: Request, device: str | None, batch_size: int | None, engine: str | None) -> Plan:
    """The plan of a request.

    With the engine "ray" the run folder's entries are held to the machine that its report names.

    Raises:
        UsageError, MissingResource: no such device, or a run folder of another run.
        FileError: the image that is looked at cannot be decoded, or is of another size than annotated.
    """
    folder = request.run_dir
    job = None if folder is None else _job(request, RunFolder(folder), device, batch_size, engine)
    if job is None and engine is None:
        _usable(device)
    taken = request.taken
    plans = [
        EntryPlan(name=entry.name, state="taken") if entry.name in taken else _entry(entry, request, job)
        for entry in request.entries
    ]
    known = {entry.name: entry for entry in request.entries}
    todo = [known[plan.name] for plan in plans if plan.state == "measure"]
    latest = earlier_report(folder) if folder else None
    expected = costs(todo, request.settings, [one for one in (latest, request.baseline, request.earlier) if one])
    seconds = {} if expected.pace is None else {name: cost * expected.pace for name, cost in expected.of.items()}
    plans = [plan.model_copy(update={"seconds": round(seconds[plan.name], 3)}) if plan.name in seconds else plan
             for plan in plans]  # fmt: skip
    return Plan(
        entries=tuple(plans),
        data=_data(todo, request),
        rooms=_rooms(plans, folder),
        seconds=round(sum(seconds.values()), 3) if seconds or not todo else None,
    )


def _usable(device: str | None) -> str:
    from cascadezoo.devices import usable

    return str(usable(device))


def _job(
    request: Request, folder: RunFolder, device: str | None, batch_size: int | None, engine: str | None
) -> Job | None:
    """What the run folder's entries are held to; None where its machine is not known."""
    import torch

    from cascadezoo.distributed import World

    if engine is None:
        device = _usable(device)
        machine = describe_machine(device, request.settings.evaluator)
    elif (latest := earlier_report(folder.path)) is not None:
        machine = latest.machines[0]
        device = "cuda" if machine.gpu else "cpu"
    else:
        return None
    run = run_depends(request.settings, machine, request.baseline_sha256)
    folder.require_own(run)
    return Job(
        settings=request.settings,
        run=run,
        run_dir=folder,
        dataset_of=lambda entry: _dataset(entry, request) or "",
        weights=request.weights,
        given=request.given,
        device=device,
        machine=machine,
        batch_size=batch_size or default_batch_size(device),
        workers=None,
        baseline=request.baseline,
        world=World(0, 1, torch.device("cpu")),  # nothing is computed
        analysis=request.analysis,
        progress=None,
    )


def _dataset(entry: ZooEntry, request: Request) -> Dataset | None:
    return shapes_drawn() if entry.data == "shapes" else request.dataset


def _entry(entry: ZooEntry, request: Request, job: Job | None) -> EntryPlan:
    finished = Finished() if job is None else found_parts(entry, job)
    if finished.report and finished.parts >= asked(request.settings):
        return EntryPlan(name=entry.name, state="finished")
    if reason := _lacking(entry, request):
        return EntryPlan(name=entry.name, state="SKIPPED", reason=reason)
    parts = [part for part in ("accuracy", "speed") if part in asked(request.settings) - finished.parts]
    evaluations = [
        ("tta" if evaluation.tta else "plain") + (" (later figures)" if evaluation.basis == "later" else "")
        for evaluation in entry.evaluations
        if "accuracy" in parts and (request.settings.tta or not evaluation.tta)
    ]
    weights, download = _weights(entry, request)
    results = images_of(entry, request.settings) * len(evaluations) * _OF_IMAGE[entry.has_masks]
    changed = [f"{part}: {', '.join(names)}" for part, names in finished.changed.items()]
    return EntryPlan(
        name=entry.name,
        state="measure",
        reason=f"changed since: {'; '.join(changed)}" if changed else "",
        evaluations=(*evaluations, *(["speed"] if "speed" in parts else [])),
        dataset=NAMES[entry.data],
        weights=weights,
        download_bytes=download,
        results_bytes=results,
    )


def _lacking(entry: ZooEntry, request: Request) -> str:
    """What a run would skip the entry for, as far as it shows without the network."""
    if entry.data in NO_DATA and request.dataset is None:
        return NO_DATA[entry.data]
    if request.weights is not None:
        return ""
    if entry.availability == "never_published":
        return "no weights: the published link leads to another model's file, and no other is known"
    if (forbidding := switch()) and not _is_there(entry):
        return f"its weights are not in the cache, and {forbidding} forbids the network"
    return ""


def _is_there(entry: ZooEntry) -> bool:
    return entry.availability == "embedded" or weights_path(entry).is_file()


def _weights(entry: ZooEntry, request: Request) -> tuple[str, int]:
    if request.given is not None:
        return f"given: {request.given.name}, sha256 {request.given.sha256}", 0
    if entry.availability == "embedded":
        return "in the package", 0
    if _is_there(entry):
        return "in the cache", 0
    return "to be fetched", computed(entry).tensor_bytes


def _data(todo: list[ZooEntry], request: Request) -> tuple[DataPlan, ...]:
    found: Mapping[str, Dataset | None] = {NAMES[entry.data]: _dataset(entry, request) for entry in todo}
    return tuple(
        DataPlan(
            name=name,
            annotations=str(dataset.annotations),
            annotations_sha256=dataset.digest,
            images=len(dataset.images),
            image=_decoded(dataset),
        )
        if dataset
        else DataPlan(name=name)
        for name, dataset in found.items()
    )


def _decoded(dataset: Dataset) -> str | None:
    """The path of the data set's first image, which can be decoded."""
    image = next(iter(dataset.images), None)
    if image is None:
        return None
    if read_image(image.path).shape[:2] != (image.height, image.width):
        raise BadAnnotations(f"{image.path} is not of the size that {dataset.annotations} gives it: get both again")
    return str(image.path)


def _rooms(plans: list[EntryPlan], folder: Path | None) -> tuple[Room, ...]:
    import tempfile

    kept = sum if folder is not None else lambda sizes: max(sizes, default=0)  # without one, an entry at a time
    results = folder or Path(tempfile.gettempdir())
    wanted = [
        (home(), "weights", sum(plan.download_bytes for plan in plans)),
        (results, "detections", kept([plan.results_bytes for plan in plans])),
    ]
    return tuple(
        Room(folder=str(path), what=what, needed=needed, free=shutil.disk_usage(_there(path)).free)
        for path, what, needed in wanted
        if needed
    )


def _there(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
