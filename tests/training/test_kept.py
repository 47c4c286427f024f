"""An error between two steps loses nothing that was learned; a wait for images ends when it is told to."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import cascadezoo
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.errors import BadAnnotations, MissingResource, OutOfMemory, UnreadableImage, WorkerLost
from cascadezoo.loading import build
from cascadezoo.spec.recipe import Augmentation
from cascadezoo.training import loader, loop
from cascadezoo.training.config import TrainingConfig
from cascadezoo.training.loader import TrainingSet, batches, training_loader
from cascadezoo.training.network import all_learning

from drawn import draw_set
from learning import adamw, learner, log, options
from tiny_zoo import ENTRY, narrow

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = adamw(1e-3, epochs=1)  # four steps of one image each


@contextmanager
def within(seconds: int):
    """A guard against waiting for ever."""

    def late(*_):
        raise TimeoutError(f"still waiting after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def start(drawn, run: Path, model=None, **more) -> dict[str, torch.Tensor]:
    config = TrainingConfig(**options(drawn, run, **{"batch_size": 1, "keep": 9, **more}))
    resume = run.exists()
    return read_canonical(cascadezoo.train(config, model=model or learner(9 * resume), recipe=RECIPE, resume=resume))[0]


def steps_kept(run: Path) -> list[int]:
    return [torch.load(path, weights_only=True)["step"] for path in sorted(run.glob("checkpoint-*"))]


def assert_goes_on_as_if_nothing_had_happened(drawn, tmp_path, **more) -> None:
    resumed, whole = start(drawn, tmp_path / "run", **more), start(drawn, tmp_path / "whole", **more)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def third_image(drawn) -> Path:
    """The image of the third step."""
    (index,) = batches(np.full((4, 2), 64), 1, seed=0, epoch=0)[2]
    return drawn.images / f"{11 + index:03}.png"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def during_step(number: int, model: torch.nn.Module, act) -> torch.nn.Module:
    """The model, of which training step ``number``, 1 the first, calls ``act`` on its way forward."""
    passes = []

    def count(module, _):
        if module.training:
            passes.append(1)
            if len(passes) == number:
                act()

    model.neck.register_forward_pre_hook(count)
    return model


def turn(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((96, 64, 3), np.uint8))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("harm", "error", "remedy"),
    [
        (cut, UnreadableImage, "put a sound file of 96 x 64 pixels in its place"),
        (Path.unlink, MissingResource, "put a sound file of 96 x 64 pixels in its place"),
        (turn, BadAnnotations, "put the image that was annotated in its place, or annotate this one anew"),
    ],
)
def test_T7_an_image_that_cannot_be_used_is_named_and_nothing_is_lost(
    tmp_path, drawn, capsys, monkeypatch, harm, error, remedy, workers
):
    """It is harmed after the data were looked at, before the first step."""
    image = third_image(drawn)
    sound = image.read_bytes()

    def harmed(*arguments, **more):
        harm(image)
        return training_loader(*arguments, **more)

    monkeypatch.setattr(loop, "training_loader", harmed)
    with pytest.raises(error, match=rf"{image.name}.*: {remedy}"):
        start(drawn, tmp_path / "run", workers=workers)
    assert "stopped after step 2 of 4; what it learned is kept" in capsys.readouterr().err
    assert steps_kept(tmp_path / "run") == [2]
    image.write_bytes(sound)
    monkeypatch.undo()
    assert_goes_on_as_if_nothing_had_happened(drawn, tmp_path)


def kill_workers() -> None:
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGKILL)


def test_T7_a_killed_worker_is_told_of_between_two_steps_and_nothing_is_lost(tmp_path, drawn, monkeypatch):
    """The second step does not notice; the third image waits in the worker, which reads one ahead and stops there."""
    read = loader.read_image
    third = third_image(drawn)
    monkeypatch.setattr(loader, "read_image", lambda path: time.sleep(60) if path == third else read(path))
    with within(60), pytest.raises(WorkerLost, match=r"ended by itself.*take fewer \(--workers\)"):
        start(drawn, tmp_path / "run", during_step(2, learner(), kill_workers), workers=1)
    monkeypatch.setattr(loader, "read_image", read)
    assert steps_kept(tmp_path / "run") == [2]
    assert multiprocessing.active_children() == []
    assert_goes_on_as_if_nothing_had_happened(drawn, tmp_path)


def test_T7_a_worker_killed_while_it_sends_is_told_of(tmp_path):
    """A large image stands in the pipe half read, for nobody reads while a step is computed."""
    drawn = draw_set(tmp_path / "large", 4, size=(1500, 1500))
    training_set = TrainingSet(CocoDataset(drawn.annotations, drawn.images), narrow(3), Augmentation(), seed=0)
    training_set.spec = narrow(3).model_copy(
        update={"preprocess": narrow(3).preprocess.model_copy(update={"min_size": 1500, "max_size": 1500})}
    )
    with within(60):
        source = training_loader(training_set, 1, epoch=0, workers=1)
        next(source)
        time.sleep(1)
        kill_workers()
        time.sleep(0.2)  # elsewhere than in the wait, where nothing is told
        with pytest.raises(WorkerLost):
            list(source)


def out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_T7_memory_that_runs_out_in_a_step_leaves_the_state_before_it(tmp_path, drawn):
    """Also the statistics of batch norms, which the forward pass had moved already."""

    def norms_learn(seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        return build(all_learning(narrow(3)))

    run = tmp_path / "run"
    with pytest.raises(OutOfMemory, match="too little memory for 1 images a pass: take a smaller --batch-size"):
        start(drawn, run, during_step(3, norms_learn(0), out_of_memory))
    assert steps_kept(run) == [2]
    resumed, whole = start(drawn, run, norms_learn(9)), start(drawn, tmp_path / "whole", norms_learn(0))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_T7_a_state_in_the_middle_of_an_update_is_not_kept(tmp_path, drawn, monkeypatch, capsys):
    step, done = torch.optim.AdamW.step, []

    def breaks(self, *arguments, **more):
        done.append(1)
        if len(done) == 3:
            raise RuntimeError("in the middle of it")
        return step(self, *arguments, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", breaks)
    with pytest.raises(RuntimeError, match="in the middle"):
        start(drawn, tmp_path / "run")
    assert steps_kept(tmp_path / "run") == []
    assert "stopped after step 2 of 4; nothing is kept" in capsys.readouterr().err


HARMING = """
import sys
from pathlib import Path

