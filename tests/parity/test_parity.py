"""Every architecture computes what its publisher's own code computed (recorded in the folders beside this file)."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch

from cascadezoo.detector import Detector
from cascadezoo.modeling.rpn import Proposals

from cases import Case, cases

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
# the default suite keeps one case of each kind of network; `make test-parity` runs all
QUICK = {
    "mmdet": (
        "cascade_mask_r50_fpn",
        "cascade_mask_x101_32x8d_fpn",
        "cascade_r50_caffe_fpn",
        "cascade_r50_dconv_c3c5_fpn",
    ),
    "internimage": ("mask_internimage_t_fpn",),
    "paddle": ("cascade_mask_r50_vd_fpn", "cascade_r50_fpn", "mask_r101_fpn", "mask_r50_c4"),
    "detectron": (
        "cascade_mask_r50_fpn",
        "faster_r50_fpn",
        "mask_x101_64x4d_fpn",
    ),
    "swin": ("mask_swin_t_fpn",),
    "convnext": ("mask_convnext_t_fpn",),
    "detectron2": ("cascade_mask_r50_fpn", "cascade_mask_vitdet_b"),
}


# its 1000th proposal and the next are nearer to each other than optimised convolutions are to plain ones, and three of
# the 61 detections are of it: there the optimised network gets the plain one's proposals
AT_THE_EDGE = "convnext/cascade_mask_convnext_xl_fpn"


def parameters() -> list:
    rows = [(publisher, case) for publisher in QUICK for case in cases(publisher)]
    slow = {case: () if case.folder.name in QUICK[publisher] else pytest.mark.slow for publisher, case in rows}
    return [pytest.param(case, id=f"{publisher}-{case.folder.name}", marks=slow[case]) for publisher, case in rows]


@pytest.mark.parity
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", parameters())
def test_checkpoint_converted_loaded_and_run_equals_the_publisher(case: Case, device: str, tmp_path) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model, _ = case.convert(tmp_path, device)
    with torch.inference_mode():
        stages = case.stages(model)
    departed = [row for row in stages if not row["ok"]]
    report = case.compare(model.predict(case.image, tta="tta" in case.record))
    assert not departed, f"departs first at {departed[0]}; then {report}"
    assert report["ok"], f"input, features and proposals agree, the detections do not: {report}"
    quick, name = QUICK[case.folder.parent.name], case.folder.name
    if "tta" not in case.record and name not in quick[1:]:  # `make test` optimises a case of each publisher
        for exact in (False, True):
            ready = model.optimize(exact=exact)
            if not exact and case.folder == Case.root() / AT_THE_EDGE:
                ready.rpn.forward = partial(passed_on, proposals_of(case, model))
            report = case.compare(ready.predict(case.image))
            assert report["ok"], f"the optimised model departs, exact={exact}: {report}"
    for file in tmp_path.iterdir():  # a few hundred megabytes a case
        file.unlink()


def proposals_of(case: Case, model: Detector) -> Proposals:
    batch = model.prepare([model.resize(case.image)])
    with torch.inference_mode():
        return model.rpn(model.extract(batch.pixels), batch.sizes)


def passed_on(proposals: Proposals, *_: object) -> Proposals:
    return proposals


def test_every_recorded_case_is_run() -> None:
    folders = {path.parent.parent.name for path in Case.root().glob("*/*/case.json")}
    assert folders - {"training"} == QUICK.keys()  # those of one step: test_training_parity.py
    for publisher, quick in QUICK.items():
        assert set(quick) <= {case.folder.name for case in cases(publisher)}


def test_make_test_runs_a_case_of_each_publisher_compiled() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    words = re.search(r"^COMPILED_CASES := (.+)$", makefile, re.MULTILINE)[1].split(" or ")
    ids = [f"{publisher}-{name}" for publisher, names in QUICK.items() for name in names]
    assert {found.split("-")[0] for found in ids for word in words if word in found} == QUICK.keys()
    assert all(any(word in found for found in ids) for word in words)
