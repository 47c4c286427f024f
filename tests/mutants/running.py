"""Runs tests on mutants: in copies of the repository, each in a process forked from this one.

Importing torch takes longer than most rooms' tests.  So this process imports once what the tests need, never
cascadezoo, and forks for each mutant; a fork imports cascadezoo from its copy, mutated, and ends.  For Linux.
"""

import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from mutants.population import Mutant

SURVIVED, KILLED, TIMED_OUT = "survived", "killed", "timed out"
MEMORY = 6 * 2**30  # bytes that a mutant's tests may take beyond what this process has
_NEVER_IMPORTED = 70  # exit status of tests that pass without importing the file in question
_NO_TESTS = 5  # pytest's own


SLOW = 0.5  # seconds from which on a test comes after the others


class BaselineError(Exception):
    """The tests say nothing of mutants: they fail, or never run, without a mutation."""


def copy(root: Path, names: Iterable[str], target: Path) -> Path:
    """The named files and folders of ``root`` in a fresh folder ``target``."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in names:
        if (root / name).is_dir():
            shutil.copytree(root / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))
        else:
            shutil.copyfile(root / name, target / name)
    return target


def preload(root: Path, modules: Iterable[str]) -> None:
    """Import, once, what the forks would each import, and nothing from ``root``; what is not installed is left out."""
    sys.path[:] = [path for path in sys.path if Path(path).resolve() not in (root, root / "tests")]
    os.environ.update(OMP_NUM_THREADS="1", CASCADEZOO_OPS="")
    for name in ("pytest", *modules):
        with suppress(ImportError):
            import_module(name)


def baseline(tree: Path, files: Sequence[str], arguments: Sequence[str]) -> float:
    """Run the tests without a mutation; the seconds they take.

    Raises:
        BaselineError: they fail, or do not import every one of ``files`` from ``tree``.
    """
    began = time.monotonic()
    status = os.waitpid(_fork(tree, files, arguments, limit=3600, cache=True), 0)[1]
    code = os.waitstatus_to_exitcode(status)
    if code:
        reason = "do not import every file of their room" if code == _NEVER_IMPORTED else f"fail (status {code})"
        log = _log(tree).read_text(errors="replace")[-3000:]
        raise BaselineError(f"without a mutation the tests `{' '.join(arguments)}` {reason}:\n{log}")
    seconds = time.monotonic() - began
    for file in files:
        _forget_bytecode(tree / file)
    return seconds


def run(
    mutants: Iterable[Mutant], trees: Sequence[Path], arguments: Callable[[Path, Mutant], Sequence[str]], limit: float
) -> Iterator[tuple[Mutant, str, float]]:
    """Each mutant with its outcome and the seconds that it took, as they end; one process for each of ``trees``.

    ``arguments`` gives pytest's for a mutant; after ``limit`` seconds it has timed out.
    """
    waiting, free = deque(mutants), list(trees)
    running: dict[int, tuple[Mutant, Path, str, float]] = {}
    try:
        while waiting or running:
            while waiting and free:
                mutant, tree = waiting.popleft(), free.pop()
                original = (tree / mutant.file).read_text()
                (tree / mutant.file).write_text(mutant.source)
                pid = _fork(tree, [mutant.file], arguments(tree, mutant), limit)
                running[pid] = (mutant, tree, original, time.monotonic())
            time.sleep(0.01)
            for pid, (mutant, tree, original, began) in list(running.items()):
                ended, status = os.waitpid(pid, os.WNOHANG)
                seconds = time.monotonic() - began
                if not ended and seconds < limit:
                    continue
                _kill(pid)
                if not ended:
                    os.waitpid(pid, 0)
                del running[pid]
                (tree / mutant.file).write_text(original)
                _forget_bytecode(tree / mutant.file)
                free.append(tree)
                yield mutant, _outcome(os.waitstatus_to_exitcode(status), mutant) if ended else TIMED_OUT, seconds
    finally:
        for pid in running:
            _kill(pid)


def _outcome(code: int, mutant: Mutant) -> str:
    if code in (_NO_TESTS, _NEVER_IMPORTED):
        raise BaselineError(f"{mutant.file}: its tests ran none, or never import it (status {code})")
    if code == -signal.SIGXCPU:
        return TIMED_OUT
    return KILLED if code else SURVIVED


def _fork(tree: Path, files: Sequence[str], arguments: Sequence[str], limit: float, cache: bool = False) -> int:
    """The process id of a fork that runs pytest in ``tree`` and exits with its status.

    ``cache``: keeps bytecode and notes each test's seconds, for the runs to come.
    """
    assert "cascadezoo" not in sys.modules, "every fork has to import cascadezoo from its own copy"
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = 3
    try:
        os.setsid()
        _enter(tree, limit)
        sys.dont_write_bytecode = not cache
        os.environ["PYTHONDONTWRITEBYTECODE"] = "" if cache else "1"
        import pytest

        scratch = tree.with_name(f"{tree.name}.tmp")
        slow_last = _SlowLast(tree.with_name(f"{tree.name}.seconds.json"), measure=cache)
        command = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={scratch}", *arguments]
        code = int(pytest.main(command, [slow_last]))
        imported = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        if code == 0 and not {str(tree / file) for file in files} <= imported:
            code = _NEVER_IMPORTED
    except BaseException:  # the fork must end here, whatever a mutant does
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class _SlowLast:
    """A plugin of pytest: most mutants fail a fast test, so the slow ones of the baseline run after all others."""

    def __init__(self, path: Path, measure: bool) -> None:
        self._path, self._measure = path, measure
        self._seconds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if self._measure:
            self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0) + report.duration

    def pytest_sessionfinish(self) -> None:
        if self._measure:
            self._path.write_text(json.dumps(self._seconds))

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if not self._measure:
            seconds = [self._seconds.get(item.nodeid, 0) for item in items]
            order = sorted(range(len(items)), key=lambda i: seconds[i] if seconds[i] > SLOW else 0)
            items[:] = [items[i] for i in order]


def _enter(tree: Path, limit: float) -> None:
    os.chdir(tree)
    log = os.open(_log(tree), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(PYTHONPATH=str(tree), CASCADEZOO_HOME=str(tree.with_name(f"{tree.name}.home")))
    sys.path.insert(0, str(tree))
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 6))  # should this process die before its fork


def _log(tree: Path) -> Path:
    return tree.with_name(f"{tree.name}.log")


def _kill(pid: int) -> None:
    """End a fork and the processes it started."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _forget_bytecode(file: Path) -> None:
    """Bytecode is valid by time and size of its source: two mutants may have both in common."""
    for cached in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
        cached.unlink()
