"""How a network is trained, as data: solver, schedule, augmentation.  Publishers' values: ``providers/recipes.py``.

A learning rate belongs to a batch of images; another batch scales it in proportion (the linear rule, Goyal et al.
2017).  Epochs may be fractions, where a publisher counts steps.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from cascadezoo.spec.record import Pixels, Record


class Method(StrEnum):
    """The kind of optimizer."""

    SGD = "sgd"  # with momentum
    ADAMW = "adamw"


class Exempt(StrEnum):
    """Tensors without weight decay."""

    NOTHING = "nothing"
    BIASES = "biases"
    NORMS = "norms"  # their scales and biases
    BACKBONE_NORMS = "backbone-norms"  # those of the backbone alone, its absolute positions, and biases by table
    VECTORS = "vectors"  # biases, norms and other tensors of one dimension


class Solver(Record):
    """The optimizer, and which tensors have a learning rate of their own; such factors multiply each other."""

    method: Method = Field(default=Method.SGD, description="How gradients move weights.")
    lr: float = Field(gt=0, le=1000, description="The learning rate for steps of ``batch`` images.")
    batch: int = Field(gt=0, le=1_000_000, description="Images per step that ``lr`` is meant for.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum, of SGD.")
    weight_decay: float = Field(ge=0, le=1000, description="Weight decay, of tensors that are not exempt.")
    exempt: Exempt = Field(default=Exempt.NOTHING, description="Tensors without weight decay.")
    bias_lr: float = Field(default=1.0, gt=0, le=1000, description="Factor of the learning rate of biases.")
    stage_lr: tuple[Annotated[float, Field(ge=0, le=1000)], ...] = Field(
        default=(),
        max_length=16,
        description="Factors for the stages of a ResNet; its stem has 1.  Without any, all have 1.",
    )
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Factor per layer between a tensor of the backbone and the neck, as a backbone of its kind counts "
        "them (``BackboneSpec.layers_to_neck``).",
    )


class Curve(StrEnum):
    """How the learning rate falls after the warm-up."""

    STEPS = "steps"  # times ``gamma`` at each milestone
    COSINE = "cosine"  # half a cosine from 1 to ``gamma``


class Schedule(Record):
    """The factor of the learning rate over a run: that of the warm-up times that of the curve."""

    epochs: float = Field(gt=0, le=1_000_000, description="Length of the run.")
    curve: Curve = Field(default=Curve.STEPS, description="How the factor falls after the warm-up.")
    milestones: tuple[float, ...] = Field(
        default=(), max_length=1000, description="Epochs at which it is multiplied by ``gamma``."
    )
    gamma: float = Field(default=0.1, ge=0, le=1, description="Factor at a milestone, or at the end of a cosine.")
    warmup_steps: int = Field(
        default=500, ge=0, le=10**9, description="Steps in which the factor rises to 1 in a straight line."
    )
    warmup_factor: float = Field(default=0.001, ge=0, le=1, description="The factor at the first step.")

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

    CHOICE = "choice"  # one of the sizes given
    RANGE = "range"  # any whole number from the smallest given to the largest


class Crop(Record):
    """The image is scaled, and a random part of it is cut out, before it is scaled to its final size."""

    min_sizes: tuple[Pixels, ...] = Field(
        min_length=1, max_length=1000, description="Shorter sides to choose from, before the cut."
    )
    max_size: Pixels = Field(description="The longer side is at most this, before the cut.")
    smallest: Pixels = Field(description="Height and width of the part are at least this, or the whole side.")
    largest: Pixels = Field(description="Height and width of the part are at most this.")
    probability: float = Field(default=0.5, ge=0, le=1, description="How often an image is cropped.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.largest < self.smallest:
            raise ValueError(f"the largest crop, {self.largest}, is smaller than the smallest, {self.smallest}")
        return self


class ScaleJitter(Record):
    """Large-scale jittering (Ghiasi et al. 2021): the image's longer side becomes ``size`` times a random factor, and
    what then passes ``size`` is cut off at a random place, the same part of what is too much at both sides."""

    size: Pixels = Field(description="Height and width are at most this.")
    smallest: float = Field(default=0.1, gt=0, le=100, description="The factor is at least this.")
    largest: float = Field(default=2.0, gt=0, le=100, description="The factor is at most this.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.largest < self.smallest:
            raise ValueError(f"the largest factor, {self.largest:g}, is smaller than the smallest, {self.smallest:g}")
        return self


class Augmentation(Record):
    """Random changes of an image, in this order: mirrored, cropped, scaled; or mirrored, and jittered."""

    flip: float = Field(default=0.5, ge=0, le=1, description="How often an image is mirrored.")
    min_sizes: tuple[Pixels, ...] = Field(
        default=(),
        max_length=1000,
        description="Shorter sides that the image is scaled to; without any, the network's test scale.",
    )
    max_size: Pixels | None = Field(default=None, description="The longer side is at most this.")
    scales: Scales = Field(default=Scales.CHOICE, description="Which of the shorter sides come up.")
    crop: Crop | None = Field(default=None, description="Whether and how images are cropped.")
    jitter: ScaleJitter | None = Field(
        default=None, description="Whether and how images are scaled and cut at once, instead of all these sizes."
    )

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if bool(self.min_sizes) != (self.max_size is not None):
            raise ValueError("give min_sizes and max_size together, or neither for the network's test scale")
        if self.max_size is not None and not 0 < min(self.min_sizes) <= max(self.min_sizes) <= self.max_size:
            raise ValueError(f"min_sizes {self.min_sizes}: give sizes of 1 to max_size {self.max_size}")
        if self.jitter is not None and (self.min_sizes or self.crop is not None):
            raise ValueError("jitter beside min_sizes or a crop: it has a size and a cut of its own, so leave them out")
        return self


class EmaRule(Record):
    """An exponential moving average of the weights: at step i, 0 the first, those of the step enter with the share
    (1 - ``momentum``) exp(-(1 + i) / ``warmup``) + ``momentum``."""

    momentum: float = Field(default=1e-4, gt=0, le=1, description="The share that the step's weights have in the end.")
    warmup: float = Field(default=2000, gt=0, le=1e9, description="Steps over which the share falls to it.")


class Recipe(Record):
    """All of a training except network, objective and data."""

    solver: Solver = Field(description="The optimizer.")
    schedule: Schedule = Field(description="Length of the run, and the learning rate over it.")
    augmentation: Augmentation = Field(description="Random changes of the images.")
    clip: float | None = Field(
        default=None, gt=0, le=1e9, description="Largest norm of all gradients together; None leaves them as they are."
    )
    ema: EmaRule | None = Field(default=None, description="Whether and how the weights are averaged.")
    drop_path: float | None = Field(
        default=None, ge=0, lt=1, description="Rate of dropped paths; None keeps the network's own."
    )
