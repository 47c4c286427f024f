"""A verification report as typed records and one JSON file: the measurements, their machine, and the verdicts.

Everything that differs between two runs of the same code on the same machine lies in fields called ``timing``: without
these fields two reports of equal measurements are equal, byte for byte.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError

from cascadezoo import manifest
from cascadezoo.benchmarks.reports.digest import code_digest
from cascadezoo.benchmarks.reports.verdict import Check, Verdict
from cascadezoo.coco.curves import Figures
from cascadezoo.coco.evaluation import DEFAULT, Kind
from cascadezoo.coco.metrics import HUNDREDTH, METRICS, rounded
from cascadezoo.environment import environment
from cascadezoo.errors import FileError, MissingResource
from cascadezoo.files import parse_json
from cascadezoo.notebook import table
from cascadezoo.spec.record import Record
from cascadezoo.version import __version__

Precision = Literal["fp32", "fp16", "bf16"]


class Settings(Record):
    """The options of a run of ``cascadezoo verify``, as far as the figures depend on them."""

    accuracy: bool = Field(default=True, description="Measure accuracy.")
    speed: bool = Field(default=True, description="Measure speed.")
    tta: bool = Field(
        default=False, description="Also the evaluations with test-time augmentation; else they are SKIPPED."
    )
    precision: Precision = Field(
        default="fp32", description="What matrix products and convolutions are computed in; fp32 is without TF32."
    )
    optimize: bool = Field(
        default=False, description="Measure the model that model.optimize makes, not the one that was loaded."
    )
    exact: bool = Field(
        default=False, description="With --optimize on a CPU: compute convolutions by plain sums, slower."
    )
    evaluator: str = Field(default=DEFAULT, description="The program that computes COCO's figures.")
    limit: int | None = Field(
        default=None, description="Only the first N images of a data set: PARTIAL, if it has more."
    )
    tolerance: Annotated[Decimal, Field(ge=0, le=100)] | None = Field(
        default=None, description="Difference in AP that still passes; default: the manifest's, which is 0.1."
    )
    shard: tuple[int, int] | None = Field(
        default=None,
        description="Every n-th of the entries, from the i-th, counted from 1: one part of many machines.",
    )
    decode: bool = Field(default=False, description="Speed includes decoding the image files, on one thread.")
    min_seconds: Annotated[float, Field(ge=0, le=86400)] = Field(
        default=0, description="Time each batch size for at least so long, even once its median has settled."
    )
    seed: int = Field(default=0, description="Of all randomness.")

    @property
    def computed_in(self) -> str:
        """The precision, and what else numbers and speed depend on."""
        return ", ".join([self.precision, *["optimised"] * self.optimize, *["exact"] * self.exact])


class Machine(Record):
    """The machine and the software of a measurement."""

    device: str = Field(description="What speed depends on: the GPU's name, or the CPU's and the number of threads.")
    gpu: str | None = Field(description="Its name; None for a measurement on the CPU.")
    driver: str | None = Field(description="Version of the GPU's driver.")
    cpu: str = Field(description="The CPU's name.")
    cores: int = Field(description="Cores that the process may use.")
    threads: int | None = Field(description="Threads that torch computes with.")
    system: str = Field(description="Operating system and architecture.")
    python: str = Field(description="Implementation and version.")
    cuda: str | None = Field(description="The CUDA version that torch was built for.")
    packages: dict[str, str] = Field(description="Versions of the packages that a result depends on.")
    decoder: str = Field(description="OpenCV and its JPEG and PNG libraries.")
    evaluator: str = Field(description="The program that computed COCO's figures, with its version.")


class AccuracyTiming(Record):
    """The time of one evaluation, without loading the weights; of several processes the slowest one's."""

    seconds: float = Field(description="The whole evaluation.")
    decode: float = Field(description="Seconds spent waiting for decoded images.")
    inference: float = Field(description="Seconds of the network and of what follows on its device.")
    evaluate: float = Field(description="Seconds of COCO's evaluation.")
    outside_share: float = Field(description="Part of the whole time, 0 to 1, that was neither decode nor inference.")
    images: int = Field(description="Images of this run: after a resume, fewer than in the evaluation.")
    batch_size: int = Field(description="Images at a time, in the end.")
    processes: int = Field(description="Processes that shared the images.")
    notes: tuple[str, ...] = Field(default=(), description="Sentences for people, as on memory that ran out.")

    def noted(self, note: str) -> Self:
        """The same with one more note."""
        return self.model_copy(update={"notes": (*self.notes, note)})


class Accuracy(Record):
    """One evaluation of one entry."""

    tta: bool = Field(description="With the entry's test-time augmentation.")
    basis: Literal["table", "later"] = Field(
        description="Where the published figures come from: the publisher's table or a later edition of the page."
    )
    verdict: Verdict
    reason: str = Field(description="Why that verdict, in one sentence.")
    tolerance: Decimal = Field(description="Difference in AP that still passes.")
    checks: tuple[Check, ...] = Field(default=(), description="One per published figure.")
    figures: dict[Kind, Figures] = Field(
        default_factory=dict, description="All figures that COCO defines, in percent, by kind and name."
    )
    dataset: str | None = Field(default=None, description="The data set's name.")
    annotations_sha256: str | None = Field(default=None, description="SHA-256 of the annotation file.")
    images: int = Field(default=0, description="Images that were evaluated.")
    detections: int = Field(default=0, description="Detections on all of them.")
    timing: AccuracyTiming | None = None


