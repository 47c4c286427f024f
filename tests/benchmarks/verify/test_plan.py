"""``verify --dry-run``: what would run, and what is there for it; nothing is loaded or written."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from sample_report import sample
from small_coco import NAME, tiny_load, write_coco

import cascadezoo
from cascadezoo.benchmarks.reports.schema import text_of
from cascadezoo.benchmarks.verify import plan
from cascadezoo.cli import main

BOXES, OWN = "cascade_r50_fpn_1x.mmdet", "cascade_mask_r18_fpn_shapes.cascadezoo"
TWICE = "cascade_mask_x152_32x8d_in5k_fpn_s1x.detectron"  # evaluated with test-time augmentation and without
UNPUBLISHED = "cascade_mask_x101_64x4d_fpn_1x.detectron"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_coco(tmp_path_factory.mktemp("coco"), 2)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cascadezoo, "load", lambda name, **_: pytest.fail(f"{name} was loaded"))
    monkeypatch.setattr(plan, "computed", lambda entry: SimpleNamespace(tensor_bytes=300_000_000))
    return tmp_path / "home"


def dry_run(*arguments: object, code: int = 0) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["verify", *map(str, arguments), "--device", "cpu", "--dry-run"])
    assert stopped.value.code == code


def planned(capsys, *arguments: object, code: int = 0) -> dict:
    dry_run(*arguments, "--json", "-", code=code)
    return json.loads(capsys.readouterr().out)


def test_what_would_run_and_what_is_there(root: Path, home: Path, tmp_path: Path, capsys) -> None:
    dry_run(NAME, TWICE, OWN, UNPUBLISHED, "--data-root", root)
    out, err = capsys.readouterr()
    assert out.splitlines()[:4] == [
        f"to measure   {NAME}: plain, speed; weights to be fetched (about 300 MB)",
        f"to measure   {TWICE}: plain, speed; weights to be fetched (about 300 MB)",
        f"to measure   {OWN}: plain, speed; weights in the package",
        f"SKIPPED      {UNPUBLISHED}: no weights: the published link leads to another model's file, and no other is "
        "known",
    ]
    assert f"data         COCO val2017: 2 images, {root}/annotations/instances_val2017.json (sha256 " in out
    assert f"), {root}/val2017/000000000001.jpg can be decoded\n" in out
    assert "data         shapes: is drawn first\n" in out
    assert f"disk         {home}: weights need about 600 MB, " in out
    assert "3 to measure, 1 SKIPPED; how long is not known" in err
    assert not home.exists()
    dry_run(UNPUBLISHED, "--data-root", root, "--strict", code=1)


def test_options_count(root: Path, capsys, monkeypatch) -> None:
    (entry,) = planned(capsys, TWICE, "--data-root", root, "--ap", "--tta", "--limit", 10)["entries"]
    assert sorted(entry["evaluations"]) == ["plain", "tta"]
    assert entry["results_bytes"] == 2 * 10 * 40_000
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (entry,) = planned(capsys, TWICE, "--data-root", root)["entries"]
    assert (entry["state"], entry["reason"]) == (
        "SKIPPED", "its weights are not in the cache, and HF_HUB_OFFLINE forbids the network",
    )  # fmt: skip
    (entry,) = planned(capsys, NAME)["entries"]
    assert entry["reason"].startswith("no data: give --data-root")


def test_what_the_run_folder_has_is_told(root: Path, tmp_path: Path, monkeypatch, capsys, caplog) -> None:
    options = (NAME, BOXES, "--data-root", root, "--tolerance", 100, "--run-dir", tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(cascadezoo, "load", tiny_load)
        cascadezoo.verify(
            NAME, data_root=root, speed=False, tolerance=100, workers=0, device="cpu", run_dir=tmp_path / "run"
        )
    before = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*"))
    plan = planned(capsys, *options, "--ap")
    assert [entry["state"] for entry in plan["entries"]] == ["finished", "measure"]
    assert plan["entries"][1]["seconds"] > 0  # by the time of the other
    assert plan["seconds"] == plan["entries"][1]["seconds"]
    entry = planned(capsys, *options)["entries"][0]
    assert (entry["state"], entry["evaluations"], entry["reason"]) == ("measure", ["speed"], "")
    entry = planned(capsys, *options, "--ap", "--tta")["entries"][0]
    assert (entry["state"], entry["reason"]) == ("measure", "changed since: accuracy: tta")
    entry = planned(capsys, *options, "--ap", "--only-failed", tmp_path / "run")["entries"][0]
    assert entry["state"] == "taken"
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*")) == before
    assert caplog.text == ""
    dry_run(*options, "--precision", "bf16", code=2)
    assert "holds another run (settings differ: precision was fp32, is bf16)" in capsys.readouterr().err


def test_recorded_times_are_used(root: Path, tmp_path: Path, capsys) -> None:
    baseline = tmp_path / "baseline.json"
    baseline.write_text(text_of(sample()))
    plan = planned(capsys, "cascade_mask_r50_fpn_3x.mmdet", "--data-root", root, "--baseline", baseline)
    assert plan["seconds"] == 10 + 1.92  # 10 s, and 24 runs of 80 ms


def test_a_disk_without_room_is_told(root: Path, monkeypatch, capsys) -> None:
    free = shutil.disk_usage("/")._replace(free=100_000_000)
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: free)
    dry_run(NAME, "--data-root", root, code=1)
    assert "weights need about 300 MB, 100 MB are free" in capsys.readouterr().out


def test_what_is_missing_or_damaged_ends_as_in_a_run(root: Path, tmp_path: Path, capsys) -> None:
    dry_run(NAME, "--data-root", tmp_path / "none", code=3)
    dry_run("nonsense", code=2)
    dry_run(NAME, "--html", tmp_path / "page.html", code=2)
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    image = copy / "val2017" / "000000000001.jpg"
    data = image.read_bytes()
    table = data.index(b"\xff\xc4") + 5  # after marker, length and class of the Huffman table
    image.write_bytes(data[:table] + b"\xff" * 16 + data[table + 16 :])
    capsys.readouterr()
    dry_run(NAME, "--data-root", copy, code=4)
    assert "000000000001.jpg" in capsys.readouterr().err
