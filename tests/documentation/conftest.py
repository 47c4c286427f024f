"""A warm process and the files that pages name, once for all pages."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from documentation.blocks import ROOT
from documentation.warm import SHIM, SOCKET

HERE = Path(__file__).parent
NOBODY = "http://127.0.0.1:9"  # whoever wants the network, this machine aside, is refused at once


@pytest.fixture(scope="session")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of the pages' programs: no network, one thread, a cache of its own."""
    folder = tmp_path_factory.mktemp("warm")
    (programs := folder / "bin").mkdir()
    for name in ("cascadezoo", "python", "python3"):
        _program(programs / name, SHIM.format(words=[name]))
    for name in ("make", "pip"):
        _program(programs / name, (HERE / f"{name}.sh").read_text())
    environ = {
        **os.environ,
        "PATH": os.pathsep.join((str(programs), os.environ["PATH"])),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
        "HOME": str(folder),
        "CASCADEZOO_HOME": str(folder / "cache"),
        "http_proxy": NOBODY,
        "https_proxy": NOBODY,
        "no_proxy": "127.0.0.1,localhost",
        "COLUMNS": "80",
        "CLONE": str(ROOT),
        SOCKET: str(folder / "socket"),
    }
    with subprocess.Popen([sys.executable, HERE / "warm.py", environ[SOCKET]], env=environ, cwd=folder) as process:
        while not Path(environ[SOCKET]).exists():
            assert process.poll() is None, "the warm process has ended"
            time.sleep(0.05)
        yield environ
        process.kill()


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture(scope="session")
def run(environ: dict[str, str]) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """A program of the warm process, in a folder."""
    shim = Path(environ["PATH"].split(os.pathsep)[0]) / "run"
    _program(shim, SHIM.format(words=[]))

    def call(*words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [shim, *words], cwd=cwd, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    return call


@pytest.fixture(scope="session")
def furnished(run: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that pages name."""
    folder = tmp_path_factory.mktemp("furnished")
    done = run("furnish", cwd=folder)
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture
def page_folder(furnished: Path, tmp_path: Path) -> Path:
    """The same for one page alone."""
    return Path(shutil.copytree(furnished, tmp_path / "page", symlinks=False))
