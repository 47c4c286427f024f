"""The wheel of prebuilt operators: installed beside cascadezoo it is loaded, where it is of the same sources."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from cascadezoo.ops import building

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler here")
STATUS = "from cascadezoo.ops.library import STATUS; print(STATUS['cpu'])"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wheel_ops", ROOT / ".ci/wheel_ops.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def installed(wheel: Path, target: Path) -> Path:
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*command, str(wheel)], check=True)
    return target


def fresh(code: str, target: Path, **environment: str) -> str:
    """What Python prints in a process that has no compiler and an empty cache."""
    paths = os.pathsep.join(filter(None, (str(target), str(ROOT), os.environ.get("PYTHONPATH"))))
    home = str(target.parent / "home")
    own = os.environ | {"PYTHONPATH": paths, "PATH": "", "CASCADEZOO_HOME": home, "CASCADEZOO_OPS": "auto"}
    own.pop("CXX", None)
    done = subprocess.run([sys.executable, "-c", code], env=own | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Of no operator, in the folder of these sources' digest."""
    made = tmp_path / "made" / building.folder().name / "cascadezoo_cpu.so"
    made.parent.mkdir(parents=True)
    (tmp_path / "empty.cpp").write_text("int cascadezoo_nothing;\n")
    subprocess.run(["c++", "-shared", "-fPIC", str(tmp_path / "empty.cpp"), "-o", str(made)], check=True)
    return made


def test_the_wheels_library_is_loaded_without_a_compiler(library: Path, tmp_path: Path) -> None:
    target = installed(script().write(tmp_path / "dist", [library]), tmp_path / "site")
    inside = target / "cascadezoo_ops" / library.parent.name / library.name
    assert fresh(STATUS, target) == str(inside)
    assert fresh(STATUS, target, CASCADEZOO_OPS="torch") == "not loaded: CASCADEZOO_OPS=torch"
    own = tmp_path / "home/ops" / library.parent.name / library.name  # what its user built comes first
    own.parent.mkdir(parents=True, mode=0o700)
    own.parent.parent.chmod(0o700)
    shutil.copy(library, own)
    assert fresh(STATUS, target) == str(own)
    own.unlink()
    inside.write_bytes(b"no library at all")
    assert fresh(STATUS, target).endswith("cascadezoo_cpu.so: file too short")


def test_a_wheel_of_other_sources_is_passed_over(library: Path, tmp_path: Path) -> None:
    other = library.parent.with_name(library.parent.name[:-1] + "x")
    library.parent.rename(other)
    target = installed(script().write(tmp_path / "dist", [other / library.name]), tmp_path / "site")
    assert fresh(STATUS, target) == "not built"
    sheet = fresh("from cascadezoo.cli import main; main(['doctor'])", target)
    told = sheet[sheet.index("\ncascadezoo-ops ") :]  # which may be broken into lines
    assert "of other sources: install the one that `make wheel-ops` makes" in " ".join(told.split())


@pytest.mark.slow  # it compiles all operators
def test_the_wheel_of_these_sources_serves_its_operators(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / ".ci/wheel_ops.py"), str(tmp_path / "dist")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    wheel = Path(done.stdout.strip())
    assert {Path(name).name for name in zipfile.ZipFile(wheel).namelist()} >= {
        "cascadezoo_cpu.so", "cascadezoo_schemas.so", "LICENSE", "NOTICE",
    }  # fmt: skip
    code = (
        "import torch; from cascadezoo.ops import nms; z, own = torch.zeros, torch.ops.cascadezoo.grouped_nms;"
        "print(own(z(1, 3, 4), z(1, 3), z(1, 3).long(), z(1, 3) == 0, 0.5, 0, True, 1, 3, 3)[1].item())"
    )
    assert fresh(code, installed(wheel, tmp_path / "site"), CASCADEZOO_OPS="compiled") == "3"
