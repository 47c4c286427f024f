"""docs/serving.md: its blocks, run in turn as they stand there."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cascadezoo.shapes.dataset import scene

from served import TESTS, environ, listening

pytestmark = pytest.mark.serve
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", (TESTS.parent / "docs" / "serving.md").read_text(), re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's requests are curl's")
def test_every_block_does_what_the_page_says(tmp_path: Path) -> None:
    Image.fromarray(scene("val", 3).image).save(tmp_path / "photo.jpg", quality=92)
    (_, start), *others = BLOCKS
    command = start.split()
    assert command[0] == "cascadezoo"
    assert command[-2:] == ["--port", "8000"]
    command = [sys.executable, "-m", *command[:-1], "0"]
    with listening(command, tmp_path / "log") as server:
        said = [run(language, block.replace("8000", str(server.port)), tmp_path) for language, block in others]
    assert len(said) == 3
    found = json.loads((tmp_path / "found.json").read_text())["annotations"]
    sure = json.loads((tmp_path / "outlines.json").read_text())["annotations"]
    assert {type(one["segmentation"]) for one in found} == {dict}
    assert {type(one["segmentation"]) for one in sure} == {list}
    assert [one["score"] for one in sure] == [one["score"] for one in found if one["score"] >= 0.8]
    assert 0 < len(sure) < len(found)
    assert Image.open(io.BytesIO((tmp_path / "annotated.png").read_bytes())).size == (256, 192)
    assert len(said[1].splitlines()) == len(found)
    assert json.loads((tmp_path / "openapi.json").read_text())["openapi"]


def run(language: str, block: str, folder: Path) -> str:
    """What a block prints."""
    command = [sys.executable, "-c", block] if language == "python" else ["bash", "-euc", block]
    done = subprocess.run(command, cwd=folder, env=environ(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
