"""Several processes at once, and processes that are killed: one download, nothing half done, a clean second run."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hub import standin
from hub.fault_server import FaultServer
from hub.standin import FILE, NAME, PATH, environment, same, start

import cascadezoo
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.providers import SPECS

LOAD = "import cascadezoo; assert same(cascadezoo.load(NAME, pretrained=True), model()); print('loaded')"


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setitem(SPECS["paddle"], standin.ARCHITECTURE, standin.small())
    with FaultServer() as server:
        monkeypatch.setenv("CASCADEZOO_MIRROR", server.url())
        server.put(PATH, standin.checkpoint())
        yield server


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def unfinished(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and path.suffix in (".part", ".pdparams")]


def test_processes_that_want_the_same_entry_share_one_download(server, home) -> None:
    """Two, then eight users: forks of one process, so that all have started before the first is done."""
    code = """
import os, shutil, cascadezoo
expected = model()
cascadezoo.download(NAME)

def user():
    if pid := os.fork():
        return pid
    os._exit(0 if same(cascadezoo.load(NAME, pretrained=True), expected) else 1)

for count in (2, 8):
    shutil.rmtree(os.environ["CASCADEZOO_HOME"])
    users = [user() for _ in range(count)]
    print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in users])
"""
    server.resources[PATH].pause = 0.003  # so that the others come while it lasts
    status, out, err = finish(start(code, environment(home, server.url())))
    assert status == 0, err
    assert out == f"{[0] * 2}\n{[0] * 8}\n", err
    assert len(server.requests) == 3  # the first download, and one each time
    assert err.count("waiting for another process") == 1 + 7
    assert not unfinished(home)


def test_killed_in_the_middle_of_the_download(server, home) -> None:
    part = home / "parts" / NAME / FILE
    server.resources[PATH].pause = 0.1
    process = start(LOAD, environment(home, server.url()))
    wait_for(lambda: part.exists() and part.stat().st_size > 0, process)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    had = part.stat().st_size
    assert had < len(standin.checkpoint())

    server.resources[PATH].pause = 0
    assert same(cascadezoo.load(NAME, pretrained=True), standin.model())
    assert server.ranges(PATH) == [None, f"bytes={had}-"]
    assert not unfinished(home)


def test_ctrl_c_in_the_middle_of_the_command(server, home) -> None:
    part = home / "parts" / NAME / FILE
    server.resources[PATH].pause = 0.1
    command = "from cascadezoo.cli import main; main(['download', NAME])"
    process = start(command, environment(home, server.url()))
    wait_for(lambda: part.exists() and part.stat().st_size > 0, process)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, out, err.strip().splitlines()[-1]) == (130, "", "cascadezoo: interrupted")

    server.resources[PATH].pause = 0
    assert same(cascadezoo.load(NAME, pretrained=True), standin.model())
    assert str(server.ranges(PATH)[1]).startswith("bytes=")
    assert not unfinished(home)


def test_killed_in_the_middle_of_the_conversion(server, home) -> None:
    hang = (
        "import time; from cascadezoo.converters import canonical; blocks = canonical._blocks\n"
        "def slow(*args):\n"
        "    for number, block in enumerate(blocks(*args)):\n"
        "        yield block\n"
        "        time.sleep(60 if number == 40 else 0)\n"
        "canonical._blocks = slow\n"
    )
    process = start(hang + LOAD, environment(home, server.url()))
    begun = home / "parts" / NAME
    wait_for(lambda: any(path.stat().st_size > 50_000 for path in begun.glob(".*.part")), process)
    process.kill()
    finish(process)
    assert [path.suffix for path in begun.iterdir()] == [".part"]
    assert not list((home / "canonical").iterdir())

    assert same(cascadezoo.load(NAME, pretrained=True), standin.model())
    assert len(server.requests) == 1  # the original was there
    assert not unfinished(home)


def test_killed_at_every_step(server, home) -> None:
    """One process forks a user for each step on files of the cache, and kills it there."""
    code = """
import os, signal, shutil, sys, cascadezoo
import cascadezoo
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.paths import canonical_path, home

STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate"}
expected = model()
cascadezoo.download(NAME)  # imports are done, and networks known: the forks are quick

def user(last):
    if pid := os.fork():
        return os.waitpid(pid, 0)[1]
    steps = 0
    def hook(event, args):
        nonlocal steps
        if event in STEPS and str(args[0]).startswith(str(home())):
            steps += 1
            if steps == last:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    cascadezoo.load(NAME, pretrained=True)
    os._exit(0)

for last in range(1, 1000):
    shutil.rmtree(home())
    if user(last) == 0:
        break
    if canonical_path(NAME).exists():
        read_canonical(canonical_path(NAME))
    assert user(0) == 0, last
    assert same(cascadezoo.load(NAME, pretrained=True), expected), last
    left = [path for path in home().rglob("*") if path.is_file() and path.suffix in (".part", ".pdparams")]
    left = [path for path in left if path.parent.name != "digests"]  # of a memo; ``cache prune`` takes them
    assert not left, (last, left)
print(last)
"""
    status, out, err = finish(start(code, environment(home, server.url())))
    assert status == 0, err
    assert 20 < int(out) < 1000
    read_canonical(home / "canonical" / f"{NAME}.safetensors")
    assert os.listdir(home / "records") == [f"{NAME}.json"]
