"""hubconf.py in a process that has a clone and PyTorch, and no installed cascadezoo."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cascadezoo import registry

ROOT = Path(__file__).parents[1]
SHAPES = "cascade_mask_r18_fpn_shapes"
(PAGE,) = re.findall(r"```python\n(import torch\n.*?)```", (ROOT / "docs/integrations.md").read_text(), re.DOTALL)
# the editable install's finder must not find it; nor may what hubconf.py does not ask for
ALONE = """
import json, sys
from importlib.util import find_spec
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
import torch
assert find_spec("cascadezoo") is None
clone, cached, extra = {clone!r}, "owner/cascadezoo:main", set({extra!r})

class Missing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in extra:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing)
"""


def declared() -> set[str]:
    """The import names of what pip installs with the package."""
    import_names = {"opencv-python-headless": "cv2", "pillow": "PIL", "pyyaml": "yaml"}
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = [re.split(r"[<>=!\[]", line)[0] for line in wanted]
    return {import_names.get(name, name) for name in names}


def dependencies() -> set[str]:
    text = (ROOT / "hubconf.py").read_text()
    return set(re.findall(r'"(\w+)"', re.search(r"^dependencies = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)[1]))


BODY = f"""
model = torch.hub.load(clone, {SHAPES!r}, source="local", pretrained=True, box_detections_per_img=7)
import cascadezoo.shapes; cascadezoo.shapes.generate("val", "shapes", 1)
found = model.predict("shapes/val/000001.png")
import shutil; shutil.copy("shapes/val/000001.png", "photo.jpg")
page = {{}}
exec({PAGE!r}.replace("path/of/a/clone", clone), page)
untrained = torch.hub.load(clone, "cascade_mask_r50_fpn_1x", source="local", pretrained=False)
names = torch.hub.list(cached, trust_repo=True, verbose=False, skip_validation=True)
chosen = [*names[:3], {SHAPES!r}, "mask_r50_fpn_1x.detectron"]
print(json.dumps({{
    "file": cascadezoo.__file__,
    "modules": list(sys.modules),
    "limit": model.spec.conventions.selection.detections_per_img,
    "masks": len(found.rles()),
    "page": len(page["detections"]),
    "untrained": untrained.origin.entry,
    "names": names,
    "help": {{name: torch.hub.help(cached, name, trust_repo=True, skip_validation=True) for name in chosen}},
}}))
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What BODY prints, run elsewhere; the clone is in the cache of ``torch.hub`` too."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (cache := folder / "torch" / "hub").mkdir(parents=True)
    (cache / "owner_cascadezoo_main").symlink_to(ROOT)
    code = ALONE.format(clone=str(ROOT), extra=sorted(declared() - dependencies())) + BODY
    environ = {"PATH": "", "HOME": str(folder), "TORCH_HOME": str(folder / "torch"), "CASCADEZOO_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_model_is_loaded_and_detects_with_the_dependencies_alone(alone: dict[str, Any]) -> None:
    assert dependencies() < declared()
    assert alone["file"] == str(ROOT / "cascadezoo/__init__.py")
    assert alone["limit"] == 7
    assert 0 < alone["masks"] <= 7
    assert alone["page"] >= alone["masks"]
    assert dependencies() <= set(alone["modules"]), "a dependency that nothing imports"


def test_without_weights_a_bare_name_is_the_first_publishers(alone: dict[str, Any]) -> None:
    assert alone["untrained"] == "cascade_mask_r50_fpn_1x.mmdet"


def test_every_entry_is_listed_by_both_names(alone: dict[str, Any]) -> None:
    assert set(alone["names"]) == {name for entry in registry.entries() for name in (entry.name, entry.bare_name)}


def test_help_is_readable(alone: dict[str, Any]) -> None:
    texts = alone["help"]
    text = texts["mask_r50_fpn_1x.detectron"]
    assert text.startswith("mask_r50_fpn_1x.detectron: boxes and masks; backbone R-50-FPN-baseline, 1x schedule.\n")
    for phrase in ("box AP 37.7", "mask AP 33.9", "CC-BY-SA-3.0", "Facebook AI Research"):
        assert phrase in text
    assert texts[SHAPES].startswith(f"{SHAPES}.cascadezoo: ")
    assert all("Args:" in text and "None" not in text for text in texts.values())
