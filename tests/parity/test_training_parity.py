"""One training step as mmdetection 3.3 computes it: losses, every gradient, and the losses after the step.

Source: tests/parity/training/README.md.  Every sampler takes all that there is, so that nothing is random.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

import cascadezoo
from cascadezoo.converters import mmdet as mmdet_keys
from cascadezoo.converters.internimage import _BOX_CONVS
from cascadezoo.converters.keymap import KeyMap
from cascadezoo.detector import Detector
from cascadezoo.providers import SPECS

import procedural

HERE = Path(__file__).parent
ALL = 1_000_000
KEYS = KeyMap(
    rows=(*mmdet_keys._ROWS, *_BOX_CONVS),
    holes=mmdet_keys.HOLES,
    ignored=mmdet_keys.IGNORED,
    counters=mmdet_keys.COUNTERS,
)
pytestmark = [pytest.mark.parity, pytest.mark.timeout(900)]


class Case:
    def __init__(self, slug: str) -> None:
        self.folder = HERE / "training" / slug
        self.record = json.loads((self.folder / "case.json").read_text())
        self.expected = json.loads((self.folder / "expected.json").read_text())

    def images(self) -> list[torch.Tensor]:
        names = self.record["images"]
        pixels = [cv2.imread(str(HERE / "images" / name))[:, :, ::-1].copy() for name in names]
        return [torch.from_numpy(p).permute(2, 0, 1) for p in pixels]

    def targets(self) -> list[dict[str, torch.Tensor]]:
        return [
            {
                "boxes": torch.tensor(target["boxes"]),
                "labels": torch.tensor(target["labels"]),
                "masks": torch.from_numpy(np.stack([coco_mask.decode(rle) for rle in target["masks"]])),
            }
            for target in self.record["targets"]
        ]


def default_heads(case: Case, folder: Path) -> Detector:
    """From the publisher's file, with torchvision's names for the samplers."""
    record, path = procedural.load_case(case.folder), folder / "step.pth"
    procedural.write_checkpoint(path, "mmdet", procedural.make_tensors(record))
    return cascadezoo.load(
        record["entries"][0],
        weights=path,
        min_size=record["min_size"],
        max_size=record["max_size"],
        rpn_batch_size_per_image=ALL,
        rpn_positive_fraction=0.5,
        box_batch_size_per_image=ALL,
        box_positive_fraction=0.5,
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
    fitted = KEYS.fit(
        {k: tuple(v.shape) for k, v in tensors.items()}, {k: tuple(v.shape) for k, v in model.state_dict().items()}
    )
    assert fitted.problems == 0
    model.load_state_dict({name: KEYS.apply(name, tensors[KEYS.source_keys(name)[0]]) for name in model.state_dict()})
    return model


MODELS = {"cascade_mask_r50_fpn": default_heads, "cascade_mask_r50_fpn_giou_heads": giou_heads}


def as_ours(theirs: dict[str, float | list[float]]) -> dict[str, float]:
    """mmdetection's losses by our names; those of the RPN summed over levels."""
    ours = {"loss_objectness": sum(theirs["loss_rpn_cls"]), "loss_rpn_box_reg": sum(theirs["loss_rpn_bbox"])}
    for stage in range(3):
        for name, theirs_name in (("loss_classifier", "cls"), ("loss_box_reg", "bbox"), ("loss_mask", "mask")):
            ours[f"{name}_{stage + 1}"] = theirs[f"s{stage}.loss_{theirs_name}"]
    return ours


@pytest.mark.parametrize(
    "slug", ["cascade_mask_r50_fpn", pytest.param("cascade_mask_r50_fpn_giou_heads", marks=pytest.mark.slow)]
)
def test_one_step_is_the_publishers(slug: str, tmp_path: Path) -> None:
    case = Case(slug)
    model = MODELS[slug](case, tmp_path).train()
    images, targets = case.images(), case.targets()
    losses = model(images, targets)
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(
        as_ours(case.expected["losses"]), rel=2e-3, abs=1e-6
    )

    torch.stack(list(losses.values())).sum().backward()
    norms = case.expected["grad_norm"]
    largest = max(norms.values())
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    for key, norm in norms.items():
        name, _ = next(n for n in ((n, KEYS.source_keys(n)) for n in ours) if key in n[1])
        if norm > 1e-3 * largest:
            assert ours[name].norm().item() == pytest.approx(norm, rel=1e-2), name
    frozen = {name for name, grad in ours.items() if grad is None}
    assert {key for name in frozen for key in KEYS.source_keys(name)} == set(case.expected["no_grad"])

    step = case.expected["after_one_sgd_step"]
    learning = [p for p in model.parameters() if p.requires_grad]
    torch.optim.SGD(learning, lr=step["lr"], momentum=step["momentum"], weight_decay=step["weight_decay"]).step()
    with torch.no_grad():
        after = model(images, targets)
    assert {k: v.item() for k, v in after.items()} == pytest.approx(as_ours(step["losses"]), rel=1e-2, abs=1e-5)
