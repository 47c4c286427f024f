"""``train --check`` and ``check_training``: what they say is true, and nothing is trained or written."""

import json
import os
import re
import shutil
from types import SimpleNamespace

import cv2
import pytest

import cascadezoo
from cascadezoo.cli import main
from cascadezoo.errors import OutOfMemory, TrainingDiverged
from cascadezoo.training import rehearsal
from cascadezoo.training.config import TrainingConfig
from cascadezoo.training.rehearsal import check_training
from cascadezoo.training.step import Report

from drawn import draw_set
from learning import adamw, learner, log, options
from tiny_zoo import ENTRY

pytestmark = pytest.mark.usefixtures("one_thread")


def change(drawn, edit) -> None:
    document = json.loads(drawn.annotations.read_text())
    edit(document)
    drawn.annotations.write_text(json.dumps(document))


def lines(drawn, folder, epochs: int = 3, **changes) -> str:
    config = TrainingConfig(**options(drawn, folder, **changes))
    return "\n".join(check_training(config, model=learner(), recipe=adamw(1e-3, epochs=epochs)))


class Tried:
    """A step that takes three seconds, or fails."""

    error: Exception | None = None

    def __init__(self, *_: object) -> None:
        self.optimizer = SimpleNamespace(state={})

    def __call__(self, *_: object) -> Report:
        if self.error is not None:
            raise self.error
        return Report({"loss_objectness": 0.5, "loss_mask_1": 1.25}, 2.0, {"forward": 1.0, "backward": 2.0})


@pytest.fixture
def tried(monkeypatch) -> type[Tried]:
    monkeypatch.setattr(rehearsal, "Stepper", Tried)
    monkeypatch.setattr(Tried, "error", None)
    return Tried


