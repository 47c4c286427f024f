"""A run killed at any moment and resumed ends with the same weights, bit for bit, as one that nobody disturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from drawn import draw_set
from tiny_zoo import ENTRY

SCRIPT = Path(__file__).parents[1] / "tiny_zoo.py"
STEPS = 16  # 8 images, 2 a step, 4 epochs


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(SCRIPT), "train", *map(str, arguments)]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The options of a run, and the folder of one that went through."""
    folder = tmp_path_factory.mktemp("resume")
    drawn = draw_set(folder / "images", 8)
    options = [
        "--entry", ENTRY, "--train-json", drawn.annotations, "--train-images", drawn.images,
        "--val-json", drawn.annotations, "--eval-every", 2, "--schedule", 4, "--lr", 0.01, "--ema", "--clip-grad", 5,
        "--min-size", 64, "--device", "cpu", "--workers", 1, "--save-every", 3, "--log-every", 1,
    ]  # fmt: skip
    finish(*options, "--run-dir", folder / "whole")
    return options, folder


def finish(*arguments: object) -> None:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def records(run: Path) -> list[dict]:
    """Those of steps; the last line may not be written yet."""
    path = run / "log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.startswith('{"kind": "steps"') and line.endswith("}")]


def start(options, run: Path, after: int) -> subprocess.Popen:
    """A process of a run that has done ``after`` steps, in a process group of its own."""
    process = subprocess.Popen(
        command(*options, "--run-dir", run),
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and len(records(run)) < after:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1]
    return process


def assert_same(run: Path, whole: Path) -> None:
    for name in ("final.safetensors", "best.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    own, theirs = records(run), records(whole)
    assert [record["step"] for record in own] == [record["step"] for record in theirs] == list(range(1, STEPS + 1))
    assert [record["losses"] for record in own] == [record["losses"] for record in theirs]


def kill(options, folder: Path, name: str, times: int) -> None:
    run = folder / name
    for after in sorted(random.sample(range(1, STEPS), times)):
        arguments = ["--resume"] if run.exists() else options
        process = start(arguments, run, after)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (run / "final.safetensors").exists(), f"killed after {after} steps: too late"
    finish("--resume", "--run-dir", run)
    assert_same(run, folder / "whole")


def test_killed_at_a_random_step(begun):
    kill(*begun, "killed", times=1)


@pytest.mark.slow
def test_killed_three_times(begun):
    kill(*begun, "thrice", times=3)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_with_its_workers(begun, number):
    options, folder = begun
    run = folder / f"interrupted{number}"
    process = start(options, run, after=5)
    os.killpg(process.pid, number)  # as a terminal does it: the workers are hit too
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    last = max(run.glob("checkpoint-*"))
    assert torch.load(last, weights_only=True)["step"] == len(records(run)) < STEPS  # nothing is lost
    finish("--resume", "--run-dir", run)
    assert_same(run, folder / "whole")
