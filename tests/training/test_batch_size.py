"""The batch size that is left to be found: by trying, or by the memory of two steps; stored, and kept when resumed."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_coco import TooSmall

import cascadezoo
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.distributed import World
from cascadezoo.errors import OutOfMemory, UsageError
from cascadezoo.spec.recipe import Augmentation, ScaleJitter, Scales
from cascadezoo.training import batch_size
from cascadezoo.training.batch_size import by_memory, by_trying, largest, with_fitting
from cascadezoo.training.config import AUTO, TrainingConfig
from cascadezoo.training.loader import TrainingSet
from cascadezoo.training.memory import forget_peak, free_memory, held_memory, peak_memory

from drawn import draw_set
from learning import adamw, learner, log, options
from tiny import tiny

CPU = torch.device("cpu")
GIB = 2**30
RECIPE = adamw(1e-3, epochs=1)


@pytest.mark.parametrize("room", [0, 1, 2, 3, 6, 7, 8, 9, 50, 63, 64, 1000])
@pytest.mark.parametrize("most", [1, 5, 64])
def test_the_largest_that_fits(room: int, most: int) -> None:
    tried: list[int] = []

    def fits(images: int) -> bool:
        tried.append(images)
        return images <= room

    assert largest(fits, most) == min(room, most)
    assert len(tried) <= 14
    assert max(tried) <= most


def trial(step: Any, sizes: tuple[tuple[int, int], tuple[int, int]] = ((10, 10), (10, 10))) -> Any:
    """Its size with one image and with more."""

    class Trial:
        def __call__(self, images: int) -> None:
            step(images)

        def size(self, images: int) -> tuple[int, int]:
            return sizes[images > 1]

    return Trial()


def test_by_trying() -> None:
    def step(images: int) -> None:
        if images > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")

    fit = by_trying(trial(step), 100, CPU)
    assert (fit.images, fit.words) == (
        5,
        "batch size 5: the most that cpu has memory for with a tenth to spare, tried with steps of 10 x 10 pixels "
        "(height x width)",
    )
    fit = by_trying(trial(step), 4, CPU)
    assert (fit.images, fit.words.split(",")[0]) == (4, "batch size 4: all images of the data")

    def broken(images: int) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        by_trying(trial(broken), 100, CPU)
    with pytest.raises(OutOfMemory, match="too little memory to train on one image of 10 x 10 pixels"):
        by_trying(trial(lambda images: step(images + 5)), 100, CPU)


# peaks with one image and with two, what is held at the time and what is free, sizes; the number that fits in nine
# tenths of held + free
MEMORY = {
    "same sizes": ((3, 5), 2, 28, ((10, 10), (10, 10)), 13),  # 27 - 5 hold 11 of 2 more
    "the second is padded to more": ((3, 6), 2, 28, ((10, 10), (10, 10)), 9),  # 27 - 6 hold 7 of 3
    "mixed shapes": ((3, 6), 2, 28, ((8, 10), (10, 10)), 10),  # 3 GiB for 200 - 80 pixels: 2.5 each; 21 hold 8
    "one": ((3, 5), 2, 2, ((10, 10), (10, 10)), 1),  # 3.6: 5 are 1 too many
}


@pytest.mark.parametrize("case", MEMORY)
def test_by_memory(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks, held, free, sizes, expected = MEMORY[case]
    done: list[int] = []
    monkeypatch.setattr(batch_size, "forget_peak", lambda: None)
    monkeypatch.setattr(batch_size, "held_memory", lambda: held * GIB)
    monkeypatch.setattr(batch_size, "free_memory", lambda: free * GIB)
    monkeypatch.setattr(batch_size, "peak_memory", lambda: peaks[len(done) - 1] * GIB)
    fit = by_memory(trial(done.append, sizes), 100, CPU)
    assert fit.images == expected
    assert f"a step takes {peaks[0]}.00 GiB with one image and {peaks[1]}.00 GiB with two, of 10 x 10" in fit.words
    done.clear()
    assert by_memory(trial(done.append, sizes), 5, CPU).images == min(expected, 5)


def test_no_room_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, gib in (("forget_peak", 0), ("held_memory", 1), ("free_memory", 1)):
        monkeypatch.setattr(batch_size, name, lambda gib=gib: gib * GIB)
    peaks = iter((3, 5))
    monkeypatch.setattr(batch_size, "peak_memory", lambda: next(peaks) * GIB)
    with pytest.raises(OutOfMemory, match=r"cpu has too little memory .* \(--min-size"):
        by_memory(trial(lambda images: None), 100, CPU)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MACHINE = {"proc/meminfo": "MemTotal: 4000 kB\nMemAvailable: 2000 kB\n"}
V1 = "sys/fs/cgroup/memory"
FREE: dict[str, tuple[dict[str, str], int]] = {
    "no groups": ({}, 2000 * 1024),
    "no limit": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 2000 * 1024),
    "v2": (
        {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "9000",
         "sys/fs/cgroup/a/memory.current": "5000",
         "sys/fs/cgroup/a/memory.stat": "anon 100\ninactive_file 500\n", "sys/fs/cgroup/a/b/memory.max": "max",
         "sys/fs/cgroup/a/b/memory.current": "5000"},
        4500,
    ),
    "v1": (
        {"proc/self/cgroup": "4:cpu,memory:/a\n3:pids:/\n", f"{V1}/memory.limit_in_bytes": "9223372036854771712",
         f"{V1}/memory.usage_in_bytes": "77", f"{V1}/a/memory.limit_in_bytes": "900",
         f"{V1}/a/memory.usage_in_bytes": "700",
         f"{V1}/a/memory.stat": "total_inactive_file 50\n"},
        250,
    ),
    "over its limit": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "5", "sys/fs/cgroup/memory.current": "9"}, 0
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FREE)
def test_what_is_free(case: str, tmp_path: Path) -> None:
    files, free = FREE[case]
    assert free_memory(tree(tmp_path, {**MACHINE, **files})) == free


def test_what_a_process_takes(tmp_path: Path) -> None:
    root = tree(
        tmp_path, {"proc/self/status": "VmPeak: 9 kB\nVmHWM:\t 7 kB\nVmRSS: 5 kB\n", "proc/self/clear_refs": ""}
    )
    assert (peak_memory(root), held_memory(root)) == (7 * 1024, 5 * 1024)
    forget_peak(root)
    assert (root / "proc/self/clear_refs").read_text() == "5"
    for call in (free_memory, peak_memory, held_memory, forget_peak):
        with pytest.raises(UsageError, match="--batch-size auto: this system does not say how much memory"):
            call(tmp_path / "gone")


@pytest.fixture
def cramped(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A network on a device with room for three images, which is tried like a GPU."""
    monkeypatch.setitem(batch_size._BY, "cpu", by_trying)

    def make() -> Any:
        model = learner()
        model.extract = TooSmall(model.extract, 3, torch.OutOfMemoryError("CUDA out of memory"))
        return model

    return make


