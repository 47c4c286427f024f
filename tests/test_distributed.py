"""Two processes that talk through gloo do what one does with the same images a step."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.distributed import World, join
from cascadezoo.losses import rpn_loss
from cascadezoo.training.evaluation import evaluate

from drawn import draw_set
from tiny import lively
from tiny_zoo import ENTRY, narrow

SCRIPT = Path(__file__).with_name("tiny_zoo.py")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def run(launcher, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launcher, str(SCRIPT), "train", *map(str, arguments)],
        capture_output=True, text=True, check=False, env=environment, timeout=300,
    )  # fmt: skip


@pytest.fixture
def options(tmp_path):
    drawn = draw_set(tmp_path / "images", 8)  # all of one size: a batch is padded alike, however it is shared out
    val = draw_set(tmp_path / "val", 3, seed=1)  # of which one process has two
    return [
        "--entry", ENTRY, "--train-json", drawn.annotations, "--train-images", drawn.images, "--val-json",
        val.annotations, "--val-images", val.images, "--val-loss", "--schedule", 2, "--min-size", 64,
        "--device", "cpu", "--workers", 0, "--log-every", 1,
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
    assert shared.stderr.count("learning rate 0.005: 0.02 for 16 images per step, here 4") == 1

    # batch norms learn from all processes; the same sums in another order: float noise, amplified by four steps
    first, second = records(one, "steps"), records(two, "steps")
    assert len(first) == len(second) == 4
    for a, b in zip(first, second, strict=True):
        assert b["losses"] == pytest.approx(a["losses"], rel=2e-3, abs=1e-5)
    assert second[0]["losses"] == pytest.approx(first[0]["losses"], rel=1e-5)
    assert second[0]["grad_norm"] == pytest.approx(first[0]["grad_norm"], rel=1e-4)
    held, also = (read_canonical(folder / "final.safetensors")[0] for folder in (one, two))
    for name, tensor in held.items():
        torch.testing.assert_close(also[name], tensor, rtol=1e-3, atol=5e-5)
    held, also = (records(folder, "evaluation") for folder in (one, two))
    assert len(held) == len(also) == 2
    for a, b in zip(held, also, strict=True):
        assert b["losses"] == pytest.approx(a["losses"], rel=2e-3, abs=1e-5)


# argument: a folder; process r of 2 has the first or the last two of four images of noise, and tells which threads are
# left without the group.  The module imported within the block is the one that would keep it
NORM = """
import sys
from pathlib import Path
import torch
from cascadezoo.modeling.resnet import BatchNorm
from cascadezoo.distributed import join

with join("cpu") as world:
    import torch.distributed.nn.functional
    torch.manual_seed(0)
    x, weight = torch.randn(4, 3, 5, 7) * 3 + 2, torch.randn(4, 3, 5, 7)
    share = slice(world.rank, None) if world.size == 1 else (slice(0, 1), slice(1, 4))[world.rank]
    norm, mine = BatchNorm(3), x[share].requires_grad_(True)
    y = norm.normalise(mine)
    (y * weight[share]).sum().backward()
    held = [y, mine.grad, norm.running_mean, norm.running_var, norm.weight.grad]
    torch.save([t.detach() for t in held], f"{sys.argv[1]}/{world.size}{world.rank}.pt")
threads = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
Path(f"{sys.argv[1]}/{world.size}{world.rank}.threads").write_text("".join(threads))
"""


@pytest.fixture(scope="module")
def normed(tmp_path_factory) -> Path:
    """The folder of what one and two processes wrote."""
    folder = tmp_path_factory.mktemp("norm")
    script = folder / "norm.py"
    script.write_text(NORM)
    for launcher in ([sys.executable], TORCHRUN):
        done = subprocess.run([*launcher, str(script), str(folder)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


def test_norms_learn_the_statistics_of_all_processes(normed):
    alone, first, second = (torch.load(normed / f"{name}.pt") for name in ("10", "20", "21"))
    for whole, a, b in zip(alone[:2], first[:2], second[:2], strict=True):  # outputs and their inputs' gradients
        torch.testing.assert_close(torch.cat((a, b)), whole, rtol=1e-4, atol=1e-5)
    for whole, a, b in zip(alone[2:4], first[2:4], second[2:4], strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, whole)
    torch.testing.assert_close(first[4] + second[4], alone[4], rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc names the threads")
@pytest.mark.parametrize("process", ["20", "21"])
def test_no_thread_of_a_group_outlives_it(normed, process):
    threads = (normed / f"{process}.threads").read_text().split()
    assert threads
    assert not [name for name in threads if "gloo" in name]


def test_normalisers_are_those_of_one_process(monkeypatch):
    # one positive box in all, in the other of two processes: sums are divided by 1 / 2, and gradients then averaged
    monkeypatch.setattr(rpn_loss, "sum_of_processes", lambda count: count + 1)
    monkeypatch.setattr(rpn_loss, "processes", lambda: 2)
    assert rpn_loss.mean_count(0, torch.zeros(1)).item() == 0.5


class Scripted(World):
    """A world of two whose other process has had its turn: ``theirs`` is what it gathered."""

    theirs: ClassVar[list[object]] = []
    mine: ClassVar[list[object]] = []

    def gather(self, value):
        self.mine.append(value)
        return [value, self.theirs.pop(0)] if self.is_first else None

    def broadcast(self, value):
        return value


def test_evaluation_is_shared_out_without_loss(tmp_path):
    drawn = draw_set(tmp_path / "images", 5)
    data = CocoDataset(*drawn)
    model = lively(narrow(num_classes=3))
    model.categories = data.categories
    cpu = torch.device("cpu")
    done: list[int] = []
    assert evaluate(model, data, Scripted(1, 2, cpu), done.append) is None
    assert done == [1, 2]
    theirs, own = Scripted.mine[0], World(0, 1, cpu)
    assert {result["image_id"] for result in theirs} <= {12, 14}  # every second image
    Scripted.theirs = [theirs]
    shared, alone = (evaluate(model, data, world, done.append) for world in (Scripted(0, 2, cpu), own))
    assert shared == alone
    assert alone.figures["bbox"]["AR100"] > 0
    assert not model.training
    done.clear()
    together = evaluate(model.train(), data, own, done.append, batch_size=2, workers=1)
    assert done[-1] == 5
    assert len(done) < 5  # of each size two share a batch
    assert model.training
    for kind, figures in alone.figures.items():
        assert together.figures[kind] == pytest.approx(figures, abs=1e-3)


@pytest.mark.slow
def test_all_processes_stop_at_a_loss_that_is_not_finite(tmp_path, options):
    done = run(TORCHRUN, *options, "--lr", 1e18, "--run-dir", tmp_path / "run")
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("cascadezoo: step ")]
    assert said, done.stderr
    assert "on the images with id" in said[0]
    assert not (tmp_path / "run" / "final.safetensors").exists()


def test_a_world_of_one():
    with join("cpu") as world:
        assert world == World(0, 1, torch.device("cpu"))
        assert world.gather({"a": 1}) == world.all_gather({"a": 1}) == [{"a": 1}]
        assert world.broadcast("b") == "b"
        assert world.mean(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
        world.wait()
        assert world.is_first
