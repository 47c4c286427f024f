"""The optimizer of a recipe: parameters in groups of equal learning rate and decay.

Formulas ported from (licences in NOTICE):

- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/modeling/optimizer.py``, ``detectron/modeling/model_builder.py``
- OpenGVLab/InternImage 31c962d, Copyright (c) 2022 OpenGVLab, MIT:
  ``detection/mmcv_custom/custom_layer_decay_optimizer_constructor.py``
- facebookresearch/detectron2 02b5c4e, Copyright (c) Facebook, Inc. and its affiliates, Apache-2.0:
  ``detectron2/solver/build.py`` (``get_default_optimizer_params``)
- PaddlePaddle/PaddleDetection 2.6.0 (93e2d433), Copyright (c) PaddlePaddle Authors, Apache-2.0:
  ``ppdet/modeling/backbones/resnet.py`` (``lr_mult_list``)
"""

import re

import torch
from torch import nn
from torch.optim import Optimizer

from cascadezoo.errors import UsageError
from cascadezoo.modeling.network import Network
from cascadezoo.spec.recipe import Exempt, Method, Solver


def parameter_groups(model: Network, solver: Solver) -> list[dict[str, object]]:
    """The trainable parameters in groups: ``params``, ``names``, ``weight_decay`` and ``scale``, the group's factor of
    the learning rate.  Groups and names come in the model's own order.

    Raises UsageError for a decay by layer of a backbone that counts none.
    """
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
    is_bias, is_norm = name.endswith(".bias"), bool(re.search(r"norm\d?\.(weight|bias)$", name))
    is_position = name.endswith((".pos_embed", ".relative_position_bias_table"))
    return {
        Exempt.NOTHING: False,
        Exempt.BIASES: is_bias,
        Exempt.NORMS: is_norm,
        Exempt.BACKBONE_NORMS: name.startswith("backbone.") and (is_norm or is_position),
        Exempt.VECTORS: is_bias or parameter.ndim == 1,
    }[exempt]


def _scale(name: str, model: Network, solver: Solver) -> float:
    scale = solver.bias_lr if name.endswith(".bias") else 1.0
    if solver.stage_lr and (stage := re.match(r"backbone\.layer(\d)\.", name)):
        scale *= solver.stage_lr[int(stage[1]) - 1]
    if solver.layer_decay < 1 and name.startswith("backbone."):
        layers = model.spec.backbone.layers_to_neck(name.removeprefix("backbone."))
        if layers is None:
            raise UsageError(f"layer_decay: no layers are counted in a backbone of kind {model.spec.backbone.kind}")
        scale *= solver.layer_decay**layers
    return scale