def test_a_run_is_that_with_the_number_which_was_found(cramped, drawn, tmp_path: Path, one_thread) -> None:
    found, given = tmp_path / "found", tmp_path / "given"
    auto = TrainingConfig(**options(drawn, found, batch_size="auto"))
    model = cramped()
    final = cascadezoo.train(auto, model=model, recipe=RECIPE)
    assert json.loads((found / "config.json").read_text())["batch_size"] == 3
    assert model.extract.tried[:10] == [1, 1, 2, 2, 4, 3, 3, 3, 3]  # two steps each; then the run's own two
    notes = [record["text"] for record in log(found, "note")]
    assert notes[0].startswith("batch size 3: the most that cpu has memory for")
    assert "2 steps of 3 images" in notes[1]
    assert any(note.startswith("learning rate 0.001: 0.001 for 1 images per step, here 3") for note in notes)
    other = cascadezoo.train(TrainingConfig(**options(drawn, given, batch_size=3)), model=learner(), recipe=RECIPE)
    one, same = read_canonical(final)[0], read_canonical(other)[0]
    assert all(torch.equal(one[name], same[name]) for name in one)

    again = cramped()  # resumed, it takes the number as it is
    cascadezoo.train(auto, model=again, recipe=RECIPE, resume=True)
    assert again.extract.tried == []
    assert json.loads((found / "config.json").read_text())["batch_size"] == 3


