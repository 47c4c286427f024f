"""A run goes on as it began, from any folder, one process at a time, and under another schedule where that is asked."""

import json
import os
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

import cascadezoo
from cascadezoo.cli import cli
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.errors import RunInUse, TrainingDiverged, UsageError
from cascadezoo.spec.recipe import Curve
from cascadezoo.training.config import TrainingConfig
from cascadezoo.training.lock import locked

from learning import adamw, learner, log, options
from tiny_zoo import ENTRY

pytestmark = pytest.mark.usefixtures("one_thread")


def command(*arguments: object):
    return CliRunner().invoke(cli, ["train", *map(str, arguments)])


def begin(drawn, run, *more: object):
    return command(
        "--entry", ENTRY, "--train-json", drawn.annotations, "--train-images", drawn.images, "--run-dir", run,
        "--workers", 0, "--device", "cpu", "--min-size", 64, *more,
    )  # fmt: skip


def test_T10_another_schedule_on_resuming_names_the_option_and_the_way_out(tmp_path, drawn, small_zoo):
    run = tmp_path / "run"
    assert begin(drawn, run, "--schedule", 1).exit_code == 0
    refused = command("--resume", "--run-dir", run, "--schedule", 2)
    assert isinstance(refused.exception, UsageError)
    assert "was begun with --schedule 1, now it has --schedule 2" in str(refused.exception)
    assert "--resume --extend 2" in str(refused.exception)

    extended = command("--resume", "--extend", 2, "--run-dir", run)
    assert extended.exit_code == 0, extended.exception
    assert [record["step"] for record in log(run, "end")] == [4]  # two epochs of 4 images, 2 a step
    metadata = read_canonical(run / "final.safetensors")[1]
    assert metadata["steps"] == "4"
    assert json.loads(metadata["recipe"])["schedule"]["epochs"] == 2
    again = command("--resume", "--run-dir", run)  # the schedule is the run's own now
    assert again.exit_code == 0, again.exception


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--batch-size", 1), "with --batch-size 2, now it has --batch-size 1"),
        (("--lr", 0.5), "with no --lr, now it has --lr 0.5"),
        (("--keep-empty",), "with no --keep-empty, now it has --keep-empty"),
        (("--precision", "bf16"), "with --precision fp32, now it has --precision bf16"),
        (("--min-size", 96), "with --min-size 64, now it has --min-size 96"),
        (("--no-ema",), "with no --ema, now it has no --ema"),
    ],
)
def test_T10_every_option_that_a_run_cannot_change_is_named(tmp_path, drawn, small_zoo, more, said):
    config = TrainingConfig(**options(drawn, tmp_path / "run", entry=ENTRY, min_size=64))
    config.run_dir.mkdir()
    config.write()
    refused = command("--resume", "--run-dir", config.run_dir, *more)
    assert isinstance(refused.exception, UsageError)
    assert said in str(refused.exception)


def test_T10_extending_before_the_schedules_part_is_as_if_begun_so(tmp_path, drawn):
    """Steps at a constant rate: a run of one epoch that goes on to two ends as one of two epochs, bit for bit."""

    def run(name: str, epochs: float, **how) -> dict[str, torch.Tensor]:
        recipe = adamw(1e-3, epochs, Curve.STEPS)
        return read_canonical(
            cascadezoo.train(TrainingConfig(**options(drawn, tmp_path / name)), model=learner(), recipe=recipe, **how)
        )[0]

    whole = run("whole", 2)
    run("parts", 1)
    with pytest.raises(UsageError, match=r"begun with schedule 1 epochs .*with --extend \(in Python extend=True\)"):
        run("parts", 2, resume=True)
    parts = run("parts", 2, extend=True)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    with pytest.raises(UsageError, match=r"has done 2 epochs, more than the 0\.5 that it is to go on to"):
        run("parts", 0.5, extend=True)


