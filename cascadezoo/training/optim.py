"""The optimizer of a recipe: parameters in groups of equal learning rate and decay.

Formulas ported from (licences in NOTICE):

- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/modeling/optimizer.py``, ``detectron/modeling/model_builder.py``
- OpenGVLab/InternImage 31c962d, Copyright (c) 2022 OpenGVLab, MIT:
  ``detection/mmcv_custom/custom_layer_decay_optimizer_constructor.py``
- PaddlePaddle/PaddleDetection 2.6.0 (93e2d433), Copyright (c) PaddlePaddle Authors, Apache-2.0:
  ``ppdet/modeling/backbones/resnet.py`` (``lr_mult_list``)
"""

import re

import torch
from torch import nn
from torch.optim import Optimizer

from cascadezoo.modeling.network import Network
from cascadezoo.spec.internimage import InternImageSpec
from cascadezoo.spec.recipe import Exempt, Method, Solver


def parameter_groups(model: Network, solver: Solver) -> list[dict[str, object]]:
    """The trainable parameters in groups: ``params``, ``names``, ``weight_decay`` and ``scale``, the group's factor of
    the learning rate.  Groups and names come in the model's own order."""
    groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = 0.0 if _is_exempt(name, parameter, solver.exempt) else solver.weight_decay
            groups.setdefault((_scale(name, model, solver), decay), []).append((name, parameter))
    return [
        {"params": [p for _, p in named], "names": [n for n, _ in named], "scale": scale, "weight_decay": decay}
        for (scale, decay), named in groups.items()
    ]


def build_optimizer(model: Network, solver: Solver, lr: float) -> Optimizer:
    """SGD or AdamW at ``lr`` times each group's own factor."""
    groups = [{**group, "lr": lr * float(str(group["scale"]))} for group in parameter_groups(model, solver)]
    if solver.method is Method.SGD:
        return torch.optim.SGD(groups, lr=lr, momentum=solver.momentum)
    return torch.optim.AdamW(groups, lr=lr)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Set every group's learning rate: ``lr`` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


def _is_exempt(name: str, parameter: nn.Parameter, exempt: Exempt) -> bool:
    is_bias = name.endswith(".bias")
    return {
        Exempt.NOTHING: False,
        Exempt.BIASES: is_bias,
        Exempt.NORMS: bool(re.search(r"norm\d?\.(weight|bias)$", name)),
        Exempt.VECTORS: is_bias or parameter.ndim == 1,
    }[exempt]


def _scale(name: str, model: Network, solver: Solver) -> float:
    scale = solver.bias_lr if name.endswith(".bias") else 1.0
    if solver.stage_lr and (stage := re.match(r"backbone\.layer(\d)\.", name)):
        scale *= solver.stage_lr[int(stage[1]) - 1]
    backbone = model.spec.backbone
    if isinstance(backbone, InternImageSpec) and (layer := _layer(name, backbone.blocks)) is not None:
        scale *= solver.layer_decay ** (sum(backbone.blocks) + 1 - layer)
    return scale


def _layer(name: str, blocks: tuple[int, ...]) -> int | None:
    """The layer of a backbone's tensor: the stem 0, the blocks of all stages from 1 on; None outside the backbone."""
    if name.startswith("backbone.stem."):
        return 0
    if block := re.match(r"backbone\.stages\.(\d)\.blocks\.(\d+)\.", name):
        return 1 + sum(blocks[: int(block[1])]) + int(block[2])
    if after := re.match(r"backbone\.stages\.(\d)\.(?:downsample|norm)\.", name):
        return 1 + sum(blocks[: int(after[1]) + 1])
    return None
