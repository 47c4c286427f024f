"""``cascadezoo cache``, as its user meets it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cascadezoo.cli.cache import cache_command

PADDLE = "cascade_mask_r50_fpn_1x.paddle"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path))
    for path, size in {
        f"canonical/{PADDLE}.safetensors": 3 * 2**20,
        f"originals/{PADDLE}/x.pdparams": 1500,
        f"parts/{PADDLE}/x.pdparams": 7,
    }.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(bytes(size))
    os.utime(tmp_path / f"originals/{PADDLE}/x.pdparams", (1e9, 1e9))
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cache_command, list(arguments))


def test_list(cache: Path) -> None:
    found = run("list")
    canonical, original, part = found.stdout.splitlines()
    assert canonical.split()[:3] == ["canonical", "3.0", "MiB"]
    assert canonical.endswith(f"canonical/{PADDLE}.safetensors")
    assert original.split()[:3] == ["original", "1,500", "B"]
    assert "2001-09-0" in original
    assert part.split()[0] == "part"
    assert "3 files, 3.0 MiB" in found.stderr


def test_list_as_json(cache: Path) -> None:
    found = json.loads(run("list", "--json").stdout)
    assert found["home"] == str(cache)
    assert found["files"][1] == {
        "kind": "original",
        "entry": PADDLE,
        "path": str(cache / f"originals/{PADDLE}/x.pdparams"),
        "size": 1500,
        "used": "2001-09-09T01:46:40+00:00",
    }


def test_prune_wants_to_know_what(cache: Path) -> None:
    found = run("prune")
    assert found.exit_code == 2
    assert "--originals" in found.stderr
    assert "--older-than" in run("prune", "--older-than", "-1", "--all").stderr


def test_prune(cache: Path) -> None:
    dry = run("prune", "--originals", "--parts", "--dry-run")
    assert len(dry.stdout.splitlines()) == 2
    assert "2 files, 1,507 B, would be removed" in dry.stderr
    assert (cache / f"parts/{PADDLE}/x.pdparams").exists()

    old = json.loads(run("prune", "--all", "--older-than", "1", "--json").stdout)
    assert [item["kind"] for item in old["removed"]] == ["original"]
    assert (old["busy"], old["dry_run"]) == ([], False)
    found = run("prune", "--all")
    assert "2 files, 3.0 MiB, removed" in found.stderr
    assert run("list").stdout == ""


def test_C9_list_and_prune_show_drawn_data_and_operators(cache: Path) -> None:
    old = cache / "ops" / "linux-x86_64-0123456789abcdef" / "cascadezoo_cpu.so"
    image = cache / "data" / "shapes-v1-3" / "val" / "000001.png"
    for path in (old, image):
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(2048))
    found = run("list")
    assert [line.split()[0] for line in found.stdout.splitlines()[3:]] == ["data", "outdated"]
    assert found.stdout.splitlines()[3].endswith("data/shapes-v1-3")
    assert "3 files and 2 folders, 3.0 MiB" in found.stderr
    gone = run("prune", "--data", "--outdated")
    assert gone.stderr == "0 files and 2 folders, 4,096 B, removed\n"
    assert not image.parent.parent.exists()
    assert not old.parent.exists()


def test_path(cache: Path) -> None:
    assert run("path").stdout == f"{cache}\n"
    assert run("path", "cascade_mask_rcnn_r50_fpn_1x_coco.paddle").stdout == f"{cache}/canonical/{PADDLE}.safetensors\n"
    found = json.loads(run("path", "cascade_r50_fpn_1x", "--json").stdout)
    assert found == {"path": f"{cache}/canonical/cascade_r50_fpn_1x.mmdet.safetensors", "exists": False}
    embedded = json.loads(run("path", "cascade_mask_r18_fpn_shapes.cascadezoo", "--json").stdout)
    assert embedded["exists"]  # in the package
    assert run("path", "no_such_entry").exception.__class__.__name__ == "UnknownName"


def test_listing_the_cache_imports_no_torch(cache: Path) -> None:
    program = (
        "import sys; from cascadezoo.cli import main\n"
        "try: main(['cache', 'prune', '--all'])\n"
        "finally: assert not {'torch', 'requests', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