class Spread(Record):
    """How long the runs took, in milliseconds."""

    median: float = Field(description="The median of all runs, which is p50.")
    min: float = Field(description="The shortest.")
    max: float = Field(description="The longest.")
    q1: float = Field(description="The first quartile.")
    q3: float = Field(description="The third quartile.")
    p90: float | None = Field(default=None, description="Nine of ten runs took no longer; None in older reports.")
    p99: float | None = Field(default=None, description="99 of 100 runs took no longer; None in older reports.")


class Course(Record):
    """What one sensor said while something was measured."""

    start: float = Field(description="When it began.")
    end: float = Field(description="When it ended.")
    mean: float = Field(description="The mean of all looks.")
    min: float = Field(description="The lowest.")
    max: float = Field(description="The highest.")
    looks: int = Field(description="How often was looked.")


class Sensors(Record):
    """Clocks, power and temperature during a measurement; None where driver or system do not tell."""

    gpu_clock_mhz: Course | None = Field(default=None, description="The clock of the GPU's multiprocessors.")
    gpu_memory_clock_mhz: Course | None = Field(default=None, description="The clock of its memory.")
    power_w: Course | None = Field(default=None, description="What the GPU draws, watts.")
    temperature_c: Course | None = Field(default=None, description="The GPU's temperature, degrees Celsius.")
    cpu_clock_mhz: Course | None = Field(default=None, description="The mean clock of a few of the CPU's cores.")


class BatchSpeed(Record):
    """Speed at one batch size."""

    batch_size: int = Field(description="Images at a time.")
    fps: float = Field(description="Images per second at the median; decoding is excluded, except with --decode.")
    total_ms: Spread = Field(description="The time of one batch.")
    stages_ms: dict[str, Spread] = Field(description="The time of each stage of one batch.")
    detections: float = Field(description="Mean number of detections per image.")
    runs: int = Field(description="Batches that were timed.")
    stable: bool = Field(description="Whether the median had settled before the runs were out.")
    peak_bytes: int = Field(
        description="Highest use of memory: the GPU's in this measurement, or the process's so far."
    )
    sensors: Sensors | None = Field(default=None, description="What was told meanwhile; None where nothing was.")


class SpeedTiming(Record):
    """Speed by batch size."""

    images: int = Field(description="How many fixed images were timed.")
    batches: tuple[BatchSpeed, ...] = Field(description="One per batch size, the smallest first.")
    notes: tuple[str, ...] = Field(default=(), description="Sentences for people, as on memory that ran out.")

    def noted(self, note: str) -> Self:
        """The same with one more note."""
        return self.model_copy(update={"notes": (*self.notes, note)})


class Speed(Record):
    """The speed of one entry."""

    verdict: Verdict
    reason: str = Field(description="Why that verdict, in one sentence.")
    published_fps: Decimal | None = Field(default=None, description="Images per second as published; never judged.")
    published_device: str | None = Field(default=None, description="The device of the published figure.")
    timing: SpeedTiming | None = None


class GivenWeights(Record):
    """A file that was given instead of an entry's published weights."""

    name: str = Field(description="The file's name, without its folder.")
    sha256: str = Field(description="SHA-256 of its bytes.")


class EntryReport(Record):
    """Everything that was measured of one entry."""

    name: str = Field(description="The entry's full name.")
    verdict: Verdict = Field(description="The gravest of its parts'.")
    given: GivenWeights | None = Field(
        default=None, description="The weights' file, where one was given; None: the published weights."
    )
    weights_digest: str | None = Field(default=None, description="Content digest of the canonical tensors.")
    accuracy: tuple[Accuracy, ...] = Field(default=(), description="One per evaluation, in the manifest's order.")
    speed: Speed | None = None
    machine: int = Field(default=0, description="Index into the report's machines.")

    def verdicts(self) -> Iterator[Verdict]:
        """The verdicts of its parts."""
        yield from (evaluation.verdict for evaluation in self.accuracy)
        if self.speed:
            yield self.speed.verdict

    def row(self) -> tuple[str, ...]:
        """Name, verdict, AP of the first evaluation, images a second of the first batch size, and why."""
        first = self.accuracy[0] if self.accuracy else None
        timing = self.speed.timing if self.speed else None
        fps = f"{timing.batches[0].fps:.1f}" if timing and timing.batches else ""
        reason = first.reason if first else self.speed.reason if self.speed else ""
        return (self.name, self.verdict, *(_figure(first, metric) for metric in ("box_ap", "mask_ap")), fps, reason)


def _figure(part: Accuracy | None, metric: str) -> str:
    """As measured and, in brackets, as published; empty where there is neither."""
    if part is None:
        return ""
    measured = METRICS[metric].of(part.figures)
    known = "" if measured is None else str(rounded(measured, HUNDREDTH))
    return " ".join([known, *(f"({check.published})" for check in part.checks if check.metric == metric)]).strip()


