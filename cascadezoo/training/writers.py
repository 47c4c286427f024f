"""Other readers of a run's records: TensorBoard, and Weights & Biases.  What the journal writes is what they get."""

import uuid
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from cascadezoo.errors import MissingResource, UnwritableOutput
from cascadezoo.files import whole_file
from cascadezoo.training.config import TrainingConfig

TENSORBOARD, WANDB_ID = "tensorboard", "wandb-id.txt"


class Writer(Protocol):
    """Gets every record of the journal, the first one of kind ``begin``."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Take a record, which the log has already."""

    def close(self, *, failed: bool) -> None:
        """The run is over; ``failed``: by an error."""


def writers_of(config: TrainingConfig) -> list[Writer]:
    """The writers that the options ask for."""
    writers: list[Writer] = []
    if config.tensorboard:
        writers.append(TensorBoard(config.run_dir))
    if config.wandb is not None:
        writers.append(WeightsAndBiases(config.run_dir, config.wandb))
    return writers


def scalars(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Names and values of the curves that a record has a point of; none where there is no value."""
    if record["kind"] == "steps":
        values = {"train/loss": record["loss"], **{f"train/{name}": loss for name, loss in record["losses"].items()}}
        values |= {f"train/{name}": record[name] for name in ("lr", "grad_norm", "images_per_second", "epoch")}
    elif record["kind"] == "evaluation":
        values = {f"val/{kind}/{name}": v for kind, of in record["figures"].items() for name, v in of.items()}
        values |= {f"class/{kind} AP/{name}": v for kind, of in record["classes"].items() for name, v in of.items()}
        if "loss" in record:
            values |= {"val/loss": record["loss"], **{f"val/{name}": loss for name, loss in record["losses"].items()}}
    else:
        values = {}
    return ((name, value) for name, value in values.items() if value is not None)


class TensorBoard:
    """Event files in the run's folder, of ``torch.utils.tensorboard``.

    Every record is on disk when ``write`` returns.  What an earlier process wrote of steps after the one that the run
    goes on from is taken back.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / TENSORBOARD
        self._events: Any = None

    def write(self, record: Mapping[str, Any]) -> None:
        """Take a record.  Raises UnwritableOutput."""
        try:
            if record["kind"] == "begin":
                summary_writer = import_module("torch.utils.tensorboard").SummaryWriter
                self._events = summary_writer(str(self._folder), purge_step=record["step"] + 1)
            for name, value in scalars(record):
                self._events.add_scalar(name, value, record["step"])
            if self._events is not None:
                self._events.flush()
        except OSError as error:
            raise UnwritableOutput(f"{self._folder} cannot be written: {error.strerror or error}") from error

    def close(self, *, failed: bool) -> None:
        """Close the files."""
        if self._events is not None:
            self._events.close()


class WeightsAndBiases:
    """A run of W&B, which a resumed one goes on with: its id is kept in the folder.

    W&B takes steps in ascending order only: of those that are done again it keeps what it has, which is the same.
    """

    def __init__(self, folder: Path, project: str) -> None:
        self._folder, self._project = folder, project
        self._run: Any = None

    def write(self, record: Mapping[str, Any]) -> None:
        """Take a record.  Raises MissingResource where W&B does not begin a run."""
        if record["kind"] == "begin":
            self._begin(record)
        if points := dict(scalars(record)):
            self._run.log(points, step=record["step"])

    def close(self, *, failed: bool) -> None:
        """End the run, once all is sent."""
        if self._run is not None:
            self._run.finish(exit_code=int(failed))

    def _begin(self, record: Mapping[str, Any]) -> None:
        wandb: Any = import_module("wandb")
        try:
            self._run = wandb.init(
                project=self._project,
                name=self._folder.name,
                id=self._id(),
                dir=str(self._folder),
                resume="allow",
                config={"options": record["options"], "recipe": record["recipe"]},
                settings=wandb.Settings(console="off"),
            )
        except wandb.Error as error:
            raise MissingResource(
                f"Weights & Biases does not begin a run ({error}): log in with `wandb login`, or set WANDB_MODE=offline"
            ) from error

    def _id(self) -> str:
        path = self._folder / WANDB_ID
        if not path.exists():
            with whole_file(path) as file:
                file.write(uuid.uuid4().hex[:12].encode() + b"\n")
        return path.read_text().strip()
