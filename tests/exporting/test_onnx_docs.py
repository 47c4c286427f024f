"""What docs/export.md shows, done in its order in one folder."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cascadezoo.cli import main
from cascadezoo.shapes.dataset import scene

pytest.importorskip("openvino")
pytest.importorskip("nncf")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "export.md"
NOT_RUN = ("pip", "trtexec")  # what installs, and what no machine of ours has


def run_example(words: list[str]) -> None:
    """One of ``examples/`` on drawn images of the names that it is given; what it prints goes where ``>`` says."""
    (script, *arguments), target = words[: words.index(">")], Path(words[-1])
    for index, name in enumerate(name for name in arguments if name.endswith((".jpg", ".png"))):
        Image.fromarray(scene("val", index).image).save(name)
    run = subprocess.run([sys.executable, ROOT / script, *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    target.write_text(run.stdout)


@pytest.mark.export
def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(\w*)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) > 3
    for language, block in blocks:
        if language == "python":
            exec(compile(block, str(PAGE), "exec"), {})
            continue
        for line in block.replace("\\\n", "").splitlines():
            program, *words = shlex.split(line)
            if program in NOT_RUN:
                continue
            if program == "python":
                run_example(words)
                continue
            assert program == "cascadezoo"
            with pytest.raises(SystemExit) as stop:
                main(words)
            assert stop.value.code == 0
    assert (tmp_path / "detector.onnx").is_file()
    assert len({found["image_id"] for found in json.loads((tmp_path / "found.json").read_text())}) == 2
    assert (tmp_path / "small.bin").stat().st_size < (tmp_path / "detector.bin").stat().st_size / 2
    assert "'ellipse', 'rectangle'" in capsys.readouterr().out  # the categories, from the file's metadata
