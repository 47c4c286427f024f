"""The compilers of this machine: found as a shell would find them, and run with a sentence for whatever goes wrong."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from cascadezoo.errors import BuildError, NoCompiler
from cascadezoo.paths import expanded

_LAST_WORDS = b"terminate called after throwing"  # of GNU's C++ library, in nothing but itself
_LAUNCHERS = ("ccache", "sccache", "distcc", "icecc")  # what may stand before a compiler in CXX


def find_compilers() -> dict[str, str]:
    """The compilers that a build would use, by kind: a command, or why there is none."""
    found = {}
    for name, find in (("c++", find_cxx), ("nvcc", lambda: [find_nvcc(None)[0]])):
        try:
            found[name] = shlex.join(find())
        except NoCompiler as error:
            found[name] = str(error)
    return found


def find_cxx() -> list[str]:
    """The C++ compiler's program and the words that CXX holds after it.

    Raises:
        NoCompiler: there is none, or CXX names none.
    """
    own = os.environ.get("CXX", "")
    try:
        words = shlex.split(own)
    except ValueError as error:
        raise NoCompiler(f"CXX={own} is no command ({error}): write it as a shell takes it, or unset it") from error
    if words and not words[0]:
        raise NoCompiler(
            f"CXX={own} is no command (its first word is empty): write it as a shell takes it, or unset it"
        )
    for name, *rest in [words] if words else [["c++"], ["g++"], ["clang++"]]:
        if path := shutil.which(name):
            return [path, *rest]
    if words:
        raise NoCompiler(f"no C++ compiler: CXX={own}, and there is no program {words[0]}: mend CXX, or unset it")
    raise NoCompiler("no C++ compiler (looked for c++, g++, clang++): install one, or name it in CXX")


def as_host(cxx: Sequence[str]) -> list[str]:
    """nvcc's options for this C++ compiler: it takes one program, without a launcher, and the flags one by one."""
    words = [*cxx]
    while len(words) > 1 and Path(words[0]).name in _LAUNCHERS:
        words.pop(0)
    flags = (flag.replace(",", "\\,") for flag in words[1:])  # a comma would end the flag
    return ["-ccbin", words[0], *(part for flag in flags for part in ("-Xcompiler", flag))]


def find_nvcc(major: str | None) -> tuple[str, Path | None]:
    """nvcc of this CUDA version, and its root where it comes from a wheel and needs telling.

    Raises:
        NoCompiler: there is none; the message says where it was looked for and what was found.
    """
    homes = [expanded(own) for name in ("CUDA_HOME", "CUDA_PATH") if (own := os.environ.get(name))]
    wheels = [Path(p) / f"cu{major}" for p in (getattr(find_spec("nvidia"), "submodule_search_locations", None) or ())]
    candidates: list[tuple[str | None, Path | None]] = []
    candidates += [(shutil.which("nvcc", path=str(home / "bin")), None) for home in homes]
    candidates += [(shutil.which("nvcc"), None)]
    candidates += [(shutil.which("nvcc", path=str(root / "bin")), root) for root in wheels]
    reasons = [f"none in {home / 'bin'}" for home, (path, _) in zip(homes, candidates, strict=False) if path is None]
    for path, root in candidates:
        if path is None:
            continue
        try:
            release = re.search(r"release (\d+)\.", run([path, "--version"]))
        except BuildError:
            reasons.append(f"{path} does not run")
            continue
        if release and major in (None, release[1]):
            return path, root
        reasons.append(f"{path} is of CUDA {release[1]}" if release else f"{path} does not say its version")
    wanted = f"CUDA {major}" if major else "CUDA"
    raise NoCompiler(f"no nvcc of {wanted} ({'; '.join(reasons) or 'none found'}): install it, or name it in CUDA_HOME")


def make(command: Sequence[str | Path], made: Path) -> None:
    """Run a compiler that writes the file ``made``.

    Raises:
        BuildError: it failed, or ended well and wrote nothing.
    """
    words = run(command).strip()
    if not made.is_file():
        said = f" (it said: {words})" if words else ""
        raise BuildError(
            f"the operators do not build: `{_joined(command)}` ended well and made no {made.name}{said}: is it a"
            " compiler?  Mend CXX, or unset it"
        )


def check_cxx_library(made: Path) -> None:
    """See that a library of operators takes the C++ library from where torch takes it: an operator's errors are
    exceptions, and one thrown by another copy of that library ends the process where torch would catch it.

    Raises:
        BuildError: it holds a copy of its own.
    """
    if _LAST_WORDS in made.read_bytes():
        raise BuildError(
            "the operators do not build: the C++ compiler links the C++ library statically, so that an operator's error"
            " would end the process: name another compiler in CXX (/usr/bin/g++), or leave -static-libstdc++ out of it"
        )


def run(command: Sequence[str | Path]) -> str:
    """Run, and return what it printed.

    Raises:
        BuildError: it cannot be run or failed; the message holds its own words.
    """
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise BuildError(f"the operators do not build: `{_joined(command)}` cannot be run: {error}") from error
    if done.returncode:
        words = (done.stderr + done.stdout).strip() or f"it ended with code {done.returncode} and said nothing"
        raise BuildError(f"the operators do not build: `{_joined(command)}` failed:\n{words}")
    return done.stdout


def _joined(command: Sequence[str | Path]) -> str:
    return shlex.join(str(part) for part in command)
