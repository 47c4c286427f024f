"""Drives every reader with bent files: ``make fuzz`` runs this, pytest does not collect it.

    python tests/fuzz/fuzz.py seeds                   writes the corpus anew, with our own writers
    python tests/fuzz/fuzz.py all --seconds 60        every reader, as many at a time as there are cores
    python tests/fuzz/fuzz.py torch_zip --seconds 60  one reader; libFuzzer's own options may follow
    python tests/fuzz/fuzz.py all --runs 1000         every reader, so many inputs, the same each time: for CI
    python tests/fuzz/fuzz.py torch_zip CRASH         one input again

A finding is an input whose reader raises anything but its error, takes longer than ``SLOW`` seconds or more memory than
``MEMORY`` MiB.  It is left in ``tests/fuzz/crashes``, which git ignores; logs, and inputs that reached new lines, go
to ``build/fuzz``.  Only our own modules are instrumented: torch's would take minutes.
"""

import argparse
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]  # the tests' own helpers, and the clone

SLOW = 10  # seconds for one input; what is read here takes milliseconds
MEMORY = 4096  # MiB of the whole process, torch included
LONGEST = 16384  # bytes of an input
CORPUS, CRASHES, LEARNT = HERE / "corpus", HERE / "crashes", HERE.parents[1] / "build" / "fuzz"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("reader", help="a reader's name, all, or seeds")
    parser.add_argument("--seconds", type=int, default=60, help="for each reader, at the most")
    parser.add_argument("--runs", type=int, help="inputs for each reader, from the corpus alone and with a fixed seed")
    options, rest = parser.parse_known_args()
    if options.reader == "seeds":
        return write_seeds()
    readers = instrumented()
    if options.reader == "all":
        return run_all(readers, options.seconds, options.runs)
    return fuzz(readers, options.reader, options.seconds, rest)


def write_seeds() -> int:
    """One file for each seed, in a folder of its reader's name."""
    from readers.readers import READERS

    for name, reader in READERS.items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(reader.seeds):
            (folder / str(number)).write_bytes(seed())
    return 0


def instrumented() -> Mapping[str, Any]:
    """The readers, with our own modules instrumented."""
    import atheris
    import cv2
    import torch  # before ours, and so not instrumented

    with atheris.instrument_imports(include=["cascadezoo", "tomllib"]):
        from readers.readers import READERS

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    return READERS


def run_all(readers: Mapping[str, Any], seconds: int, runs: int | None) -> int:
    """Every reader in a process of its own, whatever the others find; 1 where any found something."""
    LEARNT.mkdir(parents=True, exist_ok=True)
    waiting, running, failed = list(readers), {}, []
    while waiting or running:
        if waiting and len(running) < (os.cpu_count() or 1):
            name = waiting.pop(0)
            running[start(readers, name, seconds, runs)] = name, time.monotonic()
            continue
        child, status = os.wait()
        name, began = running.pop(child)
        done = re.findall(r"Done (\d+) runs", log_of(name).read_text(errors="replace"))
        print(f"{name}: {done[-1] if done else 'no'} inputs in {time.monotonic() - began:.0f} s", flush=True)
        if status:
            failed.append(name)
            print(f"FOUND in {name}: see {log_of(name)} and {CRASHES}", flush=True)
    print(f"found in {', '.join(failed)}" if failed else "nothing found")
    return 1 if failed else 0


def start(readers: Mapping[str, Any], name: str, seconds: int, runs: int | None) -> int:
    """Fuzz one reader in a child process that writes to its log; the child's id."""
    child = os.fork()
    if child == 0:
        log = os.open(log_of(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if runs is not None:
            shutil.rmtree(LEARNT / name, ignore_errors=True)
        os._exit(fuzz(readers, name, seconds, (), () if runs is None else (f"-runs={runs}", "-seed=1")))
    return child


def log_of(name: str) -> Path:
    return LEARNT / f"{name}.log"


def fuzz(readers: Mapping[str, Any], name: str, seconds: int, rest: Iterable[str], more: Iterable[str] = ()) -> int:
    """One reader in this process, until its time is over or something is found."""
    import atheris

    reader = readers[name]
    path = LEARNT / "work" / name / reader.file
    for folder in (CRASHES, LEARNT / name, path.parent):
        folder.mkdir(parents=True, exist_ok=True)

    def one(data: bytes) -> None:
        path.write_bytes(data)
        reader.holds(path)

    folders = [] if rest else [str(LEARNT / name), str(CORPUS / name)]
    limits = [f"-timeout={SLOW}", f"-rss_limit_mb={MEMORY}", f"-max_len={LONGEST}", f"-max_total_time={seconds}"]
    places = [f"-artifact_prefix={CRASHES}/{name}-", f"-dict={HERE / 'tokens.dict'}"]
    atheris.Setup([sys.argv[0], *places, *limits, *more, *rest, *folders], one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
