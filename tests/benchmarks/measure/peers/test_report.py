"""The command, its report and its section of the page; memory and training, which are parts of it."""

import json
import os
import sys
from functools import partial
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cascadezoo
from cascadezoo.benchmarks.measure import training as training_benchmark
from cascadezoo.benchmarks.measure.peer_section import families_section, peer_section
from cascadezoo.benchmarks.measure.peers import __main__ as command
from cascadezoo.benchmarks.measure.peers import families, features, latency, memory, mmdetection, training
from cascadezoo.benchmarks.measure.peers.contender import Contender, Made, Setting, disagreeing
from cascadezoo.benchmarks.measure.peers.ours import OURS
from cascadezoo.benchmarks.measure.results import process_memory
from cascadezoo.benchmarks.verify.timing import Clock

MIB = 2**20
NOWHERE = "a_module_that_nobody_has"


def pages(size: int) -> mmap:
    """Memory of its own, which goes back to the system with it, however malloc was told to keep what is freed."""
    made = mmap(-1, size)
    np.frombuffer(made, np.uint8)[:] = 1
    return made


def fresh() -> mmap:
    """32 MiB more than this process has ever had."""
    return pages(process_memory("VmHWM") - process_memory("VmRSS") + 32 * MIB)


def test_memory_of_imports_of_loading_and_of_an_image(given: Setting) -> None:
    """What loading gives back does not count for the image."""

    def make(given: Setting) -> Made:
        way, weights = OURS["plain"].make(given).way, fresh()
        pages(512 * MIB)
        return Made(way._replace(whole=lambda: (weights, pages(256 * MIB))), None)

    found = memory.peak(Contender(make), given, threads=1)
    assert found["loading_bytes"] - found["imported_bytes"] > 448 * MIB
    assert 128 * MIB < found["loading_bytes"] - found["inference_bytes"] < 384 * MIB


def test_each_process_is_a_new_one() -> None:
    assert memory.apart(os.getpid) != os.getpid()


def learner(loss: float, lesson: training.Lesson, given: Setting) -> training.Step:
    """One that is twice as slow in everything as a step of ours is said to be."""
    assert (lesson.batch_size, given.threshold > 0) == (1, True)
    return lambda: {"forward": 2.0, "backward": 4.0, "optimizer": 0.5, "loss": loss}


def test_steps_of_training_are_compared_by_parts_and_losses(given: Setting, tmp_path: Path) -> None:
    lesson = training.Lesson(*training_benchmark.generate(tmp_path, 1), 1)
    loss = training.ours(lesson, given)()["loss"]
    learners = {
        **training.contenders(lesson),
        "near": Contender(partial(learner, 1.04 * loss, lesson)),
        "far": Contender(partial(learner, 1.06 * loss, lesson)),
    }
    learners["mmdetection"] = learners["mmdetection"]._replace(modules=(NOWHERE,))  # were it here, it would take long
    report = training.measure(learners, given, steps=2)
    rows = {row["way"]: row for row in report["rows"]}
    assert {name: row["agrees"] for name, row in rows.items()} == {"plain": True, "near": True, "far": False}
    assert list(report["missing"]) == ["mmdetection"]
    assert all(spread["min"] > 0 for spread in rows["plain"]["seconds"].values())
    assert rows["near"]["step_seconds"] == {"min": 6.5, "median": 6.5, "max": 6.5}
    plain = rows["plain"]["step_seconds"]
    assert rows["near"]["plain_is_times_faster"]["max"] == pytest.approx(6.5 / plain["min"], rel=1e-2)


def parts(_: Any) -> dict[str, Contender[training.Step]]:
    def step() -> Clock:
        return {"forward": 1.0, "backward": 2.0, "optimizer": 0.25, "loss": 80.0}

    return {"plain": Contender(lambda _: step), "absent": Contender(lambda _: step, (NOWHERE,))}


