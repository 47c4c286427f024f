"""The contract of imports (pyproject.toml, ``tool.importlinter``) sees every file and notices every step upward."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
FLOORS = [[room.strip() for room in floor.split("|")] for floor in CONFIG["contracts"][0]["layers"]]
ROOMS = [(room, number) for number, floor in enumerate(FLOORS) for room in floor if number > 0]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The package as a wheel lays it out."""
    ignored = shutil.ignore_patterns("__pycache__", "results", "*.safetensors")
    shutil.copytree(ROOT / "cascadezoo", tmp_path / "cascadezoo", ignore=ignored)
    for room in ("converters", "zoo_manifest", "benchmarks", "csrc"):
        shutil.copytree(ROOT / room, tmp_path / "cascadezoo" / room, ignore=ignored)
    return tmp_path


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contract as `make lint` does."""
    script = "import sys; from importlinter.cli import lint_imports_command as run; run()"
    command = [sys.executable, "-c", script, str(ROOT / "pyproject.toml"), "--no-cache"]
    environ = {**os.environ, "COLUMNS": "300", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)


def seed(folder: Path, room: str, line: str) -> str:
    """Append ``line`` to a file of a room; returns the module."""
    package = folder / "cascadezoo" / room
    file = package / "__init__.py" if package.is_dir() else package.with_suffix(".py")
    file.write_text(f"{file.read_text()}\n\n{line}\n")
    return f"cascadezoo.{room}"


def test_every_shipped_file_is_in_the_graph_and_keeps_the_contract(installed: Path) -> None:
    done = lint(installed)
    assert done.returncode == 0, done.stdout + done.stderr
    shipped = {
        ".".join(path.relative_to(installed).with_suffix("").parts).removesuffix(".__init__")
        for path in (installed / "cascadezoo").rglob("*.py")
    }
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import grimp; "
        "print(*grimp.build_graph('cascadezoo', cache_dir=None).modules)"
    )
    listed = subprocess.run(
        [sys.executable, "-c", code, str(installed)], cwd=installed, capture_output=True, text=True, check=True
    )
    assert set(listed.stdout.split()) == shipped


def test_a_step_upward_from_any_room_is_noticed(installed: Path) -> None:
    """Inside a function and for typing alone too; every room reaches for one of the floor above it."""
    expected = []
    for room, number in ROOMS:
        above = FLOORS[number - 1][0]
        body = f"def _up() -> None:\n    import cascadezoo.{above}\n"
        for_typing = f"from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import cascadezoo.{above}\n"
        expected.append((seed(installed, room, for_typing if number % 2 else body), f"cascadezoo.{above}"))
    done = lint(installed)
    assert done.returncode == 1
    said = [" ".join(line.split()) for line in done.stdout.splitlines()]
    missed = [f"{a} -> {b}" for a, b in expected if not any(line.startswith(f"- {a} -> {b}") for line in said)]
    assert not missed


def test_the_public_face_is_for_the_command_line_and_the_benchmarks(installed: Path) -> None:
    seed(installed, "training", "import cascadezoo")
    done = lint(installed)
    assert done.returncode == 1
    assert "cascadezoo.training -> cascadezoo" in done.stdout
