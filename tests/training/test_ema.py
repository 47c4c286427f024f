"""The average of weights, against numbers worked by hand."""

import math

import pytest
import torch
from torch import nn

from cascadezoo.spec.recipe import EmaRule
from cascadezoo.training.ema import Ema


class One(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(value))
        self.register_buffer("running_mean", torch.tensor(value))
        self.register_buffer("count", torch.tensor(0))


def test_momentum_falls_from_almost_one():
    ema = Ema(One(0.0), EmaRule(momentum=1e-4, warmup=2000))
    # (1 - 1e-4) * exp(-1 / 2000) + 1e-4 = 0.9999 * 0.99950012... + 0.0001
    assert ema.momentum(0) == pytest.approx(0.99950017, abs=1e-7)
    assert ema.momentum(1999) == pytest.approx(0.9999 / math.e + 1e-4)
    assert ema.momentum(10**6) == pytest.approx(1e-4)


def test_average_of_two_steps_with_buffers():
    # warm-up of 1e-9 steps: momentum is 0.25 from the first step on
    model = One(4.0)
    ema = Ema(model, EmaRule(momentum=0.25, warmup=1e-9))
    with torch.no_grad():
        model.weight.fill_(8.0)
        model.running_mean.fill_(0.0)
        model.count.fill_(3)
    ema.update(model, 0)  # 4 * 0.75 + 8 * 0.25 = 5; 4 * 0.75 = 3
    assert (ema.average["weight"].item(), ema.average["running_mean"].item()) == (5.0, 3.0)
    assert ema.average["count"].item() == 3  # whole numbers are taken as they are
    ema.update(model, 1)  # 5 * 0.75 + 8 * 0.25 = 5.75
    assert ema.average["weight"].item() == 5.75


def test_applied_for_a_while_only():
    model = One(1.0)
    ema = Ema(model, EmaRule(momentum=0.5, warmup=1e-9))
    with torch.no_grad():
        model.weight.fill_(3.0)
    ema.update(model, 0)
    with ema.applied(model):
        assert model.weight.item() == 2.0
    assert model.weight.item() == 3.0
    with pytest.raises(RuntimeError, match="evaluation broke"), ema.applied(model):
        raise RuntimeError("evaluation broke")
    assert model.weight.item() == 3.0


def test_goes_on_from_a_saved_average():
    first, second = Ema(One(1.0), EmaRule()), Ema(One(9.0), EmaRule())
    second.load(first.average)
    assert second.average["weight"].item() == 1.0
    assert second.average["weight"] is not first.average["weight"]