@pytest.fixture
def run(given: Setting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Start the command with these contenders; its exit code and its report."""

    def run(**peers: Contender[Made]) -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr(latency, "CONTENDERS", {"plain": OURS["plain"], **peers})
        monkeypatch.setattr(features, "CONTENDERS", {"plain": features.CONTENDERS["plain"]})
        monkeypatch.setattr(training, "contenders", parts)
        monkeypatch.setattr(memory, "apart", lambda work, *arguments: work(*arguments))
        monkeypatch.setattr(command, "scene", lambda: given.image)
        output = tmp_path / "peers.json"
        options = ["--threads", "1", "--runs", "1", "--steps", "1", "--output", str(output)]
        monkeypatch.setattr(sys, "argv", ["peers", *options])
        return command.main(), json.loads(output.read_text())

    return run


def test_the_report_and_its_section(
    run, faithful: Contender, absent: Contender, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = run(faithful=faithful, absent=absent)
    assert code == 0
    assert (report["threads"], report["image"]) == (1, [60, 80])
    assert 0 < report["memory"]["faithful"]["imported_bytes"] <= report["memory"]["faithful"]["loading_bytes"]
    assert report["memory"]["faithful"]["inference_bytes"] > 0
    said = capsys.readouterr().out
    assert f"latency: without absent: {NOWHERE}: ModuleNotFoundError" in said
    page = "\n".join(peer_section(tmp_path))
    found = report["latency"]["rows"][1]["difference"]
    assert f"{found['paired']} of {found['before']} paired |" in page
    assert "| plain | 1.00 | 2.00 | 0.25 | 3.25 (3.25 to 3.25) | 1.00 (1.00 to 1.00) | 80.00 |" in page
    ratio = report["latency"]["times_faster"]["plain"]["faithful"]["whole"]
    assert f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}) |" in page
    for part in ("latency", "training"):
        assert f"Not measured: absent ({part}), {NOWHERE}: ModuleNotFoundError" in page


def test_another_networks_results_are_a_failure(run, wrong: Contender, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = run(wrong=wrong)
    assert code == 1
    assert [row["agrees"] for row in report["latency"]["rows"]] == [True, False]
    assert "another network's results: wrong (latency)" in capsys.readouterr().err


def test_a_narrower_precision_may_find_something_else() -> None:
    rows = [{"way": "optimized, bf16", "precision": "bf16", "agrees": False}]
    assert disagreeing({"latency": {"rows": rows}, "features": {"rows": []}}) == []
    rows.append({"way": "other", "agrees": False})
    assert disagreeing({"latency": {"rows": []}, "features": {"rows": rows}}) == ["other (features)"]


def test_there_is_no_section_without_a_report(tmp_path: Path) -> None:
    assert peer_section(tmp_path) == families_section(tmp_path) == []


def test_a_network_of_each_kind_beside_mmdetection(
    given: Setting, faithful: Contender, wrong: Contender, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "families.json"
    options = ["--entries", given.entry, "--threads", "1", "--runs", "2", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["families", *options])
    monkeypatch.setattr(families, "scene", lambda: given.image)
    monkeypatch.setattr(families, "NETWORKS", {"plain": OURS["plain"]})
    monkeypatch.setattr(mmdetection, "CONTENDER", faithful)
    monkeypatch.setattr(mmdetection, "EXTRACTOR", features.CONTENDERS["plain"])
    assert families.main() == 0
    report = json.loads(output.read_text())
    (network,) = report["networks"]
    page = "\n".join(families_section(tmp_path))
    ratio = network["latency"]["times_faster"]["plain"]["mmdetection"]["whole"]
    spread = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
    row = next(line for line in page.splitlines() if line.startswith(f"| `{given.entry}` | plain |"))
    assert row.endswith(f"| {spread} |  |")
    assert "| optimized |" not in page
    monkeypatch.setattr(mmdetection, "CONTENDER", wrong)
    assert families.main() == 1
    assert f"another network's results: {given.entry}: mmdetection (latency)" in capsys.readouterr().err


def test_every_network_of_the_list_is_in_the_zoo() -> None:
    assert [cascadezoo.info(entry).name for entry in families.ENTRIES] == list(families.ENTRIES)
