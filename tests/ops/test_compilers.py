"""C8: CXX is split as a shell splits it, and whatever is no compiler is said in a sentence."""

import os
import re
import stat
from pathlib import Path

import pytest

from cascadezoo.errors import BuildError, NoCompiler
from cascadezoo.ops import building, compilers


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes programs, which are all that the path holds beside the system's own."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    for variable in ("CXX", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(variable, raising=False)

    def make(name: str, script: str) -> Path:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(script if script.startswith("#!") else f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return make


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One source of a function, in place of the package's own, and a cache of its own."""
    path = tmp_path / "csrc/cpu/answer.cpp"
    path.parent.mkdir(parents=True)
    path.write_text('extern "C" int answer() { return 42; }\n')
    monkeypatch.setattr(building, "sources", lambda: tmp_path / "csrc")
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("mycxx -O2", ["-O2"]),
        ("  mycxx  ", []),
        ("mycxx '-DNAME=two words' \"-I/a b\"", ["-DNAME=two words", "-I/a b"]),
        ("mycxx a\\ b", ["a b"]),
    ],
)
def test_C8_CXX_is_split_as_a_shell_does(program, monkeypatch, words: str, expected: list[str]) -> None:
    path = program("mycxx", "exit 0")
    monkeypatch.setenv("CXX", words)
    assert compilers.find_cxx() == [str(path), *expected]


def test_C8_a_launcher_and_a_folder_with_a_space(program, monkeypatch, tmp_path) -> None:
    launcher = program("ccache", 'exec "$@"')
    monkeypatch.setenv("CXX", "ccache g++ -m64")
    assert compilers.find_cxx() == [str(launcher), "g++", "-m64"]
    (tmp_path / "a folder").mkdir()
    moved = launcher.rename(tmp_path / "a folder/cxx")
    monkeypatch.setenv("CXX", f"'{moved}' -O2")
    assert compilers.find_cxx() == [str(moved), "-O2"]
    assert compilers.find_compilers()["c++"] == f"'{moved}' -O2"


@pytest.mark.skipif(not os.path.exists("/usr/bin/g++"), reason="no g++ here")
def test_C8_a_compiler_of_several_words_builds(program, source, monkeypatch) -> None:
    program("ccache", 'exec "$@"')
    monkeypatch.setenv("CXX", "ccache g++ -O1 '-DANSWER=40 + 2'")
    source.write_text('extern "C" int answer() { return ANSWER; }\n')
    assert building.build("cpu").is_file()


@pytest.mark.parametrize("empty", ["", "   "])
def test_C8_an_empty_CXX_is_none(program, monkeypatch, empty: str) -> None:
    path = program("c++", "exit 0")
    monkeypatch.setenv("CXX", empty)
    assert compilers.find_cxx() == [str(path)]


@pytest.mark.parametrize("words", ['g++ "', "g++ 'a", "g++ \\", "'' -O2"])
def test_C8_a_CXX_that_no_shell_would_split_is_said(program, monkeypatch, words: str) -> None:
    monkeypatch.setenv("CXX", words)
    with pytest.raises(NoCompiler, match=r"is no command .*unset it"):
        compilers.find_cxx()
    assert "is no command" in compilers.find_compilers()["c++"]


@pytest.mark.parametrize("words", ["nowhere-to-be-found -O2", "/nowhere/g++", "/usr"])
def test_C8_a_CXX_that_is_not_there_is_said(program, monkeypatch, words: str) -> None:
    monkeypatch.setenv("CXX", words)
    with pytest.raises(NoCompiler, match=re.escape(f"CXX={words}, and there is no program {words.split()[0]}")):
        compilers.find_cxx()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 0", "made no answer-.*Mend CXX"),
        ("echo hello", "made no answer-.*it said: hello"),
        ("exit 3", "ended with code 3 and said nothing"),
        ("echo wrong >&2; exit 1", "wrong"),
        ("#!/nowhere/sh", "cannot be run"),
        ('case "$*" in *" -c "*) shift $(($#-1)); echo no object > "$1";; esac', "made no cascadezoo_cpu.so"),
        ('shift $(($#-1)); case "$1" in *.part) echo x > "$1";; *) exit 0;; esac', "made no cascadezoo_cpu.so"),
    ],
)
def test_C8_a_compiler_that_is_none_is_a_sentence(program, source, monkeypatch, script: str, said: str) -> None:
    monkeypatch.setenv("CXX", str(program("mycxx", script)))
    with pytest.raises(BuildError, match=said):
        building.build("cpu")
    assert building.built("cpu", None) is None


def test_C8_nvcc_takes_a_compiler_without_its_launcher_and_flags_one_by_one() -> None:
    flags = ["-Xcompiler", "-O2", "-Xcompiler", "-fsanitize=address\\,undefined"]
    assert compilers.as_host(["/bin/ccache", "g++", "-O2", "-fsanitize=address,undefined"]) == ["-ccbin", "g++", *flags]
    assert compilers.as_host(["/usr/bin/c++"]) == ["-ccbin", "/usr/bin/c++"]


def test_C8_a_CUDA_HOME_without_nvcc_and_an_nvcc_that_is_none_are_said(program, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("CUDA_HOME", "/nowhere/cuda")
    with pytest.raises(NoCompiler, match="none in /nowhere/cuda/bin"):
        compilers.find_nvcc("13")
    for script, said in (("exit 0", "does not say its version"), ("exit 1", "does not run"), ("#!/no", "does not run")):
        path = program("nvcc", script)
        with pytest.raises(NoCompiler, match=f"{path} {said}.*CUDA_HOME"):
            compilers.find_nvcc("13")
    assert "does not run" in compilers.find_compilers()["nvcc"]


@pytest.mark.skipif(not os.path.exists("/usr/bin/g++"), reason="no g++ here")
def test_a_compiler_that_links_the_cxx_library_statically_is_refused(source: Path, monkeypatch) -> None:
    """An operator's error would be an exception of another library's than torch's, which ends the process."""
    pytest.importorskip("torch")
    source.write_text('#include <stdexcept>\nextern "C" int answer() { throw std::runtime_error("no"); }\n')
    monkeypatch.setenv("CXX", "g++ -static-libstdc++")
    with pytest.raises(BuildError, match=r"statically.*name another compiler in CXX"):
        building.build("cpu")
    monkeypatch.setenv("CXX", "g++")
    assert building.build("cpu").is_file()
