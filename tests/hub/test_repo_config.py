"""A config.json that asks for the absurd: refused by name, at once, and before anything is built."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hub.publishing import canonical_file, shrink

from cascadezoo.errors import UnusableRepo
from cascadezoo.hub.huggingface import LocalSource, fetch_repo
from cascadezoo.modeling import build
from cascadezoo.providers import SPECS
from cascadezoo.publishing.package import pack
from cascadezoo.registry import info
from cascadezoo.spec.model import ModelSpec

NAME = "cascade_mask_r50_fpn_1x.mmdet"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a repository."""
    shrink(monkeypatch, NAME)
    weights = canonical_file(tmp_path, NAME)
    package = pack(info(NAME), "org/model", "main", weights, license="Apache-2.0", report=None)
    made = tmp_path / "repo"
    made.mkdir()
    (made / "config.json").write_text(package.card.config.to_json())
    shutil.copy(weights, made / "model.safetensors")
    return made


def changed(folder: Path, place: str, value: object) -> None:
    """Another value at a place such as ``spec.backbone.width``."""
    config = json.loads((folder / "config.json").read_text())
    *path, last = place.split(".")
    record: Any = config
    for name in path:
        record = record[int(name)] if name.isdigit() else record[name]
    record[int(last) if last.isdigit() else last] = value
    (folder / "config.json").write_text(json.dumps(config))


HUGE, NAN, INF = 10**9, math.nan, math.inf
ABSURD: list[tuple[str, object]] = [
    ("backbone.blocks", [10**6, 1, 1, 1]),
    ("backbone.blocks", [129, 1, 1, 1]),
    ("backbone.blocks", [1, 1, 0, 1]),
    ("backbone.blocks", [1] * 1000),
    ("backbone.blocks", [-1, 1, 1, 1]),
    ("backbone.width", HUGE),
    ("backbone.width", 0),
    ("backbone.groups", HUGE),
    ("backbone.groups", 0),
    ("backbone.width_per_group", HUGE),
    ("backbone.width_per_group", -4),
    ("backbone.frozen_stages", HUGE),
    ("neck.channels", HUGE),
    ("neck.channels", -1),
    ("box_head.fcs", [HUGE]),
    ("box_head.fcs", [1] * 1000),
    ("box_head.convs", [HUGE]),
    ("box_head.convs", [1] * 1000),
    ("box_head.resolution", HUGE),
    ("box_head.resolution", 0),
    ("mask.heads", HUGE),
    ("mask.resolution", HUGE),
    ("mask.convs", [1] * 1000),
    ("mask.convs", [0]),
    ("mask.deconv", HUGE),
    ("num_classes", HUGE),
    ("preprocess.std", [0, 1, 1]),
    ("preprocess.std", [NAN, 1, 1]),
    ("preprocess.std", [-1, 1, 1]),
    ("preprocess.std", [INF, 1, 1]),
    ("preprocess.std", [1e-30, 1, 1]),
    ("preprocess.mean", [NAN, 0, 0]),
    ("preprocess.mean", [1e30, 0, 0]),
    ("preprocess.min_size", HUGE),
    ("preprocess.max_size", HUGE),
    ("preprocess.max_size", 0),
    ("preprocess.size_divisor", HUGE),
    ("conventions.anchors.sizes", [[HUGE]] * 5),
    ("conventions.anchors.sizes", [[1.0] * 1000] * 5),
    ("conventions.anchors.sizes", [[NAN]] * 5),
    ("conventions.anchors.sizes", [[0]] * 5),
    ("conventions.anchors.sizes", [[]] * 5),
    ("conventions.anchors.ratios", [0]),
    ("conventions.anchors.ratios", []),
    ("conventions.anchors.ratios", [1.0] * 1000),
    ("conventions.anchors.ratios", [INF]),
    ("conventions.anchors.strides", [0, 8, 16, 32, 64]),
    ("conventions.anchors.strides", [HUGE, 8, 16, 32, 64]),
    ("conventions.proposals.nms.iou", 1.5),
    ("conventions.proposals.nms.iou", NAN),
    ("conventions.proposals.nms.iou", -0.1),
    ("conventions.proposals.pre_nms_top_n", HUGE),
    ("conventions.proposals.post_nms_top_n", HUGE),
    ("conventions.proposals.min_size", INF),
    ("conventions.proposals.coder.stds", [0, 1, 1, 1]),
    ("conventions.proposals.coder.stds", [1, 1, 1, INF]),
    ("conventions.proposals.coder.log_scale", [NAN, 4]),
    ("conventions.proposals.coder.log_scale", [0, 1000]),
    ("conventions.proposals.coder.log_scale", [4, -4]),
    ("conventions.roi_align.sampling_ratio", HUGE),
    ("conventions.levels.size", 0),
    ("conventions.levels.level", HUGE),
    ("conventions.levels.epsilon", NAN),
    ("conventions.selection.score_thresh", NAN),
    ("conventions.selection.score_thresh", 1),
    ("conventions.selection.nms.iou", 2),
    ("conventions.selection.detections_per_img", HUGE),
    ("objective.rpn.sampling.size", HUGE),
    ("objective.rpn.sampling.positive_fraction", NAN),
    ("objective.rpn.box_loss.beta", NAN),
    ("objective.rpn.pre_nms_top_n", HUGE),
    ("objective.box.stages.0.weight", INF),
    ("objective.box.stages.0.iou", NAN),
    ("stages.0.stds", [-1, 1, 1, 1]),
]


