"""What docs/export.md shows, done in its order in one folder."""

import re
import shlex
from pathlib import Path

import pytest

from cascadezoo.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
NOT_RUN = ("pip", "trtexec")  # what installs, and what no machine of ours has


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
            assert program == "cascadezoo"
            with pytest.raises(SystemExit) as stop:
                main(words)
            assert stop.value.code == 0
    assert (tmp_path / "detector.onnx").is_file()
    assert "'ellipse', 'rectangle'" in capsys.readouterr().out  # the categories, from the file's metadata
