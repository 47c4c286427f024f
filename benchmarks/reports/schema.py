"""A verify report: what was measured, on what, and the verdicts, as typed records and one JSON file.

All that changes from one run to the next of the same code on the same machine lies in fields called ``timing``: two
reports without those are equal, byte for byte, where the measurements are.
"""

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from cascadezoo import manifest
from cascadezoo.benchmarks.reports.verdict import Check, Verdict
from cascadezoo.coco.evaluation import Figures, Kind
from cascadezoo.environment import environment
from cascadezoo.errors import FileError, MissingResource
from cascadezoo.spec.record import Record

Precision = Literal["fp32", "fp16", "bf16"]

_ROOMS = ("cascadezoo", "cascadezoo.converters", "cascadezoo.benchmarks", "cascadezoo.csrc")
_SOURCES = (".py", ".cpp", ".cu", ".h")
_OUTER = ("converters", "benchmarks", "zoo_manifest", "csrc")  # inside the package in a wheel, beside it in a checkout


class Settings(Record):
    """What was asked for.  ``limit`` images of each data set; ``shard`` i of n of the entries, counted from 1."""

    accuracy: bool = True
    speed: bool = True
    tta: bool = False
    precision: Precision = "fp32"
    evaluator: str = "pycocotools"
    limit: int | None = None
    tolerance: Annotated[Decimal, Field(ge=0, le=100)] | None = None
    shard: tuple[int, int] | None = None
    seed: int = 0


class Machine(Record):
    """Where and with what it was measured."""

    device: str  # the GPU's name, or the CPU's and how many threads of it: what speed depends on
    gpu: str | None
    driver: str | None
    cpu: str
    cores: int
    threads: int | None
    system: str
    python: str
    cuda: str | None
    packages: dict[str, str]
    decoder: str
    evaluator: str


class AccuracyTiming(Record):
    """Seconds of one evaluation, without loading the weights.

    ``decode``: waiting for images.  ``inference``: the network and what follows on its device.  ``evaluate``: COCO's
    evaluation.  ``outside_share``: of the whole time, the part that was neither decoding nor inference.
    """

    seconds: float
    decode: float
    inference: float
    evaluate: float
    outside_share: float
    images: int  # in this run: fewer than in the evaluation after a resume
    batch_size: int
    processes: int
    notes: tuple[str, ...] = ()


class Accuracy(Record):
    """One evaluation of one entry; ``figures`` are all that COCO defines, in percent, by kind and name."""

    tta: bool
    basis: Literal["table", "later"]
    verdict: Verdict
    reason: str
    tolerance: Decimal
    checks: tuple[Check, ...] = ()
    figures: dict[Kind, Figures] = Field(default_factory=dict)
    dataset: str | None = None
    annotations_sha256: str | None = None
    images: int = 0
    detections: int = 0
    timing: AccuracyTiming | None = None


class Spread(Record):
    """Milliseconds: the median, the extremes and the quartiles of all runs."""

    median: float
    min: float
    max: float
    q1: float
    q3: float


class BatchSpeed(Record):
    """Speed at one batch size: ``fps`` is images a second at the median, decoding excluded."""

    batch_size: int
    fps: float
    total_ms: Spread  # of one batch
    stages_ms: dict[str, Spread]
    detections: float  # an image
    runs: int
    stable: bool  # the median had settled before the runs were out
    peak_bytes: int


class SpeedTiming(Record):
    """What was measured on ``images`` fixed images."""

    images: int
    batches: tuple[BatchSpeed, ...]
    notes: tuple[str, ...] = ()


class Speed(Record):
    """The speed of one entry, beside the published one, which was measured on another device."""

    verdict: Verdict
    reason: str
    published_fps: Decimal | None = None
    published_device: str | None = None
    timing: SpeedTiming | None = None


class EntryReport(Record):
    """Everything found of one entry; ``machine`` counts in the report's list."""

    name: str
    verdict: Verdict
    weights_digest: str | None = None  # of the canonical tensors
    accuracy: tuple[Accuracy, ...] = ()
    speed: Speed | None = None
    machine: int = 0

    def verdicts(self) -> Iterator[Verdict]:
        """Those of its parts."""
        yield from (evaluation.verdict for evaluation in self.accuracy)
        if self.speed:
            yield self.speed.verdict


class ReportTiming(Record):
    """When, and how long."""

    date: str
    seconds: float


class Report(Record):
    """One run of ``cascadezoo verify``, or several merged."""

    format: Literal["cascadezoo verify 1"] = "cascadezoo verify 1"
    settings: Settings
    version: str
    commit: str | None
    modified: bool | None
    manifest_sha256: str
    code_sha256: str
    machines: tuple[Machine, ...]
    entries: tuple[EntryReport, ...]
    timing: ReportTiming

    def verdicts(self) -> Iterator[Verdict]:
        """Those of all parts of all entries."""
        for entry in self.entries:
            yield from entry.verdicts()

    def stale(self) -> list[str]:
        """What has changed since this report was made: empty where it is still good."""
        found = environment()
        now = {"manifest": manifest.digest(), "code": code_digest()}
        then = {"manifest": self.manifest_sha256, "code": self.code_sha256}
        reasons = [f"the {part} has changed ({then[part][:12]} then, {now[part][:12]} now)" for part in now
                   if now[part] != then[part]]  # fmt: skip
        if self.commit and found["commit"] and self.commit != found["commit"]:
            reasons.append(f"it was made at commit {self.commit[:12]}, this is {found['commit'][:12]}")
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
        raise FileError(
            f"{path} is not a report of `cascadezoo verify` ({where}: {first['msg']}): make it again"
        ) from error


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
    found = environment()
    torch = found["torch"] or {}
    gpu = _gpu(device)
    packages: dict[str, str] = dict(found["packages"])
    if evaluator not in packages:
        from importlib.metadata import version

        packages[evaluator] = version(evaluator)
    return Machine(
        device=gpu or f"{found['cpu']}, {torch.get('threads')} threads",
        gpu=gpu,
        driver=_driver() if gpu else None,
        cpu=found["cpu"],
        cores=found["cores"],
        threads=torch.get("threads"),
        system=found["system"],
        python=found["python"],
        cuda=torch.get("cuda"),
        packages=packages,
        decoder=_decoder(),
        evaluator=f"{evaluator} {packages[evaluator]}",
    )


@cache
def code_digest() -> str:
    """SHA-256 of the sources that are installed, by name: the same for a checkout and a wheel of it."""
    digest = hashlib.sha256()
    for room in _ROOMS:
        for name, file in sorted(_sources(files(room), room)):
            digest.update(f"{name}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _sources(folder: Traversable, name: str) -> Iterator[tuple[str, Traversable]]:
    for item in folder.iterdir():
        path = f"{name}.{item.name}"
        if item.is_dir() and not (name == "cascadezoo" and item.name in _OUTER):
            yield from _sources(item, path)
        elif item.name.endswith(_SOURCES):
            yield path, item


def _gpu(device: str) -> str | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.get_device_name(device)  # not the first one's: they may differ


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0].strip()
    except (OSError, subprocess.CalledProcessError):  # torch sees the GPU, the tool is not there
        return None


def _decoder() -> str:
    import cv2

    codecs = re.findall(r"^\s*(?:JPEG|PNG):\s*(.+)$", cv2.getBuildInformation(), re.MULTILINE)
    return f"OpenCV {cv2.__version__} ({'; '.join(' '.join(codec.split()) for codec in codecs)})"
