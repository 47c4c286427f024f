"""Parts that sleep, fail, die and are cut: what they had written is kept, the others run, and the summary says all."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from cascadezoo.benchmarks.measure.gpu import __main__ as command_line
from cascadezoo.benchmarks.measure.gpu import part as module
from cascadezoo.benchmarks.measure.gpu import runner
from cascadezoo.benchmarks.measure.gpu.plan import PARTS, Part, chosen, seconds_for
from cascadezoo.benchmarks.measure.gpu.report import Deadline, Report

WRITE = "import json, os, sys, time; path = sys.argv[1]\n" + (
    "def write(status, failures={}, rows=[], left=[]):\n"
    "    with open(path, 'w') as f: json.dump(dict(status=status, failures=failures, rows=rows, left_out=left), f)\n"
)
SCRIPTS = {
    "passes": "write('passed', rows=[os.environ['COLOUR']])",
    "sleeps": "write('running', rows=[1, 2]); time.sleep(60)",
    "stays": "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); write('running', rows=[3]); time.sleep(60)",
    "fails": "write('failed', failures={'one': 'wrong', 'two': 'too'}); sys.exit(1)",
    "dies": "write('running', rows=[4]); os.kill(os.getpid(), 9)",
    "stumbles": "write('running', failures={'early': 'wrong'}); time.sleep(60)",
    "hurries": "write('passed', left=['the last entry'])",
    "is silent": "",
}


def parts(*names: str, least: float = 0) -> list[Part]:
    return [Part(name, 1, least, "a test") for name in names]


def run(tmp_path: Path, some: list[Part], budget: float, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setattr(runner, "RESERVE", 0.0)
    monkeypatch.setattr(runner, "GRACE", 0.3)

    def of(part: Part, output: Path, seconds: float) -> list[str]:
        return [sys.executable, "-c", WRITE + SCRIPTS[part.name], str(output)]

    environ = {**os.environ, "COLOUR": "red"}
    return dict(runner.run_parts(some, tmp_path, budget, lambda: environ, of))


def kept(tmp_path: Path, part: str) -> dict:
    return json.loads(runner.report_of(part, tmp_path).read_text())


def test_failures_do_not_stop_the_rest(tmp_path: Path, monkeypatch, capfd) -> None:
    outcomes = run(tmp_path, parts("fails", "dies", "is silent", "hurries", "passes"), 60, monkeypatch)
    assert {name: outcome["status"] for name, outcome in outcomes.items()} == {
        "fails": "failed", "dies": "failed", "is silent": "failed", "hurries": "passed", "passes": "passed"
    }  # fmt: skip
    assert outcomes["fails"]["why"] == "one: wrong (and 1 more)"
    assert outcomes["dies"]["why"] == f"its process ended with code {-signal.SIGKILL}"
    assert outcomes["is silent"]["why"] == "its process ended with code 0"
    assert outcomes["hurries"]["left_out"] == ["the last entry"]
    assert kept(tmp_path, "dies") == {**kept(tmp_path, "dies"), "status": "failed", "rows": [4]}
    assert kept(tmp_path, "passes")["rows"] == ["red"]
    assert "left out of hurries: the last entry" in command_line.summary(outcomes)
    assert "--- dies: failed" in capfd.readouterr().out


def test_what_is_not_done_in_time_is_cut_and_its_results_are_kept(tmp_path: Path, monkeypatch) -> None:
    start = time.monotonic()
    outcomes = run(tmp_path, parts("sleeps", "stays", "stumbles"), 3, monkeypatch)
    assert time.monotonic() - start < 10
    assert [outcome["status"] for outcome in outcomes.values()] == ["cut", "cut", "failed"]
    assert (kept(tmp_path, "sleeps")["status"], kept(tmp_path, "sleeps")["rows"]) == ("cut", [1, 2])
    assert (kept(tmp_path, "stays")["status"], kept(tmp_path, "stays")["rows"]) == ("cut", [3])
    assert "with 1 failures" in outcomes["stumbles"]["why"]


def test_what_a_cut_part_has_started_ends_with_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(
        SCRIPTS, "has a child",
        "import subprocess; child = subprocess.Popen(['sleep', '60']); write('running', rows=[child.pid])\n"
        "child.wait()",
    )  # fmt: skip
    run(tmp_path, parts("has a child"), 1, monkeypatch)
    child = kept(tmp_path, "has a child")["rows"][0]
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_part_that_no_longer_fits_is_left_out(tmp_path: Path, monkeypatch) -> None:
    runner.report_of("sleeps", tmp_path).write_text('{"rows": ["of an earlier run"]}')
    outcomes = run(tmp_path, [*parts("passes"), *parts("sleeps", least=50)], 20, monkeypatch)
    assert outcomes["passes"]["status"] == "passed"
    assert outcomes["sleeps"]["status"] == "left out"
    assert "it takes 50 s to begin" in outcomes["sleeps"]["why"]
    assert kept(tmp_path, "sleeps") == {"rows": ["of an earlier run"]}


def test_an_older_report_does_not_pass_for_this_runs(tmp_path: Path, monkeypatch) -> None:
    runner.report_of("is silent", tmp_path).write_text('{"status": "passed"}')
    assert run(tmp_path, parts("is silent"), 20, monkeypatch)["is silent"]["status"] == "failed"


def test_shares_of_the_time() -> None:
    a, b, c = (Part(name, share, 0, "") for name, share in (("a", 1), ("b", 2), ("c", 1)))
    assert seconds_for(a, [b, c], 100) == 25
    assert seconds_for(b, [c], 90) == 60  # what a did not use is shared
    assert seconds_for(c, [], 30) == 30
    assert sum(part.share for part in PARTS) == pytest.approx(1)
    nine_minutes = 9 * 60 - runner.RESERVE
    assert all(part.share * nine_minutes >= part.least + runner.MARGIN / 2 for part in PARTS)


def test_a_part_is_told_when_to_end_by_itself(tmp_path: Path, monkeypatch) -> None:
    """60 s from now less the margin; its own clock counts the rest, however long it took to start."""
    left: list[float] = []
    monkeypatch.setattr(module, "run", lambda name, output, device, seconds: left.append(seconds) or True)
    _, *arguments = runner.command(PARTS[0], tmp_path / "x.json", 60)
    monkeypatch.setattr(sys, "argv", arguments[1:])
    assert module.main() == 0
    assert left == [pytest.approx(60 - runner.MARGIN, abs=5)]


def test_parts_are_run_in_their_order_of_worth() -> None:
    assert [part.name for part in chosen("latency, build,ops")] == ["build", "ops", "latency"]
    assert chosen(None) == list(PARTS)
    assert {part.name for part in PARTS} == module.MODULES.keys()


def test_without_a_gpu_nothing_is_run(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command_line.main(["--results", str(tmp_path)]) == 3
    assert capsys.readouterr().out == "no GPU that this torch can use: nothing was run\n"
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_part_is_refused(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(["--only", "build,games"])
    assert ended.value.code == 2
    assert "there is no part 'games': the parts are build, ops, sync" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "code"), [("passed", 0), ("cut", 0), ("left out", 0), ("failed", 1)])
def test_the_exit_code_and_the_summary(tmp_path: Path, monkeypatch, capsys, status: str, code: int) -> None:
    outcome = {"status": status, "seconds": 3.0, "why": "of this"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(command_line, "run_parts", lambda parts, *_: [(part.name, outcome) for part in parts])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert command_line.main(["--results", str(tmp_path), "--only", "sync", "--budget", "2"]) == code
    found = json.loads((tmp_path / "gpu_summary.json").read_text())
    assert (found["budget_minutes"], found["parts"]) == (2, {"sync": outcome})
    assert found["not_asked_for"] == [part.name for part in PARTS if part.name != "sync"]
    assert found["environment"]["packages"]["torch"]
    assert f"sync        {status} (3 s): of this" in capsys.readouterr().out


@pytest.mark.parametrize(("library", "ops"), [(Path("there"), "compiled"), (None, "auto")])
def test_parts_run_compiled_operators_where_they_are_built(library, ops: str, monkeypatch) -> None:
    monkeypatch.setattr(command_line.building, "built", lambda *_: library)
    monkeypatch.delenv("CASCADEZOO_OPS", raising=False)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert command_line.environ()["CASCADEZOO_OPS"] == ops
    assert "NVIDIA_TF32_OVERRIDE" not in command_line.environ()
    monkeypatch.setenv("PYTHONPATH", "packages")
    assert command_line.environ()["PYTHONPATH"] == f"{Path.cwd()}{os.pathsep}packages"
    monkeypatch.setenv("CASCADEZOO_OPS", "torch")
    assert command_line.environ()["CASCADEZOO_OPS"] == "torch"


def test_a_report_is_on_disk_from_the_first_row_on(tmp_path: Path) -> None:
    report = Report(tmp_path / "deep/gpu_x.json", "x", Deadline(100))

    def now() -> dict:
        return json.loads(report.path.read_text())

    assert (now()["status"], now()["rows"]) == ("running", [])
    assert "driver" in now()["environment"]
    with report.attempt("one"):
        report.data["rows"].append(1)
    assert now()["rows"] == [1]
    with report.attempt("two"):
        raise ValueError("no such thing\nand more")
    with report.attempt("three"):
        raise ValueError
    assert now()["failures"] == {"two": "ValueError: no such thing\nand more", "three": "ValueError: no message"}
    assert report.has_time("four", 50)
    assert not report.has_time("five", 500)
    assert now()["left_out"] == ["five"]
    assert not report.end()
    assert now()["status"] == "failed"
    assert Report(tmp_path / "y.json", "y", Deadline(0)).end()


def test_a_part_that_raises_has_failed(tmp_path: Path, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise MemoryError("none left")

    monkeypatch.setattr("cascadezoo.benchmarks.measure.gpu.waits.run", broken)
    output = tmp_path / "gpu_sync.json"
    monkeypatch.setattr(sys, "argv", ["part", "sync", "--output", str(output), "--device", "cpu"])
    assert module.main() == 1
    found = json.loads(output.read_text())
    assert (found["status"], found["failures"]) == ("failed", {"sync": "MemoryError: none left"})
