"""Writers beside the log, with doubles of TensorBoard and W&B that keep what they are given."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

import cascadezoo
from cascadezoo.cli import main
from cascadezoo.errors import MissingResource, UnwritableOutput
from cascadezoo.training import preconditions
from cascadezoo.training.config import TrainingConfig
from cascadezoo.training.journal import Journal
from cascadezoo.training.writers import TensorBoard, WeightsAndBiases, scalars

from drawn import draw_set
from learning import adamw, learner, log, options
from tiny_zoo import ENTRY

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = {
    "kind": "steps", "step": 10, "epoch": 2.5, "lr": 0.01, "loss": 3.0, "losses": {"loss_mask_1": 2.0, "loss_box": 1.0},
    "grad_norm": None, "images_per_second": 8.5, "seconds": {"data": 0.1},
}  # fmt: skip
EVALUATION = {
    "kind": "evaluation", "step": 20, "epoch": 5.0, "figures": {"bbox": {"AP": 12.5, "APs": None}},
    "classes": {"bbox": {"cat": 25.0, "dog": None}}, "confusion": {}, "seconds": 3.0,
}  # fmt: skip


class Events:
    """``SummaryWriter``: a list of points that are on disk, and of what was asked."""

    made: ClassVar[list["Events"]] = []
    full = False

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step, self.closed = folder, purge_step, False
        self.waiting: list[tuple] = []
        self.points: list[tuple] = []
        Events.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.waiting.append((name, value, step))

    def flush(self) -> None:
        self.points += self.waiting
        self.waiting.clear()

    def close(self) -> None:
        self.closed = True


class Refused(Exception):
    """``wandb.Error``."""


class Wandb(ModuleType):
    """The module, with one run at a time."""

    Error = Refused
    Settings = SimpleNamespace

    def __init__(self, refuses: bool = False) -> None:
        super().__init__("wandb")
        self.refuses, self.begun, self.points, self.ended = refuses, [], [], []

    def init(self, **options: Any) -> "Wandb":
        if self.refuses:
            raise Refused("no API key")
        self.begun.append(options)
        return self

    def log(self, points: dict, step: int) -> None:
        self.points.append((step, points))

    def finish(self, exit_code: int) -> None:
        self.ended.append(exit_code)


@pytest.fixture
def events(monkeypatch) -> type[Events]:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Events))
    monkeypatch.setattr(preconditions, "find_spec", lambda name: name)
    monkeypatch.setattr(Events, "made", [])
    return Events


@pytest.fixture
def wandb(monkeypatch) -> Wandb:
    double = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", double)
    monkeypatch.setattr(preconditions, "find_spec", lambda name: name)
    return double


def begin(step: int) -> dict:
    return {"kind": "begin", "step": step, "options": {"seed": 4}, "recipe": {"clip": None}}


def test_a_record_is_a_point_of_each_of_its_curves() -> None:
    assert dict(scalars(STEPS)) == {
        "train/loss": 3.0, "train/loss_mask_1": 2.0, "train/loss_box": 1.0, "train/lr": 0.01,
        "train/images_per_second": 8.5, "train/epoch": 2.5,
    }  # fmt: skip
    assert dict(scalars(EVALUATION)) == {"val/bbox/AP": 12.5, "class/bbox AP/cat": 25.0}
    with_loss = dict(scalars(EVALUATION | {"loss": 4.0, "losses": {"loss_box": 4.0}}))
    assert (with_loss["val/loss"], with_loss["val/loss_box"]) == (4.0, 4.0)
    assert not dict(scalars({"kind": "note", "step": 3, "text": "hello"}))


def test_tensorboard_has_every_point_at_once_and_takes_later_ones_back(tmp_path, events) -> None:
    writer = TensorBoard(tmp_path)
    writer.write(begin(7))
    (made,) = events.made
    assert (made.folder, made.purge_step) == (str(tmp_path / "tensorboard"), 8)
    writer.write(EVALUATION)
    assert made.points == [("val/bbox/AP", 12.5, 20), ("class/bbox AP/cat", 25.0, 20)]
    writer.close(failed=False)
    assert made.closed


def test_a_full_disk_is_one_sentence(tmp_path, events, monkeypatch) -> None:
    monkeypatch.setattr(events, "full", True)
    writer = TensorBoard(tmp_path)
    writer.write(begin(0))
    with pytest.raises(UnwritableOutput, match="tensorboard cannot be written: No space left on device"):
        writer.write(STEPS)


def test_wandb_goes_on_with_the_same_run(tmp_path, wandb) -> None:
    for step, failed in ((0, True), (10, False)):
        writer = WeightsAndBiases(tmp_path / "run", "shapes")
        (tmp_path / "run").mkdir(exist_ok=True)
        writer.write(begin(step))
        writer.write(EVALUATION)
        writer.close(failed=failed)
    first, second = wandb.begun
    assert first["id"] == second["id"] == (tmp_path / "run" / "wandb-id.txt").read_text().strip()
    assert (first["project"], first["name"], first["resume"], first["dir"]) == (
        "shapes", "run", "allow", str(tmp_path / "run")
    )  # fmt: skip
    assert first["config"] == {"options": {"seed": 4}, "recipe": {"clip": None}}
    assert wandb.points == [(20, {"val/bbox/AP": 12.5, "class/bbox AP/cat": 25.0})] * 2
    assert wandb.ended == [1, 0]
    other = WeightsAndBiases(tmp_path, "shapes")
    other.write(begin(0))
    assert wandb.begun[2]["id"] != first["id"]


def test_wandb_that_begins_no_run_is_one_sentence(tmp_path, wandb) -> None:
    wandb.refuses = True
    writer = WeightsAndBiases(tmp_path, "shapes")
    with pytest.raises(MissingResource, match=r"\(no API key\): log in with `wandb login`, or set WANDB_MODE=offline"):
        writer.write(begin(0))
    writer.close(failed=True)


def test_a_journal_ends_its_writers_whatever_happens(tmp_path, wandb) -> None:
    def fail() -> None:
        with Journal(tmp_path, steps=1, images=1, every=1, writers=[WeightsAndBiases(tmp_path, "shapes")]) as journal:
            journal.begin(0, options={}, recipe={})
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert wandb.ended == [1]


def test_a_run_writes_what_it_logs(tmp_path, events, wandb) -> None:
    drawn, folder = draw_set(tmp_path / "images", 2), tmp_path / "run"
    given = options(drawn, folder, val_json=drawn.annotations, log_every=1, tensorboard=True, wandb="shapes")
    cascadezoo.train(TrainingConfig(**given), model=learner(), recipe=adamw(1e-3, epochs=2))
    (made,) = events.made
    assert made.purge_step == 1
    assert made.closed
    logged = [(r["step"], r["loss"]) for r in log(folder, "steps")]
    assert [(step, value) for name, value, step in made.points if name == "train/loss"] == logged
    found = [(r["step"], r["figures"]["bbox"]["AP"]) for r in log(folder, "evaluation")]
    assert [(step, value) for name, value, step in made.points if name == "val/bbox/AP"] == found
    assert [step for step, _ in wandb.points] == [1, 1, 2, 2]
    assert wandb.points[0][1] == {name: value for name, value, step in made.points if step == 1 and "train" in name}
    assert wandb.ended == [0]


@pytest.mark.parametrize(("option", "package"), [(["--tensorboard"], "tensorboard"), (["--wandb"], "wandb")])
def test_a_package_that_is_not_there_is_named_before_anything_is_done(
    tmp_path, monkeypatch, capsys, option, package
) -> None:
    monkeypatch.setattr(preconditions, "find_spec", lambda name: None)
    drawn = draw_set(tmp_path / "images", 1)
    given = ["--train-json", drawn.annotations, "--train-images", drawn.images, "--run-dir", tmp_path / "run"]
    with pytest.raises(SystemExit) as stop:
        main(["train", "--entry", ENTRY, *map(str, given), *option])
    assert stop.value.code == 3
    assert f"--{package} needs a package that is not installed: pip install {package}" in capsys.readouterr().err
    config = TrainingConfig(**options(drawn, tmp_path / "run", **{package: "shapes" if package == "wandb" else True}))
    with pytest.raises(MissingResource, match=f"pip install {package}"):
        cascadezoo.train(config, model=learner(), recipe=adamw(1e-3, epochs=1))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "project"), [(["--wandb"], "cascadezoo"), (["--wandb", "mine"], "mine"), ([], None)]
)
def test_the_project_may_be_named(tmp_path, monkeypatch, arguments, project) -> None:
    asked: list[TrainingConfig] = []

    def stop(config: TrainingConfig, **_: Any) -> None:
        asked.append(config)
        raise MissingResource("enough")

    monkeypatch.setattr(preconditions, "require_startable", stop)
    drawn = draw_set(tmp_path / "images", 1)
    given = ["--train-json", drawn.annotations, "--train-images", drawn.images, "--run-dir", tmp_path / "run"]
    with pytest.raises(SystemExit):
        main(["train", "--entry", ENTRY, *arguments, *map(str, given)])
    assert [config.wandb for config in asked] == [project]


def test_real_event_files_are_read_back_as_the_log_is(tmp_path) -> None:
    """Where TensorBoard is installed: a run was killed after step 3, and goes on from step 2."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begun, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        writer = TensorBoard(tmp_path)
        writer.write(begin(begun))
        for step in steps:
            writer.write(STEPS | {"step": step, "loss": step + 0.5 + begun})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    points = [(point.step, point.value) for point in events.Scalars("train/loss")]
    assert points == [(1, 1.5), (2, 2.5), (3, 5.5), (4, 6.5)]
