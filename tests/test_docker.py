"""The Dockerfiles: their structure, and their RUN, HEALTHCHECK and CMD lines executed outside Docker.

No image is built: there is no Docker daemon where the tests run.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FILES = ("Dockerfile", "Dockerfile.cuda")
# lines that need root, or gigabytes that the tests' own environment has
NOT_RUN = (
    "apt-get update && apt-get install --yes --no-install-recommends g++",
    "pip install --no-cache-dir --no-deps -c constraints-dev.txt --index-url https://download.pytorch.org/whl/cpu "
    "torch torchvision",
    "pip install --no-cache-dir -c constraints-dev.txt torch torchvision",
    "useradd --uid 10001 --create-home --home-dir /var/lib/cascadezoo cascadezoo",
)


class Line(NamedTuple):
    word: str
    rest: str


def lines(name: str) -> list[Line]:
    """The instructions of a Dockerfile, without comments, continued lines joined."""
    text = "".join(line for line in (ROOT / name).read_text().splitlines(True) if not line.startswith("#"))
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    return [Line(*line.split(maxsplit=1)) for line in joined.splitlines() if line]


def stages(name: str) -> list[list[Line]]:
    found: list[list[Line]] = []
    for line in lines(name):
        if line.word == "FROM":
            found.append([])
        found[-1].append(line)
    return found


def given(stage: list[Line], word: str) -> list[str]:
    return [line.rest for line in stage if line.word == word]


def fits(pattern: str, path: str) -> bool:
    """Whether a pattern of .dockerignore names a path, or a folder above it."""
    parts = path.split("/")
    if pattern.startswith("**/"):
        return any(fnmatch(part, pattern[3:]) for part in parts)
    return fnmatch("/".join(parts[: pattern.count("/") + 1]), pattern)


def context(folder: Path) -> Path:
    """What a build sees of this clone: of the patterns that fit a path, the last one decides."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    listed = subprocess.run(["git", "ls-files", "-co"], cwd=ROOT, capture_output=True, text=True, check=True)
    for path in listed.stdout.splitlines():
        fitting = [pattern for pattern in patterns if fits(pattern.removeprefix("!"), path)]
        if (ROOT / path).is_file() and (not fitting or fitting[-1].startswith("!")):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, folder / path)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_two_stages_on_one_pinned_base(name: str) -> None:
    builder, final = stages(name)
    (base,) = given(final, "FROM")
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base)
    assert given(builder, "FROM") == [f"{base} AS builder"]
    assert given(final, "COPY") == ["--from=builder /opt/cascadezoo /opt/cascadezoo"]  # no sources, no compiler


@pytest.mark.parametrize("name", FILES)
def test_the_server_runs_as_a_numbered_user(name: str) -> None:
    """By its number, so that Kubernetes can see that it is not root."""
    final = stages(name)[-1]
    (user,) = given(final, "USER")
    assert int(user) > 0
    assert f"useradd --uid {user} " in given(final, "RUN")[0]
    assert not [line.word for line in final[final.index(Line("USER", user)) :] if line.word in ("RUN", "COPY", "ADD")]


@pytest.mark.parametrize("name", FILES)
def test_another_index_gives_only_what_is_named(name: str) -> None:
    """It has few versions of the dependencies, which the constraints pin: they come from PyPI, with the package."""
    runs = given(stages(name)[0], "RUN")
    for number, command in enumerate(runs):
        if "--index-url" in command:
            assert "--no-deps" in command
            assert any("pip install" in later and "--no-deps" not in later for later in runs[number + 1 :])


@pytest.mark.parametrize("name", FILES)
def test_no_secret_and_nothing_from_an_address(name: str) -> None:
    for line in lines(name):
        assert line.word not in ("ADD", "ARG")
        assert not re.search(r"token|password|secret|_key", line.rest, re.IGNORECASE)
        assert not re.search(r"\bcurl\b|\bwget\b", line.rest)


@pytest.mark.parametrize("name", FILES)
def test_what_it_starts(name: str) -> None:
    final = stages(name)[-1]
    (check,), (entry,), (command,) = (given(final, word) for word in ("HEALTHCHECK", "ENTRYPOINT", "CMD"))
    options, _, probe = check.partition(" CMD ")
    assert re.fullmatch(r"(--\w+(-\w+)?=\d+s ?)+", options)
    assert "http://127.0.0.1:8000/healthz" in json.loads(probe)[-1]
    assert json.loads(entry) == ["cascadezoo"]
    arguments = json.loads(command)
    assert arguments[:2] == ["serve", "cascade_mask_r18_fpn_shapes"]
    assert arguments[2:6] == ["--host", "0.0.0.0", "--port", "8000"]
    assert given(final, "EXPOSE") == ["8000"]
    assert arguments[6:] == (["--device", "cuda"] if name == "Dockerfile.cuda" else [])


