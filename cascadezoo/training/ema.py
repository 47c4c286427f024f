"""An exponential moving average of a model's weights, batch norms' statistics included.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmdetection 2.28.1, Copyright (c) OpenMMLab, Apache-2.0: ``mmdet/core/hook/ema.py``
  (``ExpMomentumEMAHook``), as InternImage uses it

Not torch's ``AveragedModel``: its first update copies the weights where this one averages them with those before
training, and it keeps a second module instead of tensors.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cascadezoo.spec.recipe import EmaRule


class Ema:
    """``average`` becomes (1 - m) ``average`` + m weights after every step; m falls from almost 1 to
    the rule's momentum.

    Attributes:
        average: name -> tensor, as the model's state dict; on the model's device.
    """

    def __init__(self, model: nn.Module, rule: EmaRule) -> None:
        self.rule = rule
        self.average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def momentum(self, step: int) -> float:
        """m at ``step``, 0 the first."""
        floor = self.rule.momentum
        return (1 - floor) * math.exp(-(1 + step) / self.rule.warmup) + floor

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Average in the weights after ``step``; whole numbers, such as counters, are copied."""
        momentum = self.momentum(step)
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, momentum)
            else:
                self.average[name].copy_(tensor)

    def load(self, average: Mapping[str, Tensor]) -> None:
        """Continue from an average saved before."""
        for name, tensor in self.average.items():
            tensor.copy_(average[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model with the average for its weights, within the block."""
        own = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self.average)
        try:
            yield
        finally:
            model.load_state_dict(own)
