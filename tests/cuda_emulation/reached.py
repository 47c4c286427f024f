"""What the race cases reach of the kernels: lines and branches by gcc's own count, and threads by the emulator's.

As a program (``make cuda-coverage``, which has tests/ on the path) it writes benchmarks/results/kernel_coverage.json.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from cascadezoo.benchmarks.measure.results import RESULTS, write_report

from cuda_emulation.building import KERNELS, ROOT, kernel_object, program

CSRC = ROOT / "csrc"
RACES = Path(__file__).with_name("races")
REPORT = ROOT / RESULTS / "kernel_coverage.json"
MOST_THREADS = 4000  # of a launch: the thread sanitizer takes a second for 1,000


class Place(NamedTuple):
    """A line of a file below csrc/."""

    file: str
    line: int

    @property
    def text(self) -> str:
        return _lines(self.file)[self.line - 1].strip()

    def __str__(self) -> str:
        return f"csrc/{self.file}:{self.line}: {self.text}"


class Reached(NamedTuple):
    """How often each line ran, and each of the ways that go on from it, whatever the types."""

    lines: Counter[Place]
    ways: dict[Place, list[list[int]]]  # where a template's instances have other ways, or other numbers of them, each

    def missed(self) -> list[Place]:
        """The lines that never ran, or never went on one of their ways, in order."""
        never = {place for place, count in self.lines.items() if count == 0}
        return sorted(never | {place for place, all_ways in self.ways.items() if any(0 in ways for ways in all_ways)})

    def of(self, files: Iterable[str]) -> "Reached":
        wanted = set(files)
        lines = Counter({place: n for place, n in self.lines.items() if place.file in wanted})
        return Reached(lines, {place: ways for place, ways in self.ways.items() if place.file in wanted})

    def row(self) -> dict[str, Any]:
        """As the report has it: how many lines and ways there are, and how many of them were taken."""
        ways = [count for all_ways in self.ways.values() for ways in all_ways for count in ways]
        return {
            "lines": len(self.lines),
            "lines_reached": sum(count > 0 for count in self.lines.values()),
            "branches": len(ways),
            "branches_reached": sum(count > 0 for count in ways),
            "not_reached": list(map(str, self.missed())),
        }


def added(parts: Iterable[Reached]) -> Reached:
    """Of several kernels: what one of them reaches of a header is reached."""
    lines: Counter[Place] = Counter()
    ways: dict[tuple[Place, int], list[int]] = {}
    for part in parts:
        for place, count in part.lines.items():  # update() would do, except for those that never ran
            lines[place] += count
        for place, all_ways in part.ways.items():
            for one in all_ways:
                key = place, len(one)
                ways[key] = [a + b for a, b in zip(ways.get(key, [0] * len(one)), one, strict=True)]
    by_place: dict[Place, list[list[int]]] = defaultdict(list)
    for (place, _), one in ways.items():
        by_place[place].append(one)
    return Reached(lines, dict(by_place))


@functools.cache
def run(stem: str) -> tuple[Reached, list[int]]:
    """What the race case of a kernel reaches of it and of its headers; the threads of each launch.

    Instances of a template are added up; but lambdas inside one, which gcov does not tell apart by instance, count each
    by itself.
    """
    # the kernel first: of what both have, the linker takes the first, and only that one counts
    main, kernel = RACES / f"{stem}.cpp", KERNELS / f"{stem}.cu"
    built = program(f"coverage_{stem}", [kernel, main], "coverage")
    notes = kernel_object(kernel, "coverage").with_suffix(".gcno")
    with tempfile.TemporaryDirectory() as folder:
        # counts go to this folder instead of the object's, and gcov wants the object's notes beside them
        where = {"GCOV_PREFIX": folder, "GCOV_PREFIX_STRIP": "99", "CUDA_EMULATED_LAUNCHES": "1"}
        told = subprocess.run([built], env=os.environ | where, check=True, capture_output=True, text=True).stdout
        shutil.copy(notes, folder)
        command = ["gcov", "--branch-probabilities", "--branch-counts", "--json-format", "--stdout", notes.stem]
        counted = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    return read(json.loads(counted)), [int(line.split()[0]) for line in told.splitlines()]


def read(counted: dict[str, Any]) -> Reached:
    """gcov's JSON, of the files below csrc/."""
    parts = []
    for file in counted["files"]:
        if not Path(file["file"]).is_relative_to(CSRC):
            continue
        name = str(Path(file["file"]).relative_to(CSRC))
        for line in file["lines"]:
            place, ways = Place(name, line["line_number"]), [branch["count"] for branch in line["branches"]]
            parts.append(Reached(Counter({place: line["count"]}), {place: [ways]} if ways else {}))
    return added(parts)


def kernels() -> list[str]:
    """The stems of csrc/cuda/*.cu, of which some may have no race case."""
    return sorted(path.stem for path in KERNELS.glob("*.cu"))


def with_case() -> list[str]:
    return [stem for stem in kernels() if (RACES / f"{stem}.cpp").exists()]


def headers() -> Reached:
    """What all race cases together reach of the kernels' headers."""
    together = added(run(stem)[0] for stem in with_case())
    return together.of(place.file for place in together.lines if place.file.endswith(".h"))


@functools.cache
def _lines(file: str) -> list[str]:
    return (CSRC / file).read_text().splitlines()


def main() -> None:
    """Print the table, write the report; exit code 1 where something is not reached."""
    rows = []
    for stem in with_case():
        reached, threads = run(stem)
        counts = {"launches": len(threads), "threads": sum(threads), "most_threads_of_a_launch": max(threads)}
        rows.append({"kernel": stem, **counts, **reached.of([f"cuda/{stem}.cu"]).row()})
    rows.append({"kernel": "headers that kernels include", **headers().row()})
    for row in rows:
        print(
            f"{row['kernel']:30} lines {row['lines_reached']:3} of {row['lines']:3}"
            f"  branches {row['branches_reached']:3} of {row['branches']:3}  threads {row.get('threads', '-')}"
        )
    write_report(REPORT, {"benchmark": "kernel_coverage", "kernels": rows})
    without = sorted(set(kernels()) - set(with_case()))
    faults = [f"csrc/cuda/{stem}.cu has no race case: write tests/cuda_emulation/races/{stem}.cpp" for stem in without]
    faults += [f"{place}, not reached" for row in rows for place in row["not_reached"]]
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
