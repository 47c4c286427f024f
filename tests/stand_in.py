"""Files of an entry as its publisher's runner saves them, with numbers of their own."""

from pathlib import Path

import torch
from torch import Tensor

from cascadezoo import registry
from cascadezoo.checkpoints.conversion import to_publisher
from cascadezoo.modeling.build import canonical_shapes


def stand_in(name: str) -> dict[str, Tensor]:
    """A state dict in the publisher's names and order, every tensor with numbers of its own but those that follow from
    others."""
    generator = torch.Generator().manual_seed(1)
    shapes = canonical_shapes(registry.spec_of(registry.info(name)))
    return to_publisher({key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}, name)


def save_with_apex(path: Path, state: dict[str, Tensor], **meta: object) -> Path:
    """As a runner of mmcv 1.x does that trains with apex: with the states of the optimizer and of apex."""
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-4}]}
    amp = {"loss_scaler0": {"loss_scale": 65536.0, "unskipped": 3}}
    meta = {"mmdet_version": "2.11.0", "mmcv_version": "1.3.0", **meta}
    torch.save({"meta": meta, "state_dict": state, "optimizer": optimizer, "amp": amp}, path)
    return path