@pytest.mark.parametrize(("place", "value"), ABSURD, ids=lambda each: str(each)[:40])
def test_U9_numbers_beyond_all_bounds_are_refused_by_name(folder: Path, place: str, value: object) -> None:
    changed(folder, f"spec.{place}", value)
    with pytest.raises(UnusableRepo, match=r"config\.json: spec") as caught:
        fetch_repo(LocalSource(folder))
    assert place.split(".")[-1].rstrip("0123456789") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ids", [[10**30, 2, 3, 4, 5], [-(10**30), 2, 3, 4, 5], [1.5, 2, 3, 4, 5]])
def test_U9_ids_that_no_data_set_has_are_refused(folder: Path, ids: list[float]) -> None:
    changed(folder, "categories.ids", ids)
    with pytest.raises(UnusableRepo, match=r"config\.json: categories\.ids\.0"):
        fetch_repo(LocalSource(folder))


def test_U9_all_published_networks_have_room() -> None:
    """No number of any entry is beyond a third of its bound, where a larger one would cost time or memory."""
    for specs in SPECS.values():
        for spec in specs.values():
            assert ModelSpec.model_validate(spec.model_dump()) == spec
            assert max(spec.backbone.blocks) <= 128 / 3
            assert max(spec.backbone.channels) <= 16_384 / 3
            assert spec.preprocess.max_size <= 16_384 / 3
            assert spec.conventions.proposals.pre_nms_top_n <= 100_000 / 3
            assert spec.objective.rpn.pre_nms_top_n <= 100_000 / 3


def test_U9_a_folder_that_fits_is_read(folder: Path) -> None:
    assert fetch_repo(LocalSource(folder)).config.entry == NAME


@pytest.mark.parametrize(
    ("place", "value", "first"),
    [
        ("backbone.blocks", [2, 1, 1, 1], r"backbone\.layer1\.1\.\S+, \[.*\] in the network and nowhere in the file"),
        ("neck.channels", 4096, r"box_heads\.0\.fcs\.0\.weight, \[32, 200704\] in the network and \[32, 784\]"),
        ("backbone.deep_stem", True, r"backbone\.stem\.0\.norm\.bias, \[32\] in the network and \[64\] in the file"),
        ("mask.deconv", 32, r"mask_head.*, \[.*32.*\] in the network and \[.*16.*\] in the file"),
    ],
)
def test_U9_a_network_that_the_weights_do_not_fit_is_never_built(folder, monkeypatch, place, value, first) -> None:
    monkeypatch.setattr(torch.nn.Module, "to_empty", lambda *_, **__: pytest.fail("it was built"))
    monkeypatch.setattr(build, "initialise", lambda *_: pytest.fail("it was built"))
    changed(folder, f"spec.{place}", value)
    with pytest.raises(UnusableRepo, match=rf"model\.safetensors does not fit the network of config\.json: .*{first}"):
        fetch_repo(LocalSource(folder))


LOAD = """
import resource, sys, time
import cascadezoo
from cascadezoo.errors import UnusableRepo
cascadezoo.load  # with torch
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
try:
    cascadezoo.load(f"local-dir:{sys.argv[1]}", num_classes=7)
except UnusableRepo:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""

LARGEST = {
    "backbone": {"blocks": [128, 128, 128, 128], "width": 1024, "width_per_group": 1024, "groups": 1024},
    "neck": {"channels": 16_384},
    "mask": {"heads": 16, "convs": [16_384] * 16, "deconv": 16_384},
    "box_head": {"fcs": [16_384] * 16},
}


def test_U9_the_largest_network_that_may_be_asked_for_takes_bounded_time_and_memory(folder: Path) -> None:
    """It would have some 10^13 parameters; the refusal takes a few seconds and some 100 MiB."""
    config = json.loads((folder / "config.json").read_text())
    for name, fields in LARGEST.items():
        config["spec"][name].update(fields)
    config["spec"]["objective"]["masks"] = [config["spec"]["objective"]["masks"][0]] * 16
    (folder / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder)], capture_output=True, text=True, timeout=120, check=True
    )
    assert int(done.stdout) < 1_500_000, done.stderr  # KiB
