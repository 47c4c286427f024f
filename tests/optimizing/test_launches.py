"""From the uploaded batch to the packed detections nothing waits for the device, and little is asked of it.

It is seen on tensors without memory that say they are on a GPU: where a value of theirs is asked for, or a shape that
depends on values, there is none, and that is an error (``cascadezoo.benchmarks.measure.launches``).
"""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from cascadezoo.benchmarks.measure.launches import Launches, batch_there, network_there, pretended_gpu, stages_of
from cascadezoo.modeling.transfer import packed
from cascadezoo.optimizing.lean import lean
from cascadezoo.providers import SPECS

# the most launching operators of the lean form.  53 convolutions, each with an activation or an addition after it, are
# a third of the first four; InternImage-L has 37 blocks of 16 operators, beside the same heads; ConvNeXt-T has 18 of 6,
# and convolutions in its box heads; C4 has one level
MOST = {
    ("mmdet", "cascade_mask_r50_fpn"): 342,
    ("detectron", "cascade_mask_r50_fpn"): 339,
    ("paddle", "cascade_mask_r50_vd_fpn"): 346,
    ("cascadezoo", "cascade_mask_r18_fpn"): 241,
    ("paddle", "mask_r50_c4"): 240,
    ("internimage", "cascade_mask_internimage_l_fpn"): 774,
    ("convnext", "cascade_mask_convnext_t_fpn"): 365,
}


@pytest.mark.parametrize("form", ["plain", "lean"])
@pytest.mark.parametrize(("publisher", "architecture"), MOST)
def test_the_network_never_waits_for_the_device(publisher: str, architecture: str, form: str) -> None:
    spec = SPECS[publisher][architecture]
    rows = spec.conventions.selection.detections_per_img
    with pretended_gpu():
        network = network_there(spec)
        network = lean(network) if form == "lean" else network
        batch = batch_there(2, (320, 448))
        with Launches() as launches:
            found = network.infer(batch)
            packed(found.rows)
    assert launches.copies == []
    assert {x.device.type for x in found} == {"cuda"}
    assert found.boxes.shape == (2, rows, 4)
    assert found.masks.shape[:2] == (2, rows)
    if form == "lean":
        assert launches.names.total() <= MOST[publisher, architecture]
    assert launches.names["cascadezoo.pyramid_roi_align.default"] == len(spec.stages) + 1


def test_the_goal_is_kept() -> None:
    assert MOST["mmdet", "cascade_mask_r50_fpn"] <= 400


@pytest.mark.parametrize(
    ("publisher", "architecture"), [("mmdet", "cascade_mask_r50_fpn"), ("convnext", "cascade_mask_convnext_t_fpn")]
)
def test_a_lean_network_transposes_nothing(publisher: str, architecture: str) -> None:
    """All maps lie channels last: what would lay one out anew would be seen as a clone."""
    with pretended_gpu():
        network = lean(network_there(SPECS[publisher][architecture]))
        stages, _ = stages_of(network, batch_there(2, (320, 448)))
    clones = {name: stage.launches["aten.clone.default"] for name, stage in stages.items()}
    # the scores without background's
    assert {name: count for name, count in clones.items() if count} == {"selection": 1}


def test_the_stages_are_all_of_it() -> None:
    with pretended_gpu():
        network = lean(network_there(SPECS["mmdet"]["cascade_mask_r50_fpn"]))
        batch = batch_there(1, (320, 448))
        stages, _ = stages_of(network, batch)
        with Launches() as launches:
            packed(network.infer(batch).rows)
    assert sum((stage.launches for stage in stages.values()), launches.names - launches.names) == launches.names


def test_what_waits_is_seen() -> None:
    with pretended_gpu(), Launches() as launches:
        boxes = torch.empty(3, 4, device="cuda")
        boxes.to("cpu")
        with pytest.raises(DynamicOutputShapeException):
            (boxes > 0).any(1).nonzero()
        with pytest.raises(DataDependentOutputException):
            boxes.max().item()
    assert launches.copies == ["aten._to_copy.default"]


def test_what_launches_is_counted() -> None:
    """Neither views nor memory: of these five lines only the sum and the copy are work for the device."""
    with pretended_gpu(), Launches() as launches:
        x = torch.empty(2, 3, device="cuda")
        turned = x.T
        flat = turned.reshape(6)
        torch.empty_like(flat)
        flat.sum()
    assert launches.names == {"aten.clone.default": 1, "aten.sum.default": 1}