class ReportTiming(Record):
    """The time of the run."""

    date: str = Field(description="When it began, in UTC.")
    seconds: float = Field(description="How long it took.")


class Report(Record):
    """One run of ``cascadezoo verify``, or several merged."""

    format: Literal["cascadezoo verify 1"] = "cascadezoo verify 1"
    settings: Settings
    version: str = Field(description="Of cascadezoo.")
    commit: str | None = Field(description="The checkout's commit; None outside a checkout.")
    modified: bool | None = Field(description="Whether the checkout differed from its commit.")
    manifest_sha256: str = Field(description="SHA-256 of the manifest of entries.")
    code_sha256: str = Field(description="SHA-256 of the installed sources.")
    machines: tuple[Machine, ...] = Field(description="Several where the reports of several machines were merged.")
    entries: tuple[EntryReport, ...] = Field(description="One per entry, in the manifest's order.")
    timing: ReportTiming

    def verdicts(self) -> Iterator[Verdict]:
        """The verdicts of all parts of all entries."""
        for entry in self.entries:
            yield from entry.verdicts()

    def _repr_html_(self) -> str:
        heads = ("entry", "verdict", "box AP (published)", "mask AP (published)", "images a second", "why")
        rows = [entry.row() for entry in self.entries]
        date = self.timing.date
        return table(f"Verification of {len(rows)} entr{'y' if len(rows) == 1 else 'ies'}, {date}", heads, rows)

    def stale(self) -> list[str]:
        """Reasons, one sentence each, why the report no longer speaks of this code; empty where it does."""
        here = environment()
        now = {"manifest": manifest.digest(), "code": code_digest()}
        then = {"manifest": self.manifest_sha256, "code": self.code_sha256}
        reasons = [f"the {part} has changed ({then[part][:12]} then, {now[part][:12]} now)" for part in now
                   if now[part] != then[part]]  # fmt: skip
        if self.commit and here["commit"] and self.commit != here["commit"]:
            reasons.append(f"it was made at commit {self.commit[:12]}, this is {here['commit'][:12]}")
        return reasons


def text_of(report: Report) -> str:
    """The JSON text of a report file."""
    return json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def read_report(path: Path) -> Report:
    """Read it back; raises MissingResource or FileError."""
    try:
        return Report.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingResource(f"no such report: {path}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        other = _other_version(path)
        raise FileError(
            f"{path} is not a report of `cascadezoo verify`{other} ({where}: {first['msg']}): make it again"
        ) from error


def _other_version(path: Path) -> str:
    """Words on the version that wrote a report which this one cannot read; empty where that is not the cause."""
    try:
        data = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return ""
    given = data if isinstance(data, dict) else {}
    version, layout = (str(given.get(name, ""))[:40] for name in ("version", "format"))
    if not layout.startswith("cascadezoo verify"):
        return ""
    if version == __version__ and layout == Report.model_fields["format"].default:
        return ""
    return f" that version {__version__} reads: it is {layout!r}, written by version {version or 'unknown'}"


def schema() -> str:
    """The JSON Schema of a report."""
    return json.dumps(Report.model_json_schema(mode="serialization"), indent=2) + "\n"


def without_timing(data: Any) -> Any:
    """The JSON data of a report, less every field called ``timing``."""
    if isinstance(data, dict):
        return {key: without_timing(value) for key, value in data.items() if key != "timing"}
    return [without_timing(item) for item in data] if isinstance(data, list) else data


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def describe_machine(device: str, evaluator: str) -> Machine:
    """The machine that this process runs on, measuring on ``device``, a torch device's name."""
    here = environment()
    torch = here["torch"] or {}
    gpu = _gpu(device)
    packages: dict[str, str] = dict(here["packages"])
    if evaluator not in packages:
        from importlib.metadata import version

        packages[evaluator] = version(evaluator)
    return Machine(
        device=gpu or f"{here['cpu']}, {torch.get('threads')} threads",
        gpu=gpu,
        driver=gpu_driver() if gpu else None,
        cpu=here["cpu"],
        cores=here["cores"],
        threads=torch.get("threads"),
        system=here["system"],
        python=here["python"],
        cuda=torch.get("cuda"),
        packages=packages,
        decoder=_decoder(),
        evaluator=f"{evaluator} {packages[evaluator]}",
    )


def _gpu(device: str) -> str | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.get_device_name(device)  # not the first one's: they may differ


def gpu_driver() -> str | None:
    """The version of the GPU's driver; None where the driver's tool is missing."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0].strip()
    except (OSError, subprocess.CalledProcessError):  # torch sees the GPU, the tool is not there
        return None


def _decoder() -> str:
    import cv2

    codecs = re.findall(r"^\s*(?:JPEG|PNG):\s*(.+)$", cv2.getBuildInformation(), re.MULTILINE)
    return f"OpenCV {cv2.__version__} ({'; '.join(' '.join(codec.split()) for codec in codecs)})"