def test_the_build_sees_what_the_wheel_is_made_of_and_nothing_else(tmp_path: Path) -> None:
    found = {str(path.relative_to(tmp_path)) for path in context(tmp_path).rglob("*") if path.is_file()}
    assert {path.split("/")[0] for path in found} == {
        ".ci", "LICENSE", "NOTICE", "README.md", "benchmarks", "cascadezoo", "constraints-dev.txt", "converters",
        "csrc", "pyproject.toml", "zoo_manifest",
    }  # fmt: skip
    assert {path for path in found if path.startswith(".ci")} == {".ci/wheel_ops.py"}
    assert not [path for path in found if path.startswith("benchmarks/results") or "__pycache__" in path]
    for path in (
        "zoo_manifest/cascade_mask_r18_fpn_shapes.safetensors",
        "csrc/cpu/nms.cpp",
        "cascadezoo/cli/__init__.py",
    ):
        assert path in found


# the lines themselves


class Built(NamedTuple):
    bin: Path
    home: Path

    def environment(self) -> dict[str, str]:
        """As in the image, which has neither a compiler nor this clone."""
        return {
            "PATH": str(self.bin),
            "HOME": str(self.home),
            "CASCADEZOO_HOME": str(self.home),
            "OMP_NUM_THREADS": "1",
        }


def run_lines(name: str, folder: Path) -> Built:
    """A builder's RUN lines, in a fresh virtual environment that sees this one's packages and takes no others."""
    venv, source = folder / "opt", context(folder / "src")
    environment = {**os.environ, "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    environment |= {"PATH": f"{venv / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    done = []
    for command in given(stages(name)[0], "RUN"):
        if command in NOT_RUN:
            continue
        here = command.replace("/opt/cascadezoo", str(venv))
        result = subprocess.run(["sh", "-c", here], cwd=source, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, f"{here}\n{result.stdout}\n{result.stderr}"
        if not done:  # the environment is there: show it the packages
            (site,) = venv.glob("lib/python*/site-packages")
            shutil.rmtree(site / "setuptools", ignore_errors=True)  # Python 3.11's own is older than the build needs
            packages = [path for path in sys.path if path.endswith("site-packages")]
            # the first environment before one that only adds to it, and has Python's own setuptools too
            (site / "base.pth").write_text("\n".join(reversed(packages)) + "\n")
        done.append(here)
    assert len(done) >= 3
    (home := folder / "home").mkdir()
    return Built(venv / "bin", home)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return run_lines("Dockerfile", tmp_path_factory.mktemp("docker"))


def printed(built: Built, *command: str) -> str:
    program, *arguments = command
    done = subprocess.run(
        [built.bin / program, *arguments], cwd=built.home, env=built.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler here")
def test_the_lines_install_the_package_with_compiled_operators(built: Built) -> None:
    code = "import cascadezoo; from cascadezoo.ops.library import STATUS; print(cascadezoo.__file__, STATUS['cpu'])"
    package, operators = printed(built, "python", "-c", code).split()
    assert Path(package).is_relative_to(built.bin.parent)
    assert Path(operators).is_relative_to(built.bin.parent)


@pytest.mark.slow
def test_the_lines_for_cuda_install_the_package(tmp_path: Path) -> None:
    built = run_lines("Dockerfile.cuda", tmp_path)
    assert "cascade_mask_r18_fpn_shapes" in printed(built, "cascadezoo", "list")


@pytest.mark.slow
@pytest.mark.serve
def test_the_command_serves_and_the_health_check_tells(built: Built) -> None:
    pytest.importorskip("fastapi")
    final = stages("Dockerfile")[-1]
    entry, command = (json.loads(given(final, word)[0]) for word in ("ENTRYPOINT", "CMD"))
    probe = json.loads(given(final, "HEALTHCHECK")[0].partition(" CMD ")[2])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    moved = [port if word == "8000" else word for word in [*entry, *command]]
    asked = [built.bin / probe[0], *(word.replace(":8000/", f":{port}/") for word in probe[1:])]
    assert subprocess.run(asked, env=built.environment(), capture_output=True).returncode != 0
    server = subprocess.Popen([built.bin / moved[0], *moved[1:]], cwd=built.home, env=built.environment())
    try:
        ends = time.monotonic() + 120
        while subprocess.run(asked, env=built.environment(), capture_output=True).returncode != 0:
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < ends, "never healthy"
            time.sleep(0.5)
        assert printed(built, "python", "-c", READ, port) == "cascade_mask_r18_fpn_shapes.cascadezoo\n"
    finally:
        server.terminate()
        assert server.wait(timeout=60) == 0


READ = """
import json, sys, urllib.request
print(json.load(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metadata"))["entry"])
"""
