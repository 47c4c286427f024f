"""What the README says: its first block runs without a network, its counts and bounds are the project's, its links lead
somewhere."""

import os
import re
import subprocess
import sys
import time
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

import cascadezoo
from cascadezoo import registry
from cascadezoo.cli import cli
from cascadezoo.manifest import ELSEWHERE
from cascadezoo.providers import SPECS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAMES = {
    "mmdetection": "mmdet",
    "InternImage": "internimage",
    "PaddleDetection": "paddle",
    "Detectron": "detectron",
    "Swin Transformer": "swin",
    "ConvNeXt": "convnext",
    "detectron2": "detectron2",
}
WITHOUT_A_CASE = {"swin": {"mask_swin_s_fpn"}}  # as the README says

# a process whose sockets reach nothing
SEALED = """
import socket
def refuse(*_): raise OSError("no network here")
socket.socket.connect = socket.getaddrinfo = refuse
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_first_block_runs_without_a_network_in_under_a_minute(tmp_path: Path) -> None:
    first = blocks("python")[0]
    assert len([line for line in first.splitlines() if line.strip()]) == 10
    environ = {**os.environ, "CASCADEZOO_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environ.get("PYTHONPATH"))))
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", SEALED + first], cwd=tmp_path, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < 60
    lines = done.stdout.splitlines()
    assert len(lines) >= 3
    assert all(re.fullmatch(r"[a-z]+ +[01]\.\d\d \[[\d, ]+\] \d+ pixels", line) for line in lines)
    with Image.open(tmp_path / "found.png") as picture:
        assert picture.size in ((256, 192), (192, 256))


def test_the_picture_comes_first_and_is_small() -> None:
    first = re.search(r"!\[(.+?)\]\((.+?)\)", README)
    assert first is not None
    assert README[: first.start()].strip() == "# cascadezoo"
    path = ROOT / first[2]
    assert path.stat().st_size < 200_000
    with Image.open(path) as picture:
        assert picture.width <= 2000


def test_counts_are_those_of_the_manifest() -> None:
    entries = Counter(entry.publisher for entry in registry.entries())
    networks = {name: {e.architecture for e in registry.entries() if e.publisher == name} for name in entries}
    elsewhere = {entry.architecture for data in ELSEWHERE for entry in registry.entries(data)}
    for shown, publisher in NAMES.items():
        row = re.search(rf"^\| {shown} \| (\d+) \| (\d+): ", README, re.MULTILINE)
        assert row is not None, shown
        assert (int(row[1]), int(row[2])) == (entries[publisher], len(networks[publisher]))
        cases = {path.parent.name for path in (ROOT / "tests/parity" / publisher).glob("*/case.json")}
        assert networks[publisher] - cases == WITHOUT_A_CASE.get(publisher, set()), "each network has a recorded case"
        assert networks[publisher] == set(SPECS[publisher]) - elsewhere
    published = [entry for entry in registry.entries() if entry.availability != "embedded"]
    assert len(published) == 109
    assert "109 published Cascade R-CNN, Mask R-CNN and Faster R-CNN models of seven publishers" in README
    assert "All 109 are listed" in README
    assert len({entry.publisher for entry in published}) == len(NAMES) == 7
    figures = [entry.evaluations[0].box_ap for entry in published]
    assert f"from {min(figures)} to {max(figures)} box AP" in README
    assert len(registry.entries("nuimages")) == 5
    assert "Five more, of mmdetection3d, are on nuImages" in README
    assert {entry.family for entry in published} == {"cascade", "cascade_mask", "mask", "faster"}
    assert sum(not entry.has_weights for entry in published) == 4
    assert "four of them never had weights" in README


def test_the_line_for_a_cpu_has_the_bounds_of_the_project() -> None:
    """A version that they exclude would be replaced by another index's, with CUDA."""
    line = next(line for line in README.splitlines() if "download.pytorch.org/whl/cpu" in line)
    wanted = [bound for bound in PROJECT["dependencies"] if re.match(r"torch(vision)?\W", bound)]
    assert re.findall(r'"(.+?)"', line) == wanted


def test_the_wheel_and_python_are_those_of_the_project() -> None:
    assert f"pip install cascadezoo-{cascadezoo.__version__}-py3-none-any.whl" in README
    assert f"Python {PROJECT['requires-python'].removeprefix('>=')} or later" in README
    assert not re.search(r"pip install [\"']?cascadezoo(\[|\s|$)", README)  # registered on no index


@pytest.mark.parametrize("page", ["README.md", "docs/cli.md"])
def test_links_lead_to_files(page: str) -> None:
    path = ROOT / page
    links = [link for link in re.findall(r"\]\(([^)#]+)", path.read_text()) if "://" not in link]
    assert links
    assert not [link for link in links if not (path.parent / link).exists()]


def test_every_command_is_named() -> None:
    table = README.split("## Commands")[1]
    shown = {
        word.split()[0]
        for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
        for word in re.findall(r"`(.+?)`", row)
    }
    assert shown == set(cli.list_commands(None))
