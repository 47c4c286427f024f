"""A run killed at any moment and resumed ends with the same weights, bit for bit, as one that nobody disturbed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cascadezoo.converters.canonical import read_canonical

from drawn import draw_set
from tiny_zoo import ENTRY

SCRIPT = Path(__file__).parents[1] / "tiny_zoo.py"
STEPS = 24  # 8 pictures, 2 a step, 6 epochs


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(SCRIPT), "train", *map(str, arguments)]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The options of a run, and the weights of one that went through."""
    folder = tmp_path_factory.mktemp("resume")
    drawn = draw_set(folder / "pictures", 8)
    options = [
        "--entry", ENTRY, "--train-json", drawn.annotations, "--train-images", drawn.images,
        "--val-json", drawn.annotations, "--eval-every", 3, "--schedule", 6, "--lr", 0.01, "--ema", "--clip-grad", 5,
        "--min-size", 64, "--device", "cpu", "--workers", 1, "--save-every", 5, "--log-every", 1,
    ]  # fmt: skip
    whole = folder / "whole"
    done = subprocess.run(command(*options, "--run-dir", whole), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return options, whole, folder


def steps_in(run: Path) -> list[int]:
    path = run / "log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["step"] for line in lines if line.startswith('{"kind": "steps"') and line.endswith("}")]


def start(options, run: Path, after: int) -> subprocess.Popen:
    """A process of a run that has done ``after`` steps."""
    process = subprocess.Popen(
        command(*options, "--run-dir", run), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while (process.poll() is None) and time.monotonic() < deadline and max(steps_in(run), default=0) < after:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1]
    return process


def assert_same(run: Path, whole: Path) -> None:
    for name in ("final.safetensors", "best.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    assert steps_in(run) == steps_in(whole) == list(range(1, STEPS + 1))


def losses(run: Path) -> list[float]:
    records = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [record["loss"] for record in records if record["kind"] == "steps"]


def test_killed_twice_at_random_steps(begun):
    options, whole, folder = begun
    run = folder / "killed"
    first = random.randrange(1, STEPS // 2)
    second = random.randrange(first + 1, STEPS)
    for after, arguments in ((first, options), (second, ["--resume"])):
        process = start(arguments, run, after)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (run / "final.safetensors").exists(), f"killed after {after} steps, too late"
    done = subprocess.run(command("--resume", "--run-dir", run), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_same(run, whole)
    assert losses(run) == losses(whole), (first, second)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_between_two_steps(begun, number):
    options, whole, folder = begun
    run = folder / f"interrupted{number}"
    process = start(options, run, after=7)
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    (last,) = sorted(run.glob("checkpoint-*"))[-1:]
    assert torch.load(last, weights_only=True)["step"] == max(steps_in(run)) < STEPS  # nothing is lost
    assert subprocess.run(command("--resume", "--run-dir", run), capture_output=True, check=False).returncode == 0
    assert_same(run, whole)


def test_resuming_a_finished_run_changes_nothing(begun):
    _, whole, folder = begun
    run = folder / "again"
    shutil.copytree(whole, run)
    done = subprocess.run(command("--resume", "--run-dir", run), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_same(run, whole)


def test_with_other_numbers_it_is_another_run(begun):
    _, whole, folder = begun
    run = folder / "other"
    shutil.copytree(whole, run)
    done = subprocess.run(
        command("--resume", "--run-dir", run, "--seed", 4), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "was begun with seed 0, now it is 4" in done.stderr


def test_the_average_is_part_of_the_state(begun):
    _, whole, _ = begun
    state = torch.load(sorted(whole.glob("checkpoint-*"))[-1], weights_only=True)
    final, _ = read_canonical(whole / "final.safetensors")
    assert state["step"] == STEPS
    assert all(torch.equal(final[name], tensor) for name, tensor in state["ema"].items())
    assert not torch.equal(state["model"]["neck.lateral.0.weight"], final["neck.lateral.0.weight"])
