"""Networks small enough to run in milliseconds, made of the same parts as the published ones."""

import torch

from cascadezoo.loading import build
from cascadezoo.providers import SPECS
from cascadezoo.spec.model import ModelSpec

_NARROW: dict[str, dict[str, object]] = {
    "resnet": {"width_per_group": 4},
    "internimage": {"width": 8, "groups": [1, 2, 4, 8]},
    "convnext": {"width": 8},
    "swin": {"width": 8, "blocks": [2, 1, 1, 1], "heads": [1, 2, 4, 8]},
    "vit": {"width": 8, "blocks": [2], "heads": 2, "global_blocks": [1], "window": 4},
}


def tiny(architecture: str = "cascade_mask_r50_fpn", publisher: str = "mmdet", **changes: object) -> ModelSpec:
    """The published architecture with few blocks and narrow layers."""
    record = SPECS[publisher][architecture].model_dump()
    record["backbone"]["blocks"] = [1] * len(record["backbone"]["blocks"])
    record["backbone"].update(_NARROW[record["backbone"]["kind"]])
    if record["neck"]:
        record["neck"].update(channels=16)
    if record["box_head"]["fcs"]:
        record["box_head"].update(fcs=(32,), convs=[16] * min(1, len(record["box_head"]["convs"])))
    if record["mask"]:
        record["mask"].update(convs=[16] * min(1, len(record["mask"]["convs"])), deconv=16)
    record["preprocess"].update(min_size=64, max_size=96)
    record["conventions"]["proposals"].update(pre_nms_top_n=60, post_nms_top_n=40)
    record["num_classes"] = 5
    return ModelSpec.model_validate({**record, **changes})


def lively(spec: ModelSpec):
    """The network of ``spec`` with random weights strong enough that it detects something."""
    torch.manual_seed(0)
    model = build(spec)
    for head in model.box_heads:
        torch.nn.init.normal_(head.cls_score.weight, std=0.1)
        torch.nn.init.constant_(head.cls_score.bias[-1:], -1e4)  # background never wins
        torch.nn.init.normal_(head.bbox_pred.weight, std=0.1)
    return model
