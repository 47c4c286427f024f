"""One training step as each publisher computes it: losses, every gradient, the losses after the step.

Source: tests/parity/training/README.md.  Every sampler takes all that there is, so that nothing is random.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

import cascadezoo
from cascadezoo.converters import detectron2 as detectron2_keys
from cascadezoo.converters import mmdet as mmdet_keys
from cascadezoo.converters import paddle as paddle_keys
from cascadezoo.converters.keymap import KeyMap
from cascadezoo.detector import Detector
from cascadezoo.providers import SPECS

import procedural

HERE = Path(__file__).parent
ALL = 100_000  # the most a sampler may take; there are 46,557 anchors an image
MMDET_KEYS = KeyMap(
    rows=(*mmdet_keys._ROWS, *mmdet_keys.BOX_CONVS),
    holes=mmdet_keys.HOLES,
    ignored=mmdet_keys.IGNORED,
    counters=mmdet_keys.COUNTERS,
)
pytestmark = [pytest.mark.parity, pytest.mark.timeout(900)]


class Case:
    def __init__(self, slug: str, expected: str = "expected.json") -> None:
        self.folder = HERE / "training" / slug
        self.record = json.loads((self.folder / "case.json").read_text())
        self.expected = json.loads((self.folder / expected).read_text())

    def images(self) -> list[torch.Tensor]:
        names = self.record["images"]
        pixels = [cv2.imread(str(HERE / "images" / name))[:, :, ::-1].copy() for name in names]
        return [torch.from_numpy(p).permute(2, 0, 1) for p in pixels]

    def targets(self, drawn: bool) -> list[dict[str, Any]]:
        return [
            {
                "boxes": torch.tensor(target["boxes"]),
                "labels": torch.tensor(target["labels"]),
                "masks": target["polygons"] if drawn else bitmaps(target),
            }
            for target in self.record["targets"]
        ]


def bitmaps(target: dict[str, Any]) -> torch.Tensor:
    return torch.from_numpy(np.stack([coco_mask.decode(rle) for rle in target["masks"]]))


def default_heads(case: Case, folder: Path) -> Detector:
    return of_entry(case, folder / "step.pth", ALL, ALL, 0.5)


def paddle_heads(case: Case, folder: Path) -> Detector:
    """The RPN's losses are divided by the number that its sampler is set to, so that this is the recorded one."""
    settings = case.record["settings"]
    rpn, box = settings["rpn_target_assign"], settings["bbox_assigner"]
    return of_entry(
        case, folder / "step.pdparams", rpn["batch_size_per_im"], box["batch_size_per_im"], box["fg_fraction"]
    )


def detectron2_heads(case: Case, folder: Path) -> Detector:
    """With the samplers of the recorded settings: they take all, and the RPN's losses are divided by the first."""
    return of_entry(case, folder / "step.pkl", 65536, 8192, 0.25)


def of_entry(case: Case, path: Path, anchors: int, boxes: int, positive_boxes: float) -> Detector:
    """From the publisher's file, with torchvision's names for the samplers."""
    record = procedural.load_case(case.folder)
    procedural.write_checkpoint(path, record["provider"], procedural.make_tensors(record))
    return cascadezoo.load(
        record["entries"][0],
        weights=path,
        min_size=record["min_size"],
        max_size=record["max_size"],
        rpn_batch_size_per_image=anchors,
        rpn_positive_fraction=0.5,
        box_batch_size_per_image=boxes,
        box_positive_fraction=positive_boxes,
    )


def giou_heads(case: Case, folder: Path) -> Detector:
    """A network that no entry names: a ResNet-50 under InternImage's heads."""
    theirs, spec = SPECS["internimage"]["cascade_mask_internimage_l_fpn"], SPECS["mmdet"]["cascade_mask_r50_fpn"]
    dump = spec.model_dump() | {"box_head": theirs.box_head.model_dump(), "objective": theirs.objective.model_dump()}
    dump["preprocess"] |= {"min_size": 320, "max_size": 533}
    for part in ("rpn", "box"):
        dump["objective"][part]["sampling"] |= {"size": ALL, "positive_fraction": 0.5}
    model = cascadezoo.build(type(spec).model_validate(dump))
    tensors = {
        k: torch.from_numpy(np.asarray(v))
        for k, v in procedural.make_tensors(procedural.load_case(case.folder)).items()
    }
    fitted = MMDET_KEYS.fit(
        {k: tuple(v.shape) for k, v in tensors.items()}, {k: tuple(v.shape) for k, v in model.state_dict().items()}
    )
    assert fitted.problems == 0
    keys = {name: MMDET_KEYS.source_keys(name)[0] for name in model.state_dict()}
    model.load_state_dict({name: MMDET_KEYS.apply(name, tensors[key]) for name, key in keys.items()})
    return model