def test_time_disk_and_step_are_worked_by_hand(drawn, tmp_path, tried, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    said = lines(drawn, tmp_path / "run", lr=1e-3)  # 4 images, 2 a step, 3 epochs
    assert "a step was tried: loss 1.7500, norm of the gradients 2" in said
    assert re.search(r"^0\.6\d images a second .* 6 steps take about 0:00:(18|19|20), evaluations", said, re.MULTILINE)
    assert "1000 bytes are free: too little" in said
    assert "adamw, 3 epochs, the learning rate along a cosine to 0.1 of it, fp32" in said
    assert "shorter side of the images 64 pixels, longer at most 96; in evaluations 64, at most 96" in said
    assert not (tmp_path / "run").exists()


def test_a_step_without_room_or_end_is_an_error(drawn, tmp_path, tried) -> None:
    tried.error = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    with pytest.raises(OutOfMemory, match="cpu has too little memory for 2 images a pass: take a smaller --batch-size"):
        lines(drawn, tmp_path / "run")
    tried.error = TrainingDiverged("step 1: loss_mask_1 is nan")
    with pytest.raises(TrainingDiverged):
        lines(drawn, tmp_path / "run")
    tried.error = RuntimeError("something else")
    with pytest.raises(RuntimeError, match="something else"):
        lines(drawn, tmp_path / "run")


def test_small_objects_and_lonely_classes_are_named(drawn, tmp_path, tried) -> None:
    """At most 96 x 64 pixels, as they are: anchors begin with 32, and two cells of the finest map are 8."""
    boxes = [[0, 0, 40, 40], [0, 0, 64, 16.5], [0, 0, 31, 31], [0, 0, 5, 7]]  # roots of 1600, 1056, 961, 35

    def train(document: dict) -> None:
        first = document["annotations"][0]
        document["annotations"] = [
            first | {"id": i, "bbox": box, "category_id": category}
            for i, (box, category) in enumerate(zip(boxes, (3, 3, 7, 7), strict=True), start=1)
        ]

    val = draw_set(tmp_path / "val", 2)
    change(drawn, train)
    change(val, lambda document: [one.update(category_id=40) for one in document["annotations"]])
    said = lines(drawn, tmp_path / "run", val_json=val.annotations, val_images=val.images)
    assert "2 of 4 objects are smaller than the smallest anchor, 32 pixels" in said
    assert "scale (disc 2), and 1 are below 8 pixels" in said
    assert "evaluated on 2 images, 4 objects" in said
    assert "in the validation data alone, so that nothing learns to find them: bar 4" in said
    assert "in the training data alone, so that no evaluation counts them: box, disc" in said


def test_step_and_disk_are_those_of_a_run(drawn, tmp_path) -> None:
    """Of one step at a rate that changes nothing: the loss is the same, and so are the files, except names in them."""
    said = lines(drawn, tmp_path / "run", epochs=1, batch_size=4, keep=3, lr=1e-12)
    config = TrainingConfig(**options(drawn, tmp_path / "run", batch_size=4, log_every=1, lr=1e-12))
    final = cascadezoo.train(config, model=learner(), recipe=adamw(1e-3, epochs=1))
    (step,) = log(tmp_path / "run", "steps")
    assert float(re.search(r"tried: loss ([\d.]+),", said)[1]) == pytest.approx(step["loss"], rel=1e-4)
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    whole, size = map(float, re.search(r"needs ([\d.]+) MiB \(3 checkpoints of ([\d.]+) MiB", said).groups())
    assert size == pytest.approx(os.path.getsize(checkpoint) / 2**20, rel=0.15)
    assert whole == pytest.approx(4 * size + os.path.getsize(final) / 2**20, abs=0.3)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no such figure on this system")
def test_memory_is_that_of_the_process(drawn, tmp_path, tried) -> None:
    (took,) = re.findall(r"this process took ([\d.]+) (MiB|GiB) of memory", lines(drawn, tmp_path / "run"))
    assert float(took[0]) * {"MiB": 1, "GiB": 1024}[took[1]] > 100  # torch alone is as much


@pytest.fixture
def command(tmp_path, small_zoo, drawn, tried, capsys):
    val = draw_set(tmp_path / "val", 2, seed=1)

    def call(*arguments: str) -> tuple[int, str, str]:
        given = ["--train-json", drawn.annotations, "--train-images", drawn.images, "--val-json", val.annotations]
        given += ["--val-images", val.images, "--run-dir", tmp_path / "run", "--device", "cpu", "--min-size", 64]
        with pytest.raises(SystemExit) as stop:
            main(["train", "--entry", ENTRY, "--check", *map(str, given), *arguments])
        out, err = capsys.readouterr()
        assert not (tmp_path / "run").exists()
        return int(stop.value.code or 0), out, err

    return call, drawn, val


def test_the_command_says_what_the_run_would_be(command) -> None:
    call, drawn, val = command
    code, out, _ = call()
    assert code == 0
    assert f"{drawn.annotations}: 4 images, 8 annotations\n" in out
    assert f"{val.annotations}: 2 images, 4 annotations\n" in out
    assert f"{ENTRY}: 181,128 parameters, of which 181,128 learn\n" in out
    assert "learning rate 0.0025: 0.02 for 16 images per step, here 2" in out
    assert "sgd, 12 epochs, the learning rate times 0.1 after epochs 8, 11, fp32" in out
    assert "24 steps take about 0:01:1" in out


def test_the_command_ends_as_the_validator_does(command) -> None:
    call, drawn, val = command
    change(drawn, lambda document: document["annotations"][0].pop("area"))
    code, out, err = call()
    assert code == 1
    assert "annotation 1: area: it is missing (that of the mask" in out
    assert "a step was tried" in out
    assert "the data have 1 fault; training goes on from all of them" in err
    picture = val.images / "012.png"
    picture.write_bytes(cv2.imencode(".png", cv2.imread(str(picture)))[1].tobytes()[:-3000])  # its header is sound
    code, out, err = call()
    assert code == 4
    assert "val.json: image 12: file_name:" in out
    assert "a step was tried" not in out
    assert "val.json has 1 fault; for 1 of them training and verification refuse it" in err


def test_only_what_has_not_begun_is_checked(command) -> None:
    code, _, err = command[0]("--resume")
    assert code == 2
    assert "--check looks at a run that is to begin" in err
