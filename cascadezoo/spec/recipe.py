"""How a network is trained, as data: solver, schedule, augmentation.  Publishers' values: ``providers/recipes.py``.

A learning rate belongs to a batch of images; another batch scales it in proportion (the linear rule, Goyal et al.
2017).  Epochs may be fractions, where a publisher counts steps.
"""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from cascadezoo.spec.record import Record


class Method(StrEnum):
    """How gradients move weights."""

    SGD = "sgd"  # with momentum
    ADAMW = "adamw"


class Exempt(StrEnum):
    """What does not decay towards zero."""

    NOTHING = "nothing"
    BIASES = "biases"
    VECTORS = "vectors"  # biases, norms and other tensors of one dimension


class Solver(Record):
    """``lr`` for ``batch`` images a step, and what departs from it.

    ``bias_lr``: times ``lr``, for biases.  ``stage_lr``: times ``lr``, for each of a ResNet's stages (the stem: 1).
    ``layer_decay``: times ``lr`` once more for each layer of an InternImage that lies between a tensor and the neck;
    the stem is the first layer, then come the blocks, a downsampling belongs to the block after it.
    """

    method: Method = Method.SGD
    lr: float = Field(gt=0)
    batch: int = Field(gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    exempt: Exempt = Exempt.NOTHING
    bias_lr: float = Field(default=1.0, gt=0)
    stage_lr: tuple[float, ...] = ()
    layer_decay: float = Field(default=1.0, gt=0, le=1)


class Curve(StrEnum):
    """How the learning rate falls after the warm-up."""

    STEPS = "steps"  # times ``gamma`` at each milestone
    COSINE = "cosine"  # half a cosine from 1 to ``gamma``


class Schedule(Record):
    """The learning rate's factor over ``epochs``: a line from ``warmup_factor`` to 1 over ``warmup_steps``, times the
    curve's.  ``milestones`` in epochs."""

    epochs: float = Field(gt=0)
    curve: Curve = Curve.STEPS
    milestones: tuple[float, ...] = ()
    gamma: float = Field(default=0.1, ge=0, le=1)
    warmup_steps: int = Field(default=500, ge=0)
    warmup_factor: float = Field(default=0.001, ge=0, le=1)

    @model_validator(mode="after")
    def _milestones_in_order(self) -> Self:
        if list(self.milestones) != sorted(m for m in self.milestones if 0 < m < self.epochs):
            raise ValueError(f"milestones {self.milestones}: give them in order, within {self.epochs:g} epochs")
        return self

    def lasting(self, epochs: float) -> "Schedule":
        """The same schedule over ``epochs``, its milestones at the same fractions."""
        stretched = tuple(m * epochs / self.epochs for m in self.milestones)
        return self.model_copy(update={"epochs": epochs, "milestones": stretched})


class Scales(StrEnum):
    """Which sizes of the shorter side come up."""

    CHOICE = "choice"  # one of those given
    RANGE = "range"  # any whole number from the smallest given to the largest


class Crop(Record):
    """With ``probability``: the image at one of ``min_sizes`` (its longer side at most ``max_size``), then a random
    part of it, its height and its width each of ``smallest`` to ``largest`` pixels, or all there is where it is less.
    """

    min_sizes: tuple[int, ...] = Field(min_length=1)
    max_size: int = Field(gt=0)
    smallest: int = Field(gt=0)
    largest: int = Field(gt=0)
    probability: float = Field(default=0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.largest < self.smallest:
            raise ValueError(f"the largest crop, {self.largest}, is smaller than the smallest, {self.smallest}")
        return self


class Augmentation(Record):
    """Mirrored with probability ``flip``, perhaps cropped, then the shorter side scaled to one of ``min_sizes``, the
    longer to at most ``max_size``; without ``min_sizes``, both are those of the network's own test scale."""

    flip: float = Field(default=0.5, ge=0, le=1)
    min_sizes: tuple[int, ...] = ()
    max_size: int | None = Field(default=None, gt=0)
    scales: Scales = Scales.CHOICE
    crop: Crop | None = None

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if bool(self.min_sizes) != (self.max_size is not None):
            raise ValueError("give min_sizes and max_size together, or neither for the network's test scale")
        if self.max_size is not None and not 0 < min(self.min_sizes) <= max(self.min_sizes) <= self.max_size:
            raise ValueError(f"min_sizes {self.min_sizes}: give sizes of 1 to max_size {self.max_size}")
        return self


class EmaRule(Record):
    """An average of the weights: at step i the new ones enter by (1 - ``momentum``) exp(-(1 + i) / ``warmup``) +
    ``momentum``."""

    momentum: float = Field(default=1e-4, gt=0, le=1)
    warmup: float = Field(default=2000, gt=0)


class Recipe(Record):
    """Everything but the data: ``clip`` is the largest norm of all gradients together, None: they are left alone;
    ``drop_path``, where given, stands in for the network's own."""

    solver: Solver
    schedule: Schedule
    augmentation: Augmentation
    clip: float | None = Field(default=None, gt=0)
    ema: EmaRule | None = None
    drop_path: float | None = Field(default=None, ge=0, lt=1)