def test_no_more_than_an_epoch_holds(cramped, drawn, tmp_path: Path) -> None:
    """Of four images and two passes a step, two."""
    config = TrainingConfig(**options(drawn, tmp_path / "run", batch_size="auto", accumulate=2))
    cascadezoo.train(config, model=cramped(), recipe=RECIPE)
    assert TrainingConfig.read(tmp_path / "run").batch_size == 2


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="Linux alone says what a step takes")
def test_the_memory_of_real_steps(drawn, tmp_path: Path) -> None:
    """Four tiny images fit anywhere."""
    config = TrainingConfig(**options(drawn, tmp_path / "run", batch_size="auto"))
    cascadezoo.train(config, model=learner(), recipe=RECIPE)
    assert TrainingConfig.read(tmp_path / "run").batch_size == 4
    (note,) = (record["text"] for record in log(tmp_path / "run", "note") if record["text"].startswith("batch size"))
    assert "GiB with one image" in note
    assert note.endswith("for all images of the data")


def test_steps_are_tried_on_what_pads_most(tmp_path: Path) -> None:
    """The wide image is 64 x 96 at the largest scale, of 48 and 64; the upright one 96 x 64: together 96 x 96."""
    wide, upright = draw_set(tmp_path / "a", 2), draw_set(tmp_path / "b", 1, size=(96, 64))
    one, two = (json.loads(each.annotations.read_text()) for each in (wide, upright))
    (wide.images / "up.png").write_bytes((upright.images / "011.png").read_bytes())
    one["images"].append({**two["images"][0], "id": 99, "file_name": "up.png"})
    one["annotations"] += [{**each, "id": 50 + each["id"], "image_id": 99} for each in two["annotations"]]
    wide.annotations.write_text(json.dumps(one))
    spec = tiny(num_classes=3)
    wild = Augmentation(min_sizes=(48, 64), max_size=96, scales=Scales.RANGE)
    samples = TrainingSet(CocoDataset(wide.annotations, wide.images), spec, wild, 0)
    config = TrainingConfig(**options(wide, tmp_path / "run"))
    tried = batch_size.Trial(SimpleNamespace(spec=spec, state_dict=dict), RECIPE, samples, config, World(0, 1, CPU))
    assert tried.size(1) in ((64, 96), (96, 64))
    assert tried.size(2) == tried.size(7) == (96, 96)
    assert samples.augmentation == wild
    # jittered to twice 64, and cut to it
    jitter = Augmentation(jitter=ScaleJitter(size=64, smallest=0.1, largest=2.0))
    samples = TrainingSet(CocoDataset(wide.annotations, wide.images), spec, jitter, 0)
    tried = batch_size.Trial(SimpleNamespace(spec=spec, state_dict=dict), RECIPE, samples, config, World(0, 1, CPU))
    assert tried.size(1) == tried.size(3) == (64, 64)


def test_several_processes_are_refused(drawn, tmp_path: Path) -> None:
    config = TrainingConfig(**options(drawn, tmp_path / "run", batch_size="auto"))
    assert config.batch_size == AUTO
    with pytest.raises(UsageError, match="--batch-size auto is for one process"):
        with_fitting(config, None, RECIPE, None, World(1, 2, CPU))  # type: ignore[arg-type]  # looked at later


@pytest.mark.parametrize("value", [0, -1, 2.5, float("inf"), 10**400, "0", "many", "2.5", [2]])
def test_what_is_no_batch_size(value: Any, drawn, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch_size: a number of images, 1 or more, or auto is wanted, not"):
        TrainingConfig.of(**options(drawn, tmp_path / "run", batch_size=value))
    assert TrainingConfig.of(**options(drawn, tmp_path / "run", batch_size="7")).batch_size == 7
