"""No two threads of a block touch the same memory without a barrier or an atomic between, says gcc's thread sanitizer.

It takes a second for 1,000 threads, so there are few.  Blocks run one after another: between them it sees nothing.
"""

import re
import subprocess
from pathlib import Path

import pytest

from cuda_emulation.building import KERNELS, MADE, needs_compiler, program

RACES = sorted(Path(__file__).with_name("races").glob("*.cpp"))
BARRIER = re.compile(r"__sync(threads|warp)\(\);")


def with_its_sort(stem: str) -> str:
    """A kernel file with the sort that kernels share, whose barriers count as its own."""
    sort = (KERNELS / "sort.h").read_text().replace("#pragma once", "")
    return (KERNELS / f"{stem}.cu").read_text().replace('#include "sort.h"', sort)


BARRIERS = [(main.stem, number) for main in RACES for number in range(len(BARRIER.findall(with_its_sort(main.stem))))]
pytestmark = [needs_compiler, pytest.mark.emulated]


def run(stem: str, kernel: Path) -> subprocess.CompletedProcess:
    main = Path(__file__).with_name("races") / f"{stem}.cpp"
    built = program(f"race_{kernel.stem}", [main, kernel], "thread")
    return subprocess.run([built], capture_output=True, text=True, timeout=300)


def test_every_kernel_has_its_race_check() -> None:
    assert [path.stem for path in RACES] == sorted(path.stem for path in KERNELS.glob("*.cu"))


@pytest.mark.parametrize("stem", [path.stem for path in RACES])
def test_the_thread_sanitizer_is_silent(stem: str) -> None:
    done = run(stem, KERNELS / f"{stem}.cu")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("stem", "number"), BARRIERS)
def test_without_any_one_barrier_it_is_not(stem: str, number: int) -> None:
    """So the check reaches each barrier, with threads that need it, and none of them is idle.

    Some races are told, some lead to a wild address or to barriers that do not meet first.
    """
    text = with_its_sort(stem)
    barrier = list(BARRIER.finditer(text))[number]
    mutant = MADE / f"{stem}_without_{number}.cu"
    mutant.parent.mkdir(parents=True, exist_ok=True)
    mutant.write_text(text[: barrier.start()] + text[barrier.end() :])
    done = run(stem, mutant)
    assert done.returncode != 0
    assert re.search("ThreadSanitizer: (data race|SEGV)|divergent barrier", done.stderr), done.stderr
