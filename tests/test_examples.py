"""The example notebooks: made of their scripts, small, and without an error; and the scripts run as they are."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
_SPEC = importlib.util.spec_from_file_location("notebooks", ROOT / ".ci" / "notebooks.py")
notebooks = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(notebooks)


def test_every_script_of_cells_has_its_notebook() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py") if "# %%" in path.read_text()} == set(notebooks.SCRIPTS)
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == {Path(name).stem for name in notebooks.SCRIPTS}


def test_cells_are_split_at_their_marks() -> None:
    script = "# %% [markdown]\n# # Title\n#\n# Words,\n#     indented\n\n# %%\nx = 1\n\ny = 2\n\n# %%\nx + y\n"
    assert notebooks.cells(script) == [
        ("markdown", "# Title\n\nWords,\n    indented"),
        ("code", "x = 1\n\ny = 2"),
        ("code", "x + y"),
    ]
    with pytest.raises(AssertionError, match="begins with a cell"):
        notebooks.cells("import os\n" + script)


@pytest.mark.parametrize("name", notebooks.SCRIPTS)
def test_a_notebook_holds_its_script_and_what_it_gave(name: str) -> None:
    path = (EXAMPLES / name).with_suffix(".ipynb")
    assert path.stat().st_size < 300_000
    book = json.loads(path.read_text())
    made = [(cell["cell_type"], "".join(cell["source"])) for cell in book["cells"]]
    assert made == notebooks.cells((EXAMPLES / name).read_text()), "run `make notebooks`"
    outputs = [output for cell in book["cells"] for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/jpeg" in output.get("data", {}) for output in outputs)
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert str(Path.home()) + os.sep not in path.read_text()


@pytest.mark.parametrize("name", ["first_steps.py", pytest.param("fine_tune.py", marks=pytest.mark.slow)])
def test_a_script_runs(name: str, tmp_path: Path) -> None:
    environ = {**os.environ, "CASCADEZOO_HOME": str(tmp_path / Path(name).stem / "home"), "CASCADEZOO_OFFLINE": "1"}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], cwd=tmp_path, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {Path(name).stem}
