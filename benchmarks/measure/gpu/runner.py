"""Each part in a process of its own, which is ended where its time is up; what it has written by then is kept."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cascadezoo.benchmarks.measure.gpu.plan import Part, seconds_for
from cascadezoo.benchmarks.measure.gpu.report import CUT, FAILED, LEFT_OUT, PASSED, RUNNING, Deadline
from cascadezoo.files import write_json

GRACE = 5.0  # seconds between asking a process to end and ending it
MARGIN = 8.0  # seconds before that at which a part ends by itself, with what it has
RESERVE = 10.0  # seconds at the end of the budget for what is cut and for the summary
Command = Callable[[Part, Path, float], Sequence[str]]


def report_of(part: str, results: Path) -> Path:
    """Where the report of a part lies."""
    return results / f"gpu_{part}.json"


def command(part: Part, output: Path, seconds: float) -> list[str]:
    """What runs a part for so many seconds, the start of its process included."""
    module, until = "cascadezoo.benchmarks.measure.gpu.part", time.time() + seconds - MARGIN
    return [sys.executable, "-m", module, part.name, "--output", str(output), "--until", f"{until:.0f}"]


def run_parts(
    parts: Sequence[Part], results: Path, budget: float, environ: Callable[[], dict[str, str]], of: Command = command
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run the parts one after another in ``budget`` seconds; what came of each, with its name, as it ends.

    ``environ``: the environment of a part's process, asked for anew before each; ``of``: the command that runs one.
    """
    deadline = Deadline(budget - RESERVE)
    for number, part in enumerate(parts):
        seconds = seconds_for(part, parts[number + 1 :], deadline.left())
        if seconds < part.least:
            why = f"{seconds:.0f} s were left for it, and it takes {part.least:.0f} s to begin"
            outcome = {"status": LEFT_OUT, "seconds": 0.0, "why": why}
        else:
            print(f"--- {part.name}: {part.about}, {seconds:.0f} s at most", flush=True)
            outcome = _run(part, report_of(part.name, results), seconds, environ(), of)
        print(f"--- {part.name}: {described(outcome)}", flush=True)
        yield part.name, outcome


def described(outcome: dict[str, Any]) -> str:
    """An outcome in a line."""
    return f"{outcome['status']} ({outcome['seconds']:.0f} s){': ' + outcome['why'] if outcome['why'] else ''}"


def _run(part: Part, output: Path, seconds: float, environ: dict[str, str], of: Command) -> dict[str, Any]:
    output.unlink(missing_ok=True)  # an older one would pass for this run's where the part dies early
    start = time.monotonic()
    process = subprocess.Popen(of(part, output, seconds), env=environ, process_group=0)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        end(process)
    outcome = {"status": PASSED, "seconds": round(time.monotonic() - start, 1), "why": ""}
    found = json.loads(output.read_text()) if output.exists() else None
    if code is None:
        outcome |= {"status": CUT, "why": f"it was not done in {seconds:.0f} s; what it had written is kept"}
    elif found is None or found["status"] == RUNNING:
        outcome |= {"status": FAILED, "why": f"its process ended with code {code}"}
    elif found["status"] == FAILED:
        first, *others = [f"{what}: {why.splitlines()[0]}" for what, why in found["failures"].items()]
        outcome |= {"status": FAILED, "why": first + (f" (and {len(others)} more)" if others else "")}
    elif code:
        outcome |= {"status": FAILED, "why": f"its process ended with code {code} after all had passed"}
    if found and found["failures"] and outcome["status"] == CUT:
        outcome |= {"status": FAILED, "why": f"cut after {seconds:.0f} s, with {len(found['failures'])} failures"}
    if found and found["left_out"]:
        outcome["left_out"] = found["left_out"]
    if found and found["status"] == RUNNING:
        write_json(output, {**found, "status": outcome["status"], "why": outcome["why"]})
    return outcome


def end(process: "subprocess.Popen[Any]") -> None:
    """End a process that leads a group, and all of the group."""
    for kind, wait in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            break
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
