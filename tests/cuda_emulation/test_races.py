"""No two threads of a block touch the same memory without a barrier or an atomic between, says gcc's thread sanitizer.

It takes a second for 1,000 threads, so there are few.  Blocks run one after another: between them it sees nothing.
"""

import subprocess
from pathlib import Path

import pytest

from cuda_emulation.building import KERNELS, needs_compiler, program

RACES = sorted(Path(__file__).with_name("races").glob("*.cpp"))
pytestmark = [needs_compiler, pytest.mark.emulated]


def test_every_kernel_has_its_race_check() -> None:
    assert [path.stem for path in RACES] == sorted(path.stem for path in KERNELS.glob("*.cu"))


@pytest.mark.parametrize("main", RACES, ids=lambda path: path.stem)
def test_the_thread_sanitizer_is_silent(main: Path) -> None:
    built = program(f"race_{main.stem}", [main, KERNELS / f"{main.stem}.cu"], "thread")
    done = subprocess.run([built], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
