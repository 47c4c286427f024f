"""The learning rate, step by step, against numbers worked by hand."""

import pytest

from cascadezoo.spec.recipe import Curve, Schedule
from cascadezoo.training.schedule import Plan


def test_warm_up_then_two_drops():
    # 12 epochs of 10 steps; 0.001 + 0.999 * t / 20 for 20 steps; a tenth from step 80, a hundredth from step 110
    plan = Plan(Schedule(epochs=12, milestones=(8, 11), warmup_steps=20, warmup_factor=0.001), steps_per_epoch=10)
    assert (plan.total, plan.warmup, plan.milestones) == (120, 20, (80, 110))
    expected = {0: 0.001, 10: 0.5005, 19: 0.95005, 20: 1, 79: 1, 80: 0.1, 109: 0.1, 110: 0.01, 119: 0.01}
    assert {step: plan.factor(step) for step in expected} == pytest.approx(expected)


def test_cosine():
    # 100 steps, 20 of warm-up: half-way through the other 80, cos is 0 and the factor (1 + gamma) / 2
    schedule = Schedule(epochs=1, curve=Curve.COSINE, gamma=0.02, warmup_steps=20, warmup_factor=0.5)
    plan = Plan(schedule, steps_per_epoch=100)
    expected = {0: 0.5, 10: 0.75, 20: 1.0, 60: 0.51, 40: 0.02 + 0.98 * (1 + 2**-0.5) / 2, 100: 0.02}
    assert {step: plan.factor(step) for step in expected} == pytest.approx(expected)


def test_warm_up_takes_a_third_of_a_short_run_at_most():
    plan = Plan(Schedule(epochs=3, warmup_steps=500), steps_per_epoch=10)
    assert (plan.total, plan.warmup) == (30, 10)
    assert plan.factor(10) == 1


def test_epochs_may_be_fractions():
    # 2.5 epochs of 7 steps are 17.5 steps; the drop after 1.5 epochs comes at 10.5: both rounded half to even
    plan = Plan(Schedule(epochs=2.5, milestones=(1.5,), warmup_steps=0), steps_per_epoch=7)
    assert (plan.total, plan.milestones) == (18, (10,))
    assert plan.factor(0) == 1


def test_a_run_has_at_least_one_step():
    assert Plan(Schedule(epochs=0.01), steps_per_epoch=3).total == 1
