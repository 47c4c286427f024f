"""The versions that ``make test-lowest`` installs: each requirement's lower bound."""

import shutil
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / ".ci" / "lowest.py"

PYPROJECT = """
[project]
dependencies = ["torch>=2.11,!=2.13.*", "opencv-python-headless >= 4.10.0.84"{more}]
[project.optional-dependencies]
test = ["pytest>=8"]
dev = ["mypy"]
"""


def run(folder: Path, more: str = "") -> subprocess.CompletedProcess[str]:
    (folder / ".ci").mkdir(exist_ok=True)
    shutil.copy(SCRIPT, folder / ".ci")
    (folder / "pyproject.toml").write_text(PYPROJECT.format(more=more))
    return subprocess.run([sys.executable, folder / ".ci" / "lowest.py"], capture_output=True, text=True, check=False)


def test_P1_each_requirement_is_pinned_to_its_lower_bound(tmp_path: Path) -> None:
    assert run(tmp_path).stdout.splitlines() == ["torch==2.11", "opencv-python-headless==4.10.0.84", "pytest==8"]


def test_P1_a_requirement_without_a_lower_bound_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, ', "filelock<4"')
    assert done.returncode == 1
    assert done.stderr == "pyproject.toml: 'filelock<4' has no lower bound, as in name>=VERSION\n"
