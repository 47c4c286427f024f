"""The builder of the compiled operators: real builds of a tiny source, and everything that can go wrong."""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cascadezoo.cli import main
from cascadezoo.errors import BuildError, NoCompiler, OpsNotBuilt, UsageError
from cascadezoo.ops import building, compilers

GOOD = 'extern "C" __attribute__((visibility("default"))) int cascadezoo_answer() { return ANSWER; }\n'
needs_compiler = pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler here")


@pytest.fixture
def sources(tmp_path, monkeypatch) -> Path:
    """A source of one function instead of the package's own, and a cache of its own."""
    folder = tmp_path / "csrc"
    (folder / "cpu").mkdir(parents=True)
    (folder / "cuda").mkdir()
    (folder / "answer.h").write_text("#define ANSWER 42\n")
    (folder / "cpu/answer.cpp").write_text('#include "../answer.h"\n' + GOOD)
    monkeypatch.setattr(building, "sources", lambda: folder)
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CXX", raising=False)
    return folder


@pytest.fixture
def run(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return call


def shim(folder: Path, name: str, script: str) -> Path:
    """A program of this name in ``folder``."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def counting_compiler(tmp_path: Path, monkeypatch) -> Path:
    """CXX that notes each source it compiles in the file returned."""
    log = tmp_path / "compiled"
    log.touch()
    script = f'case "$*" in *" -c "*) echo "$*" >> {log};; esac\nexec c++ "$@"'
    monkeypatch.setenv("CXX", str(shim(tmp_path / "bin", "counting", script)))
    return log


@needs_compiler
def test_builds_once_and_again_when_a_source_changes(sources: Path, tmp_path, monkeypatch) -> None:
    log = counting_compiler(tmp_path, monkeypatch)
    assert building.built("cpu", None) is None
    first = building.build("cpu")
    assert first == building.built("cpu", None)
    assert first.is_relative_to(tmp_path / "home/ops")
    assert building.build("cpu") == first
    assert len(log.read_text().splitlines()) == 1
    (sources / "answer.h").write_text("#define ANSWER 43\n")
    assert building.built("cpu", None) is None  # what is loaded always fits the sources
    assert building.build("cpu") != first
    assert len(log.read_text().splitlines()) == 2


@needs_compiler
def test_a_failed_build_shows_the_compilers_own_words(sources: Path, run) -> None:
    (sources / "cpu/answer.cpp").write_text("int wrong() { return undeclared_thing; }\n")
    with pytest.raises(BuildError, match="undeclared_thing"):
        building.build("cpu")
    code, out, err = run("build-ops")
    assert (code, out) == (4, "")
    assert "undeclared_thing" in err
    assert building.built("cpu", None) is None


@needs_compiler
def test_a_library_with_an_unresolved_symbol_never_gets_its_name(sources: Path) -> None:
    (sources / "cpu/answer.cpp").write_text('extern "C" int nowhere();\n' + GOOD.replace("ANSWER", "nowhere()"))
    with pytest.raises(BuildError, match="nowhere"):
        building.build("cpu")
    assert building.built("cpu", None) is None


def test_no_compiler_is_said_and_is_no_failure(sources: Path, run, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoCompiler, match="no C"):
        building.build("cpu")
    code, out, err = run("build-ops")
    assert (code, out) == (0, "")
    assert "not built for cpu: no C++ compiler (looked for c++, g++, clang++)" in err


def test_a_toolkit_of_another_cuda_is_said(sources: Path, run, tmp_path, monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, "cuda", "99.1")
    path = shim(tmp_path / "bin", "nvcc", 'echo "Cuda compilation tools, release 12.4, V12.4.1"')
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", str(shim(tmp_path / "bin", "cxx", "exit 1")))
    with pytest.raises(NoCompiler, match=rf"no nvcc of CUDA 99 \({path} is of CUDA 12"):
        building.build("cuda")


def test_a_torch_without_cuda_is_said(sources: Path, tmp_path, monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setenv("CXX", str(shim(tmp_path / "bin", "cxx", "exit 1")))
    with pytest.raises(NoCompiler, match="without CUDA"):
        building.build("cuda")
    assert building.built("cuda", None) is None


def test_the_first_line_of_a_kernel_file_gives_it_flags_of_its_own(sources: Path, tmp_path, monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    (sources / "cuda/deciding.cu").write_text("// nvcc: --fmad=false -lineinfo\nint decide();\n")
    (sources / "cuda/summing.cu").write_text("// sums\n// nvcc: --fmad=false\n")
    log = tmp_path / "nvcc.log"
    version = 'echo "Cuda compilation tools, release 13.0, V13.0.1"'
    made = 'for last; do :; done; touch "$last"'
    script = f'case "$*" in *--version*) {version};; *) echo "$*" >> {log}; {made};; esac'
    shim(tmp_path / "bin", "nvcc", script)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(BuildError, match=r"cascadezoo_cu13_sm90\.so"):  # what the shim links is no library
        building.build("cuda", ["90"])
    commands = {
        Path(line.split(" -c ")[1].split()[0]).name: line for line in log.read_text().splitlines() if " -c " in line
    }
    assert commands.keys() == {"deciding.cu", "summing.cu"}
    assert " --fmad=false -lineinfo -c " in commands["deciding.cu"]
    assert "fmad" not in commands["summing.cu"]
    assert "fmad" not in log.read_text().splitlines()[-1]


def test_the_kernels_that_decide_are_built_without_fused_products_and_sums() -> None:
    kernels = Path(str(building.sources())) / "cuda"
    asking = {path.stem for path in kernels.glob("*.cu") if "--fmad=false" in building.own_flags(path)}
    assert asking == {"nms", "paste_rle", "preprocess", "rpn_select"}


def test_of_several_cuda_libraries_the_last_of_torchs_version_loads(sources: Path) -> None:
    building.folder().mkdir(parents=True)
    for age, name in enumerate(("cascadezoo_cu13_all.so", "cascadezoo_cu13_sm90.so", "cascadezoo_cu12_all.so")):
        (building.folder() / name).touch()
        os.utime(building.folder() / name, (1000 + age, 1000 + age))
    assert building.built("cuda", "13.0") == building.folder() / "cascadezoo_cu13_sm90.so"
    assert building.built("cuda", "12.8") == building.folder() / "cascadezoo_cu12_all.so"
    assert building.built("cuda", "11.8") is None
    assert building.built("cuda", None) is None
    assert building.built("cpu", "13.0") is None


def test_the_compilers_of_a_build_are_named(tmp_path, monkeypatch) -> None:
    cxx = shim(tmp_path / "bin", "c++", "exit 0")
    nvcc = shim(tmp_path / "bin", "nvcc", 'echo "Cuda compilation tools, release 12.4, V12.4.1"')
    for variable in ("CXX", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert compilers.find_compilers() == {"c++": str(cxx), "nvcc": str(nvcc)}
    nvcc.unlink()
    assert compilers.find_compilers()["nvcc"].startswith("no nvcc of CUDA (none found): ")


def test_an_architecture_that_is_none_is_a_usage_error(sources: Path, run) -> None:
    code, _, err = run("build-ops", "--archs", "80")
    assert code == 2
    assert "--cuda" in err


def builder(sources: Path, **extra: str) -> subprocess.Popen:
    code = (
        "import sys; from pathlib import Path; from cascadezoo.ops import building;"
        f"building.sources = lambda: Path({str(sources)!r}); print(building.build('cpu'))"
    )
    environment = os.environ | extra
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


@needs_compiler
def test_of_two_builders_at_once_one_compiles(sources: Path, tmp_path, monkeypatch) -> None:
    log = counting_compiler(tmp_path, monkeypatch)
    both = [builder(sources), builder(sources)]
    found = {each.communicate(timeout=120)[0] for each in both}
    assert [each.returncode for each in both] == [0, 0]
    assert len(found) == 1
    assert len(log.read_text().splitlines()) == 1


@needs_compiler
def test_a_killed_builder_leaves_nothing_in_the_way(sources: Path, tmp_path) -> None:
    slow = shim(tmp_path / "bin", "slow", 'case "$*" in *-shared*) sleep 60;; esac\nexec c++ "$@"')
    killed = builder(sources, CXX=str(slow))
    home = building.folder()
    deadline = time.monotonic() + 60
    while not list(home.glob(".cpu-build-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(killed.pid, 9)
    killed.communicate()
    assert building.built("cpu", None) is None
    assert building.build("cpu").is_file()
    assert not list(home.glob(".cpu-build-*"))


@needs_compiler
def test_sources_that_cannot_be_written_beside_are_enough(sources: Path) -> None:
    before = sorted(sources.rglob("*"))
    for path in (*sources.rglob("*"), sources):
        path.chmod(0o555 if path.is_dir() else 0o444)
    building.build("cpu")
    assert sorted(sources.rglob("*")) == before


def fresh(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=120
    )


STATUS = "from cascadezoo.ops.library import STATUS; print(STATUS['cpu'])"
CALL = (
    "import torch; from cascadezoo.ops.dcnv3 import dcnv3; z = torch.zeros;"
    "print(dcnv3(z(1, 3, 3, 1), z(1, 3, 3, 18), z(1, 3, 3, 9), 3, 1, 1, 1, 1, 1.0).sum().item())"
)


def test_without_libraries_the_reference_serves_and_compiled_refuses(tmp_path) -> None:
    home = str(tmp_path)
    assert fresh(STATUS, CASCADEZOO_HOME=home, CASCADEZOO_OPS="auto").stdout.strip() == "not built"
    assert fresh(CALL, CASCADEZOO_HOME=home, CASCADEZOO_OPS="auto").stdout.strip() == "0.0"
    refused = fresh(CALL, CASCADEZOO_HOME=home, CASCADEZOO_OPS="compiled")
    last = refused.stderr.strip().splitlines()[-1]
    assert refused.returncode == 1
    assert last == (
        f"{OpsNotBuilt.__module__}.OpsNotBuilt: CASCADEZOO_OPS=compiled, but dcnv3 has no compiled kernel for cpu (not"
        " built): run `cascadezoo build-ops`, or set CASCADEZOO_OPS=auto"
    )


def test_a_broken_library_is_reported_and_the_reference_serves(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path))
    building.folder().mkdir(parents=True)
    (building.folder() / "cascadezoo_cpu.so").write_bytes(b"no library at all")
    assert "cascadezoo_cpu.so" in fresh(STATUS, CASCADEZOO_OPS="auto").stdout
    assert fresh(CALL, CASCADEZOO_OPS="auto").stdout.strip() == "0.0"
    assert fresh(STATUS, CASCADEZOO_OPS="torch").stdout.strip() == "not loaded: CASCADEZOO_OPS=torch"


def test_an_unknown_mode_is_one_sentence() -> None:
    done = fresh(STATUS, CASCADEZOO_OPS="fast")
    assert done.stderr.strip().splitlines()[-1] == (
        f"{UsageError.__module__}.UsageError: CASCADEZOO_OPS=fast is not known: it is one of auto, torch, compiled"
    )


def test_doctor_is_data_or_a_sheet(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path))
    monkeypatch.setenv("CASCADEZOO_OPS", "auto")
    code, out, _ = run("doctor", "--json")
    found = json.loads(out)
    assert (code, found["problems"]) == (0, [])
    assert found["torch_and_torchvision_work"] is True
    assert found["ops"]["cpu"] == {"loaded": False, "state": "not built"}
    assert found["ops"]["cache"].startswith(str(tmp_path))
    folder = Path(found["ops"]["cache"])
    folder.mkdir(parents=True)
    (folder / "cascadezoo_cpu.so").write_bytes(b"no library at all")
    code, out, _ = run("doctor")
    assert code == 1
    assert "PROBLEM: the compiled operators for cpu do not load" in out
