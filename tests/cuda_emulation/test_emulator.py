"""The emulator finds seeded mistakes, each by the means that shall find it, and lets right kernels pass."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from cuda_emulation.building import needs_compiler, program

SEEDED = Path(__file__).with_name("seeded.cu")
RIGHT = ("right", "masks", "indices", "halves", "much shared memory")
emulated = pytest.mark.emulated
pytestmark = needs_compiler


def run(case: str, sanitizer: str = "", fibres: str = "", seed: int = 0) -> subprocess.CompletedProcess:
    command = [program("seeded", [SEEDED], sanitizer, fibres), case]
    environment = os.environ | {"CUDA_EMULATED_SEED": str(seed), "ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("case", RIGHT)
@pytest.mark.parametrize(
    ("sanitizer", "fibres"),
    [
        ("", ""),
        pytest.param("", "ucontext", marks=emulated),
        pytest.param("address", "", marks=emulated),
        pytest.param("thread", "", marks=emulated),
    ],
)
def test_a_right_kernel_passes(case: str, sanitizer: str, fibres: str) -> None:
    done = run(case, sanitizer, fibres)
    assert (done.returncode, done.stdout, done.stderr) == (0, "right\n", "")


STOPS = {
    "divergent barrier": r"divergent barrier: thread \d+ waits at __syncthreads at \S+:59, thread \d+ at \S+:61",
    "barrier after return": r"divergent barrier: .*:66, and 64 of 128 threads have returned",
    "missing lane": r"lane 16 of mask ffffffff does not come to a shuffle at .*:70: it waits at __syncthreads",
    "lane without itself": r"lane \d+ calls a shuffle with mask 0000ffff, which lacks it, at .*:74",
    "lane not in mask": r"lane \d+ shuffles from lane \d+, which its mask 0000ffff lacks, at .*:77",
    "lane that is not there": r"names lane 20, which the block does not have, at .*:70",
    "two operations": r"does not come to a (shuffle|vote) at .*: it waits in another warp operation",
    "too many threads": r"a block of 32 x 33 x 1 threads: 1 to 1024 are possible",
    "too many rows": r"a grid of 1 x 65536 x 1 blocks",
    "no block": r"a grid of 0 x 1 x 1 blocks",
    "too much shared memory": r"232449 bytes of dynamic shared memory: a block can have 232448",
    "shared memory not asked for": r"more than 49152 need cudaFuncSetAttribute first",
    "shared overrun": r"overrun: something was written behind the 512 bytes of dynamic shared memory",
}


@pytest.mark.parametrize("case", STOPS)
@pytest.mark.parametrize("fibres", ["", pytest.param("ucontext", marks=emulated)])
def test_a_misuse_stops_with_a_sentence(case: str, fibres: str) -> None:
    done = run(case, fibres=fibres)
    assert done.returncode == -6  # abort
    assert len(done.stderr.splitlines()) == 1
    assert re.search(STOPS[case], done.stderr), done.stderr


@pytest.mark.parametrize("case", ["missing barrier", "missing warp barrier"])
def test_a_forgotten_barrier_gives_a_wrong_result(case: str) -> None:
    """Threads run in random order: lock step would have hidden it."""
    assert run(case).stdout == "wrong\n"


@pytest.mark.emulated
@pytest.mark.parametrize("case", ["missing barrier", "missing barrier between others", "missing warp barrier"])
def test_a_forgotten_barrier_is_a_race_to_the_thread_sanitizer(case: str) -> None:
    done = run(case, "thread")
    assert done.returncode == 66
    assert "ThreadSanitizer: data race" in done.stderr
    assert "seeded.cu" in done.stderr


@pytest.mark.emulated
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("global overrun", "heap-buffer-overflow"),
        ("shared overrun", "heap-buffer-overflow"),
        ("static shared overrun", "index 4 out of bounds"),
    ],
)
def test_an_overrun_is_found_by_the_address_sanitizer(case: str, words: str) -> None:
    done = run(case, "address")
    assert done.returncode == 1
    assert words in done.stderr
    assert "seeded.cu" in done.stderr


def test_the_seed_draws_the_order() -> None:
    found = [run("last block", seed=seed).stdout for seed in (0, 1, 2, 1)]
    assert len(set(found)) == 3
    assert found[1] == found[3]
