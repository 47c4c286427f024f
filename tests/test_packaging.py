"""What is in the repository is in the wheel, and the wheel works alone."""

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import cascadezoo

ROOT = Path(__file__).parents[1]
ROOMS = {
    "cascadezoo": "cascadezoo",
    "converters": "cascadezoo/converters",
    "zoo_manifest": "cascadezoo/zoo_manifest",
    "benchmarks": "cascadezoo/benchmarks",
    "csrc": "cascadezoo/csrc",
}
DATA = {
    "zoo_manifest": (".json", ".md", ".safetensors"),
    "csrc": (".cpp", ".cu", ".cuh", ".h"),
    "benchmarks": (".css", ".jinja", ".js"),
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A copy of the sources, as a clone has them: building in place would leave files behind."""
    folder = tmp_path_factory.mktemp("clone")
    for path in (*ROOMS, "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        subprocess.run(["cp", "-r", str(ROOT / path), str(folder)], check=True)
    return folder


def build_wheel(source: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out), "."]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory) -> Path:
    return build_wheel(clone, tmp_path_factory.mktemp("wheel"))


def test_every_package_and_data_file_is_in_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for room, installed in ROOMS.items():
        for path in (ROOT / room).rglob("*"):
            data = DATA.get(room, ())
            if path.suffix in (".py", ".toml", ".typed", *data):
                assert f"{installed}/{path.relative_to(ROOT / room)}" in inside


def test_a_wheel_of_the_source_distribution_is_the_same(clone: Path, wheel: Path, tmp_path: Path) -> None:
    code = f"from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=clone, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    second = build_wheel(next((tmp_path / "source").iterdir()), tmp_path / "wheel")
    sums = [
        {item.filename: item.CRC for item in zipfile.ZipFile(path).infolist() if not item.filename.endswith("RECORD")}
        for path in (wheel, second)
    ]
    assert sums[0] == sums[1]


def test_the_version_is_the_same_everywhere() -> None:
    version = cascadezoo.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^## {re.escape(version)} \(", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_every_package_is_listed() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    there = {
        ".".join([*Path(installed).parts, *path.parent.relative_to(ROOT / room).parts])
        for room, installed in ROOMS.items()
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert set(setuptools["packages"]) == there


def test_the_unpacked_wheel_lists_the_zoo(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import cascadezoo, json; "
        "print(json.dumps([cascadezoo.__file__, len(cascadezoo.list_models())]))"
    )
    # -P and -S would hide the dependencies; an import hook of an editable install must not win over the wheel
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    file, count = json.loads(done.stdout)
    assert Path(file).is_relative_to(tmp_path)
    assert count == 110


def test_the_unpacked_wheel_runs_its_own_entry(wheel: Path, tmp_path: Path) -> None:
    """Without network, and without anything of the checkout."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import cascadezoo, json; from cascadezoo import shapes; "
        "shapes.generate('val', sys.argv[2], 1); "
        "model = cascadezoo.load('cascade_mask_r18_fpn_shapes', pretrained=True); "
        "print(json.dumps([cascadezoo.__file__, len(model.predict(sys.argv[2] + '/val/000001.png'))]))"
    )
    environ = {"PATH": "", "HOME": str(tmp_path), "CASCADEZOO_HOME": str(tmp_path / "home"), "CASCADEZOO_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site"), str(tmp_path / "shapes")],
        cwd=tmp_path, env=environ, check=True, capture_output=True, text=True,
    )  # fmt: skip
    file, found = json.loads(done.stdout)
    assert Path(file).is_relative_to(tmp_path)
    assert found > 0


@pytest.mark.parametrize("installed", [False, True], ids=["dependencies alone", "beside an installed wheel"])
def test_c6_python_started_in_a_clone_uses_the_clone(clone: Path, wheel: Path, tmp_path: Path, installed: bool) -> None:
    """Case C6: every room, its data and the public names, whatever else is installed."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import sys, json; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]; "
        f"sys.path[1:1] = {[str(tmp_path / 'site')] if installed else []!r}; "
        "import cascadezoo, cascadezoo.csrc.cuda; from cascadezoo.benchmarks.reports import schema; "
        "model = cascadezoo.load('cascade_mask_r18_fpn_shapes', pretrained=True); "
        "print(json.dumps([cascadezoo.__file__, schema.__file__, len(cascadezoo.list_models())]))"
    )
    environ = {"PATH": "", "HOME": str(tmp_path), "CASCADEZOO_HOME": str(tmp_path / "home"), "CASCADEZOO_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=clone, env=environ, check=True, capture_output=True, text=True
    )
    *files, count = json.loads(done.stdout)
    assert all(Path(file).is_relative_to(clone) for file in files)
    assert count == 110
