"""Smoke test of an installed cascadezoo, run in an empty folder: list, load, predict, save, verify."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import cascadezoo
from cascadezoo import shapes

ENTRY = "cascade_mask_r18_fpn_shapes.cascadezoo"


def run(*arguments: str) -> str:
    """The standard output of one command of the installed package."""
    command = [str(Path(sys.executable).with_name("cascadezoo")), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


assert Path(cascadezoo.__file__).is_relative_to(Path(sys.prefix)), f"not the installed package: {cascadezoo.__file__}"
assert importlib.metadata.version("cascadezoo") == cascadezoo.__version__
assert cascadezoo.__version__ in run("--version")
assert [entry["name"] for entry in json.loads(run("list", "--json"))] == cascadezoo.list_models()
shapes.generate("val", "data", 1)
detections = cascadezoo.load(ENTRY, pretrained=True).predict("data/val/000001.png")
assert len(detections) > 0
detections.save("detections.json")
run("predict", ENTRY, "data/val/000001.png", "--out", "out")
print(run("verify", ENTRY, "--limit", "20", "--ap"))
print(f"cascadezoo {cascadezoo.__version__}: installed, and it works")
