"""What detectron2's source says of proposals, heads and suppression, where its recorded cases would pass otherwise too.

Source: facebookresearch/detectron2 02b5c4e, ``modeling/box_regression.py``, ``modeling/poolers.py``, ``layers/nms.py``,
``modeling/proposal_generator/proposal_utils.py``.
"""

import pytest
import torch

from cascadezoo.ops.boxes import decode
from cascadezoo.providers import SPECS
from cascadezoo.spec.model import ModelSpec

ALL = SPECS["detectron2"]
every = pytest.mark.parametrize("spec", ALL.values(), ids=ALL)


def test_the_networks_that_there_are() -> None:
    names = ("r50_fpn", "vitdet_b", "vitdet_l", "vitdet_h", "swin_b", "swin_l")
    assert list(ALL) == [f"cascade_mask_{name}" for name in names]


@every
def test_sides_are_limited_from_above_alone(spec: ModelSpec) -> None:
    """exp(-20) of 1000 pixels is 2e-6; a limit below, at 16 / 1000, would leave 16.  Above, 1000 / 16 times 16."""
    for coder in (spec.conventions.proposals.coder, *spec.stages):
        deltas = torch.tensor([[0, 0, -20 / coder.stds[2], 20 / coder.stds[3]]])
        x1, y1, x2, y2 = decode(deltas, torch.tensor([[0.0, 0, 1000, 16]]), coder)[0].tolist()
        assert x2 - x1 < 1e-3
        assert y2 - y1 == pytest.approx(1000)


@every
def test_rules(spec: ModelSpec) -> None:
    rules = spec.conventions
    assert (rules.levels.size, rules.levels.level, rules.levels.epsilon) == (224, 2, 1e-8)
    assert rules.roi_align.skip_empty is False  # the rows of all stages belong together
    for nms, iou in ((rules.proposals.nms, 0.7), (rules.selection.nms, 0.5)):
        assert (nms.iou, nms.inclusive, nms.extent) == (iou, False, 0)  # IoU > threshold, no pixel added
    assert (rules.proposals.pre_nms_top_n, rules.proposals.post_nms_top_n) == (1000, 1000)
    assert 0 < rules.proposals.min_size < 1e-37  # any side above zero
    assert (rules.selection.score_thresh, rules.selection.detections_per_img) == (0.05, 100)
    assert [coder.stds for coder in spec.stages] == [
        (1 / 10, 1 / 10, 1 / 5, 1 / 5),
        (1 / 20, 1 / 20, 1 / 10, 1 / 10),
        (1 / 30, 1 / 30, 1 / 15, 1 / 15),
    ]


def test_boxes_are_shifted_by_class_as_torchvision_did_in_their_day() -> None:
    """Of the R50 before torchvision#3426; of ViTDet between #4990 and #8925, up to 20 000 numbers."""
    limits = {name: spec.conventions.selection.nms.shift_limit for name, spec in ALL.items()}
    assert limits == dict.fromkeys(ALL, 5000) | {"cascade_mask_r50_fpn": None}
    for spec in ALL.values():
        proposals, selection = spec.conventions.proposals.nms, spec.conventions.selection.nms
        assert proposals == selection.model_copy(update={"iou": 0.7})
        assert selection.rounded_shift
