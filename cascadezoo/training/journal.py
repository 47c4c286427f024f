"""The record of a training run: progress on stderr, JSON records in ``log.jsonl``, and a picture of the curves."""

import json
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cascadezoo.coco.metrics import HUNDREDTH, rounded
from cascadezoo.errors import CorruptCheckpoint, UnwritableOutput
from cascadezoo.files import whole_file
from cascadezoo.text import printable
from cascadezoo.training.curves import draw
from cascadezoo.training.writers import Writer

_LOG, _CURVES = "log.jsonl", "curves.png"
_RECENT = 0.05  # weight of the newest step in the moving average of seconds per step, which the time left is from


class Journal:
    """Writes ``log.jsonl``, one record per line, and the curves; only the first process of a run has one.

    Kinds of records: ``begin`` (environment, options, recipe); ``steps`` (the last learning rate, and means over the
    steps since the record before: losses, gradient norm where it was finite, images per second, seconds by part);
    ``evaluation`` (figures, and losses where they were asked for); ``note`` (a sentence); ``end``.

    ``writers`` get every record too, from ``begin`` on.
    """

    def __init__(self, folder: Path, steps: int, images: int, every: int, writers: Sequence[Writer] = ()) -> None:
        self.folder, self.steps, self.images, self.every = folder, steps, images, every
        self.records: list[dict[str, Any]] = []
        self._writers = writers
        self._window: list[dict[str, Any]] = []
        self._pace: float | None = None
        self._began = time.perf_counter()
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("train"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[shown]}"),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("train", total=steps, shown="")

    def __enter__(self) -> "Journal":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._bar.stop()
        try:
            self.draw()
        finally:
            for writer in self._writers:
                writer.close(failed=kind is not None)

    def resume(self, step: int) -> None:
        """Continue the log after ``step``: records of later steps, which will be done again, are dropped."""
        path = self.folder / _LOG
        try:
            lines = path.read_text("utf-8").split("\n")[:-1] if path.exists() else []  # without one cut short
            whole = [json.loads(line) for line in lines]
        except ValueError as error:
            raise CorruptCheckpoint(f"{path} is damaged ({error}): remove it, the run goes on without it") from error
        self.records = [record for record in whole if record["step"] <= step and record["kind"] != "end"]
        with whole_file(path) as file:
            file.write("".join(_line(record) for record in self.records).encode())
        self._bar.update(self._task, completed=step)

    def begin(self, step: int, **fields: Any) -> None:
        """Record what the run depends on."""
        self._write("begin", step, **fields)

    def note(self, step: int, text: str) -> None:
        """Record a sentence, and print it."""
        self._write("note", step, text=text)
        self._say(text)

    def step(
        self, step: int, epoch: float, lr: float, losses: Mapping[str, float], norm: float, seconds: Mapping[str, float]
    ) -> None:
        """Record one step, the ``step``-th of the run; ``seconds`` by part."""
        self._window.append({"losses": losses, "grad_norm": norm, "seconds": seconds})
        took = sum(seconds.values())
        self._pace = took if self._pace is None else (1 - _RECENT) * self._pace + _RECENT * took
        total = sum(losses.values())
        left = str(timedelta(seconds=round((self.steps - step) * self._pace)))
        self._bar.update(
            self._task, completed=step, shown=f"epoch {epoch:.2f} loss {total:.3f} lr {lr:.2e} left {left}"
        )
        if step % self.every == 0 or step == self.steps:
            self._close_window(step, epoch, lr, left)

    def evaluating(self, what: str, done: int, images: int) -> None:
        """Show that ``done`` of an evaluation's images are done."""
        self._bar.update(self._task, shown=f"{what}: image {done} of {images}")

    def evaluation(
        self,
        step: int,
        epoch: float,
        figures: Mapping[str, Mapping[str, float | None]],
        seconds: float,
        **fields: Any,
    ) -> None:
        """Record the figures of the model after ``step``, with ``fields`` such as its losses."""
        record = {"epoch": round(epoch, 4), "figures": figures, **fields, "seconds": round(seconds, 2)}
        self._write("evaluation", step, **record)
        shown = ", ".join(f"{kind} AP {_shown(figures[kind]['AP'])}" for kind in figures)
        if "loss" in fields:
            shown += ", validation loss " + ("not finite" if fields["loss"] is None else f"{fields['loss']:.4f}")
        self._say(f"epoch {epoch:.2f}: {shown} ({seconds:.0f} s)")
        self.draw()

    def end(self, step: int, weights: Path) -> None:
        """Record that the run is done."""
        self._write("end", step, weights=weights.name, seconds=round(time.perf_counter() - self._began, 1))
        self._say(f"done after {timedelta(seconds=round(time.perf_counter() - self._began))}: {weights}")

    def evaluations(self) -> list[dict[str, Any]]:
        """The records of kind ``evaluation`` so far."""
        return [record for record in self.records if record["kind"] == "evaluation"]

    def draw(self) -> None:
        """Draw the curves of all records; there are none before the first record of steps."""
        if any(record["kind"] == "steps" for record in self.records):
            with whole_file(self.folder / _CURVES) as file:
                draw(self.records).save(file, "PNG")

    def _close_window(self, step: int, epoch: float, lr: float, left: str) -> None:
        norms = [step["grad_norm"] for step in self._window if math.isfinite(step["grad_norm"])]
        losses, seconds = _means(self._window, "losses"), _means(self._window, "seconds")
        took = sum(seconds.values())
        record = {
            "epoch": round(epoch, 4),
            "lr": lr,
            "loss": sum(losses.values()),
            "losses": losses,
            "grad_norm": sum(norms) / len(norms) if norms else None,
            "images_per_second": round(self.images / took, 3),
            "seconds": {part: round(value, 4) for part, value in seconds.items()},
        }
        self._window.clear()
        self._write("steps", step, **record)
        if self._bar.disable:
            shares = ", ".join(f"{part} {value / took:.0%}" for part, value in seconds.items())
            self._say(
                f"step {step}/{self.steps} epoch {epoch:.2f} loss {record['loss']:.4f} lr {lr:.2e} "
                f"{record['images_per_second']:.1f} images/s ({shares}) left {left}"
            )

    def _write(self, kind: str, step: int, **fields: Any) -> None:
        record = {"kind": kind, "step": step, **fields}
        self.records.append(record)
        path = self.folder / _LOG
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(_line(record))
        except OSError as error:
            raise UnwritableOutput(f"{path} cannot be written: {error.strerror or error}") from error
        for writer in self._writers:
            writer.write(record)

    def _say(self, text: str) -> None:
        self._bar.console.print(printable(text), highlight=False, markup=False, emoji=False, soft_wrap=True)


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _means(window: list[dict[str, Any]], key: str) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for step in window:
        for name, value in step[key].items():
            sums[name] += value / len(window)
    return dict(sums)


def _shown(figure: float | None) -> str:
    return "-" if figure is None else str(rounded(figure, HUNDREDTH))