def as_ours(theirs: dict[str, float | list[float]]) -> dict[str, float]:
    """mmdetection's losses by our names; those of the RPN summed over levels."""
    ours = {"loss_objectness": sum(theirs["loss_rpn_cls"]), "loss_rpn_box_reg": sum(theirs["loss_rpn_bbox"])}
    for stage in range(3):
        for name, theirs_name in (("loss_classifier", "cls"), ("loss_box_reg", "bbox"), ("loss_mask", "mask")):
            ours[f"{name}_{stage + 1}"] = theirs[f"s{stage}.loss_{theirs_name}"]
    return ours


def paddle_as_ours(theirs: dict[str, float]) -> dict[str, float]:
    ours = {"loss_objectness": theirs["loss_rpn_cls"], "loss_rpn_box_reg": theirs["loss_rpn_reg"]}
    for stage in range(3):
        ours[f"loss_classifier_{stage + 1}"] = theirs[f"loss_bbox_cls_stage{stage}"]
        ours[f"loss_box_reg_{stage + 1}"] = theirs[f"loss_bbox_reg_stage{stage}"]
    return ours | {"loss_mask_1": theirs["loss_mask"]}


def detectron2_as_ours(theirs: dict[str, float]) -> dict[str, float]:
    ours = {"loss_objectness": theirs["loss_rpn_cls"], "loss_rpn_box_reg": theirs["loss_rpn_loc"]}
    for stage in range(3):
        ours[f"loss_classifier_{stage + 1}"] = theirs[f"loss_cls_stage{stage}"]
        ours[f"loss_box_reg_{stage + 1}"] = theirs[f"loss_box_reg_stage{stage}"]
    return ours | {"loss_mask_1": theirs["loss_mask"]}


class Step(NamedTuple):
    model: Callable[[Case, Path], Detector]
    keys: KeyMap
    as_ours: Callable[[Any], dict[str, float]]
    within: float  # of each loss
    drawn: bool = False  # masks are polygons
    least: float = 1e-6  # differences of losses below it do not count
    moved: tuple[str, ...] = ()  # losses that one box more at a threshold moves in the second step


DETECTRON2 = Step(
    detectron2_heads,
    detectron2_keys.CONVERTER.key_map("cascade_mask_r50_fpn"),
    detectron2_as_ours,
    2e-4,  # bitmaps instead of polygons would move loss_mask by 7e-4
    least=1e-8,
    moved=("loss_box_reg_1", "loss_box_reg_2", "loss_box_reg_3"),
)
STEPS = {
    "cascade_mask_r50_fpn": Step(default_heads, MMDET_KEYS, as_ours, 2e-3),
    "cascade_mask_r50_fpn_giou_heads": Step(giou_heads, MMDET_KEYS, as_ours, 2e-3),
    # bitmaps instead of polygons would move loss_mask by 1.4e-3
    "paddle_cascade_mask_r50_fpn": Step(
        paddle_heads, paddle_keys.CONVERTER.key_map("cascade_mask_r50_fpn"), paddle_as_ours, 2e-4, drawn=True
    ),
    "detectron2_cascade_mask_r50_fpn": DETECTRON2._replace(drawn=True),
    "detectron2_cascade_mask_r50_fpn/expected_bitmask.json": DETECTRON2,
}


@pytest.mark.parametrize(
    "slug",
    ["cascade_mask_r50_fpn", *(pytest.param(name, marks=pytest.mark.slow) for name in list(STEPS)[1:])],
)
def test_one_step_is_the_publishers(slug: str, tmp_path: Path) -> None:
    case, step = Case(*slug.split("/")), STEPS[slug]
    model = step.model(case, tmp_path).train()
    images, targets = case.images(), case.targets(step.drawn)
    losses = model(images, targets)
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(
        step.as_ours(case.expected["losses"]), rel=step.within, abs=step.least
    )

    torch.stack(list(losses.values())).sum().backward()
    norms = case.expected["grad_norm"]
    largest = max(norms.values())
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    for key, norm in norms.items():
        name, _ = next(n for n in ((n, step.keys.source_keys(n)) for n in ours) if key in n[1])
        if norm > 1e-3 * largest:
            assert ours[name].norm().item() == pytest.approx(norm, rel=1e-2), name
    learned = {key for name, grad in ours.items() if grad is not None for key in step.keys.source_keys(name)}
    assert learned == norms.keys()

    sgd = case.expected["after_one_sgd_step"]
    learning = [p for p in model.parameters() if p.requires_grad]
    torch.optim.SGD(learning, lr=sgd["lr"], momentum=sgd["momentum"], weight_decay=sgd["weight_decay"]).step()
    with torch.no_grad():
        after = model(images, targets)
    again = step.as_ours(sgd["losses"])
    held = again.keys() - step.moved
    assert {k: after[k].item() for k in held} == pytest.approx({k: again[k] for k in held}, rel=1e-2, abs=1e-5)
    if step.moved:
        assert sum(after.values()).item() == pytest.approx(sgd["total"], rel=1e-3)