def test_T10_a_run_is_resumed_from_any_folder(tmp_path, drawn, small_zoo, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun = command(
        "--entry", ENTRY, "--train-json", "images.json", "--train-images", "images", "--val-json", "images.json",
        "--val-images", "images", "--run-dir", "run", "--workers", 0, "--device", "cpu", "--schedule", 0.5,
        "--min-size", 64,
    )  # fmt: skip
    assert begun.exit_code == 0, begun.exception
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    resumed = command("--resume", "--run-dir", "../run")
    assert resumed.exit_code == 0, resumed.exception
    assert not any(elsewhere.iterdir())


def test_T10_part_files_of_a_killed_run_are_cleared(tmp_path, drawn):
    """Of whatever file: after other --save-every, none of that name may be written again."""
    config = TrainingConfig(**options(drawn, tmp_path / "run"))
    recipe = adamw(1e-3, epochs=0.5)
    cascadezoo.train(config, model=learner(), recipe=recipe)
    for left in (".checkpoint-00000777.pt.0.part", ".best.safetensors.3.part"):
        (tmp_path / "run" / left).write_bytes(b"half")
    (tmp_path / "run" / ".mine.part").write_bytes(b"not ours")
    cascadezoo.train(config, model=learner(), recipe=recipe, resume=True)
    assert [path.name for path in (tmp_path / "run").iterdir() if path.name.startswith(".")] == [".mine.part"]


HOLD = """
import sys
from pathlib import Path
from cascadezoo.training.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_T10_two_resumes_in_one_folder_cannot_both_run(tmp_path, drawn):
    config = TrainingConfig(**options(drawn, tmp_path / "run"))
    recipe = adamw(1e-3, epochs=0.5)
    cascadezoo.train(config, model=learner(), recipe=recipe)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunInUse, match=rf"run is in use by process {other.pid} on .*: wait until that run ends"):
            cascadezoo.train(config, model=learner(), recipe=recipe, resume=True)
        after = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.name != ".lock"}
        assert after == before
        other.kill()  # -9: the lock goes with it
        other.wait()
    cascadezoo.train(config, model=learner(), recipe=recipe, resume=True)
    assert not (tmp_path / "run" / ".lock").exists()


def test_T10_a_lock_is_not_kept_by_a_worker_that_outlives_its_parent(tmp_path):
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            import time

            time.sleep(30)
            os._exit(0)
    with locked(tmp_path):
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_T10_one_process_cannot_take_a_folder_twice(tmp_path):
    with locked(tmp_path), pytest.raises(RunInUse, match="in use by this process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def infinite(model: torch.nn.Module, from_step: int = 0) -> torch.nn.Module:
    steps = iter(range(10_000))
    model.rpn.conv.weight.register_hook(lambda g: g * float("inf") if next(steps) >= from_step else g)
    return model


def test_T10_fp16_gradients_that_are_never_finite_stop_the_run(tmp_path, drawn):
    """From 65536 on the scale of the loss is halved at each step left out: after 17 of them it is below 1."""
    config = TrainingConfig(**options(drawn, tmp_path / "run", precision="fp16"))
    with pytest.raises(TrainingDiverged, match="step 19: the gradients' norm is"):
        cascadezoo.train(config, model=infinite(learner(), from_step=1), recipe=adamw(1e-3, epochs=20))
    assert not (tmp_path / "run" / "final.safetensors").exists()


def test_T10_a_short_fp16_run_that_learned_nothing_says_so(tmp_path, drawn):
    config = TrainingConfig(**options(drawn, tmp_path / "run", precision="fp16"))
    with pytest.raises(TrainingDiverged, match="none of the 4 steps had finite gradients with fp16"):
        cascadezoo.train(config, model=infinite(learner()), recipe=adamw(1e-3, epochs=2))
    assert not (tmp_path / "run" / "final.safetensors").exists()


def test_T10_fp16_steps_left_out_now_and_then_do_not_stop_a_run(tmp_path, drawn):
    config = TrainingConfig(**options(drawn, tmp_path / "run", precision="fp16"))
    assert cascadezoo.train(config, model=infinite(learner(), from_step=3), recipe=adamw(1e-3, epochs=2)).exists()
