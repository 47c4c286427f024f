"""Two processes that talk through gloo do what one does with the same pictures a step."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from cascadezoo.converters.canonical import read_canonical
from cascadezoo.training.coco_data import CocoDataset
from cascadezoo.training.distributed import World, join
from cascadezoo.training.evaluation import evaluate

from drawn import draw_set
from tiny import lively
from tiny_zoo import ENTRY, narrow

SCRIPT = Path(__file__).parents[1] / "tiny_zoo.py"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def run(launcher, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launcher, str(SCRIPT), "train", *map(str, arguments)],
        capture_output=True, text=True, check=False, env=environment, timeout=300,
    )  # fmt: skip


@pytest.fixture
def options(tmp_path):
    drawn = draw_set(tmp_path / "pictures", 8)  # all of one size: a batch is padded alike, however it is shared out
    return [
        "--entry", ENTRY, "--train-json", drawn.annotations, "--train-images", drawn.images, "--val-json",
        drawn.annotations, "--schedule", 2, "--min-size", 64, "--device", "cpu", "--workers", 0, "--log-every", 1,
    ]  # fmt: skip


def records(folder: Path, kind: str) -> list[dict]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def test_two_processes_equal_one(tmp_path, options):
    one, two = tmp_path / "one", tmp_path / "two"
    alone = run([sys.executable], *options, "--batch-size", 4, "--run-dir", one)
    assert alone.returncode == 0, alone.stderr
    shared = run(TORCHRUN, *options, "--batch-size", 2, "--run-dir", two)
    assert shared.returncode == 0, shared.stderr
    assert shared.stdout == f"{two / 'final.safetensors'}\n"  # one process speaks
    assert shared.stderr.count("learning rate 0.005: 0.02 for 16 pictures a step, here 4") == 1

    # the same sums in another order: float noise, which four steps of learning amplify a little
    first, second = records(one, "steps"), records(two, "steps")
    assert len(first) == len(second) == 4
    for a, b in zip(first, second, strict=True):
        assert b["losses"] == pytest.approx(a["losses"], rel=2e-3, abs=1e-5)
    assert second[0]["losses"] == pytest.approx(first[0]["losses"], rel=1e-5)
    assert second[0]["grad_norm"] == pytest.approx(first[0]["grad_norm"], rel=1e-4)
    held, also = (read_canonical(folder / "final.safetensors")[0] for folder in (one, two))
    for name, tensor in held.items():
        torch.testing.assert_close(also[name], tensor, rtol=1e-3, atol=1e-5)
    assert len(records(two, "evaluation")) == len(records(one, "evaluation")) == 2


class Scripted(World):
    """A world of two whose other process has had its turn: ``theirs`` is what it gathered."""

    theirs: ClassVar[list[object]] = []
    mine: ClassVar[list[object]] = []

    def gather(self, value):
        self.mine.append(value)
        return [value, self.theirs.pop(0)] if self.theirs else [value]


def test_evaluation_is_shared_out_without_loss(tmp_path):
    drawn = draw_set(tmp_path / "pictures", 5)
    data = CocoDataset(*drawn)
    model = lively(narrow(num_classes=3))
    model.categories = data.categories
    cpu = torch.device("cpu")
    evaluate(model, data, Scripted(1, 2, cpu))
    theirs, own = Scripted.mine[0], World(0, 1, cpu)
    assert {result["image_id"] for result in theirs} <= {12, 14}  # every second picture
    Scripted.theirs = [theirs, {}]
    shared, alone = evaluate(model, data, Scripted(0, 2, cpu)), evaluate(model, data, own)
    assert shared == alone
    assert alone["bbox"]["AR100"] > 0


@pytest.mark.slow
def test_all_processes_stop_at_a_loss_that_is_not_finite(tmp_path, options):
    done = run(TORCHRUN, *options, "--lr", 1e18, "--run-dir", tmp_path / "run")
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("cascadezoo: step ")]
    assert said, done.stderr
    assert "on the pictures with id" in said[0]
    assert not (tmp_path / "run" / "final.safetensors").exists()


def test_a_world_of_one():
    with join("cpu") as world:
        assert world == World(0, 1, torch.device("cpu"))
        assert world.gather({"a": 1}) == [{"a": 1}]
        assert world.mean(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
        world.wait()
        assert world.is_first