import torch

from cascadezoo.cli import main
from cascadezoo.providers import SPECS
from cascadezoo.training import loop
from tiny_zoo import narrow

torch.set_num_threads(1)
SPECS["mmdet"]["cascade_mask_r50_fpn"] = narrow()
training_loader, image = loop.training_loader, Path(sys.argv.pop(1))


def harmed(*arguments, **more):
    image.write_bytes(b"damaged")
    return training_loader(*arguments, **more)


loop.training_loader = harmed
main()
"""


def test_T7_every_process_stops_and_the_state_is_kept(tmp_path):
    """Two processes, each with two of a step's four images: one of the second step's cannot be read."""
    drawn, run = draw_set(tmp_path / "images", 8), tmp_path / "run"
    bad = batches(np.full((8, 2), 64), 2, seed=0, epoch=0, rank=1, world=2)[1][0]
    image, script, tests = drawn.images / f"{11 + bad:03}.png", tmp_path / "harming.py", Path(__file__).parents[1]
    script.write_text(HARMING)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tests), str(tests.parent), environment.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, image, "train",
         "--entry", ENTRY, "--train-json", drawn.annotations, "--train-images", drawn.images, "--schedule", "2",
         "--min-size", "64", "--device", "cpu", "--workers", "0", "--batch-size", "2", "--run-dir", run],
        capture_output=True, text=True, check=False, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode != 0
    assert image.name in done.stderr
    assert steps_kept(run) == [1]
    assert log(run, "note")[-1]["text"] == "stopped after step 1 of 4; what it learned is kept"


@contextmanager
def largest_file(size: int):
    """Files, those in /dev/shm as well, cannot grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_T6_workers_need_no_shared_memory(drawn):
    """A semaphore of 32 bytes fits into 1 KiB, no mask does."""
    data = CocoDataset(drawn.annotations, drawn.images)
    training_set = TrainingSet(data, narrow(3), Augmentation(), seed=0)
    with largest_file(1024), within(60):
        found = [sample for batch in training_loader(training_set, 2, epoch=0, workers=2) for sample in batch]
    assert sorted(sample.image_id for sample in found) == [11, 12, 13, 14]
    assert all(sample.targets.masks.pixels.any() for sample in found)


def test_T6_workers_that_cannot_be_started_are_one_sentence(drawn):
    data = CocoDataset(drawn.annotations, drawn.images)
    training_set = TrainingSet(data, narrow(3), Augmentation(), seed=0)
    with largest_file(0), within(60), pytest.raises(WorkerLost, match="free /dev/shm or make it larger") as caught:
        list(training_loader(training_set, 2, epoch=0, workers=2))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_T6_a_signal_ends_a_wait_for_images(tmp_path, drawn, monkeypatch, number):
    read, third = loader.read_image, third_image(drawn)
    monkeypatch.setattr(loader, "read_image", lambda path: time.sleep(300) if path == third else read(path))

    def later() -> None:
        threading.Timer(1, os.kill, (os.getpid(), number)).start()

    with within(60), pytest.raises(KeyboardInterrupt):
        start(drawn, tmp_path / "run", during_step(2, learner(), later), workers=1)
    assert steps_kept(tmp_path / "run") == [2]
    assert multiprocessing.active_children() == []


def test_T6_a_signal_ends_a_wait_in_an_evaluation(tmp_path, drawn, monkeypatch):
    from cascadezoo.training import evaluation

    def stuck(*_):
        time.sleep(300)

    monkeypatch.setattr(evaluation, "read_annotated", stuck)

    def later() -> None:
        threading.Timer(2, os.kill, (os.getpid(), signal.SIGTERM)).start()

    with within(60), pytest.raises(KeyboardInterrupt):
        start(
            drawn, tmp_path / "run", during_step(4, learner(), later), workers=1, val_json=drawn.annotations,
        )  # fmt: skip
    assert steps_kept(tmp_path / "run") == [4]
    assert multiprocessing.active_children() == []
