"""The largest batch that a device has memory for, found by real training steps on the largest images of the data."""

import copy
import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from cascadezoo.detecting import is_out_of_memory
from cascadezoo.detector import Detector
from cascadezoo.distributed import World
from cascadezoo.errors import OutOfMemory, UsageError
from cascadezoo.modeling.preprocess import image_scale, padded_size
from cascadezoo.spec.recipe import Recipe
from cascadezoo.training.config import AUTO, TrainingConfig
from cascadezoo.training.loader import Sample, TrainingSet
from cascadezoo.training.memory import forget_peak, free_memory, held_memory, peak_memory
from cascadezoo.training.step import Stepper

_SPARE = 0.1  # of the memory that is free, for what varies: objects of an image, fragments, evaluation
_STEPS = 2  # the optimizer takes its own memory in the first
_GIB = 2**30


class Fit(NamedTuple):
    """The images of a pass, and why so many."""

    images: int
    words: str


class Trial:
    """Training steps that leave the network as it is.

    Images alternate between the one that is highest and the one that is widest at the recipe's largest scale, so that
    they are padded to as much as any batch of the data can be.
    """

    def __init__(
        self, model: Detector, recipe: Recipe, samples: TrainingSet, config: TrainingConfig, world: World
    ) -> None:
        self._model, self._recipe, self._config, self._world = model, recipe, config, world
        self._samples = _largest(samples)
        self._average = sum(tensor.numel() for tensor in model.state_dict().values()) if recipe.ema else 0

    def __call__(self, images: int) -> None:
        """Steps of so many images.  Raises RuntimeError where memory runs out."""
        device = self._world.device
        state = {name: tensor.detach().cpu().clone() for name, tensor in self._model.state_dict().items()}
        batch = (self._samples * images)[:images]
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            try:
                average = torch.zeros(self._average, device=device)  # of the weights, which a run has beside these
                stepper = Stepper(
                    self._model, self._recipe, 0.0, self._config.precision, self._config.seed, self._world
                )
                for step in range(_STEPS):
                    stepper(step, 0, 0.0, [batch])
                del average, stepper
            finally:
                self._model.zero_grad(set_to_none=True)
                self._model.load_state_dict(state)

    def size(self, images: int) -> tuple[int, int]:
        """Height and width of such a batch, padded."""
        sizes = [sample.image.size for sample in self._samples[:images]]
        largest_size = max(height for height, _ in sizes), max(width for _, width in sizes)
        return padded_size(largest_size, self._model.spec.preprocess)


def with_fitting(
    config: TrainingConfig, model: Detector, recipe: Recipe, samples: TrainingSet, world: World
) -> tuple[TrainingConfig, list[str]]:
    """The options with a number for a batch size that was left to be found, and the sentence that says why.

    It is as many images as a pass of training has memory for on the world's device, at most all that there are.  A GPU
    is tried; of the CPU's memory, what steps of one image and of two take is measured.

    Raises UsageError with more processes than one, and OutOfMemory where there is no room for one image.
    """
    if config.batch_size != AUTO:
        return config, []
    if world.size > 1:
        raise UsageError(
            "--batch-size auto is for one process: find the number with one of them alone, and give it to all"
        )
    trial = Trial(model, recipe, samples, config, world)
    most = max(1, len(samples) // config.accumulate)
    fit = _BY.get(world.device.type, by_trying)(trial, most, world.device)
    return config.model_copy(update={"batch_size": fit.images}), [fit.words]


def by_trying(trial: Trial, most: int, device: torch.device) -> Fit:
    """Doubled until memory runs out or ``most`` is passed, then halved in between."""

    def fits(images: int) -> bool:
        try:
            trial(images)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold the tensors of the attempt
        else:
            return True
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        return False

    with _all_but_spare(device):
        images = largest(fits, most)
    if images == 0:
        raise _no_room(trial, device)
    height, width = trial.size(images)
    why = "all images of the data"
    if images < most:
        why = f"the most that {device} has memory for with a tenth to spare"
    return Fit(images, f"batch size {images}: {why}, tried with steps of {height} x {width} pixels (height x width)")


def by_memory(trial: Trial, most: int, device: torch.device) -> Fit:
    """From what steps of one image and of two take at their peak: in proportion to their pixels."""
    pixels, peaks = [], []
    for images in (1, 2):
        forget_peak()
        before = held_memory()
        trial(images)
        height, width = trial.size(images)
        pixels.append(images * height * width)
        peaks.append(max(peak_memory(), before))
    free = int((1 - _SPARE) * (free_memory() + held_memory()))
    each = max((peaks[1] - peaks[0]) / (pixels[1] - pixels[0]), 1e-3) * pixels[1] / 2  # an image of the larger padding
    images = min(most, int((free - peaks[1]) // each) + 2)
    if images < 1:
        raise _no_room(trial, device)
    return Fit(
        images,
        f"batch size {images}: a step takes {peaks[0] / _GIB:.2f} GiB with one image and {peaks[1] / _GIB:.2f} GiB "
        f"with two, of {height} x {width} pixels (height x width), and there are {free / _GIB:.2f} GiB"
        + (" beside a tenth to spare" if images < most else " for all images of the data"),
    )


_BY: dict[str, Callable[[Trial, int, torch.device], Fit]] = {"cpu": by_memory}


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number up to ``most`` that fits, where all below it do; 0 where none does."""
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _largest(samples: TrainingSet) -> list[Sample]:
    """The samples that are highest and widest; the larger one first."""
    augmentation = samples.augmentation
    jitter, limit = augmentation.jitter, np.inf
    changes = {"flip": 0.0, "crop": None, "min_sizes": augmentation.min_sizes and (max(augmentation.min_sizes),)}
    whole = copy.copy(samples)
    whole.augmentation = augmentation.model_copy(update=changes)
    preprocess = samples.spec.preprocess
    if augmentation.min_sizes and augmentation.max_size:
        scale = {"min_size": max(augmentation.min_sizes), "max_size": augmentation.max_size}
        preprocess = preprocess.model_copy(update=scale)
    if jitter:
        whole.augmentation = augmentation.model_copy(
            update={"flip": 0.0, "jitter": jitter.model_copy(update={"smallest": jitter.largest})}
        )
        longest, limit = round(jitter.size * jitter.largest), jitter.size
        preprocess = preprocess.model_copy(update={"min_size": longest, "max_size": longest})
    rule = samples.spec.conventions.resize
    scales = np.array([image_scale(int(h), int(w), preprocess, rule) for h, w in samples.sizes])
    sides = np.minimum(np.round(samples.sizes * scales[:, None]), limit)
    found = {int(np.lexsort((samples.objects, sides[:, side]))[-1]) for side in (0, 1)}  # of equals, the most objects
    chosen = [whole.sample(0, index) for index in sorted(found)]
    return sorted(chosen, key=lambda sample: sample.image.size[0] * sample.image.size[1], reverse=True)


@contextmanager
def _all_but_spare(device: torch.device) -> Iterator[None]:
    """The process may take what is free of a GPU's memory now, except for a part to spare."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    own = torch.cuda.memory_reserved(device)
    torch.cuda.set_per_process_memory_fraction((1 - _SPARE) * (free + own) / total, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def _no_room(trial: Trial, device: torch.device) -> OutOfMemory:
    height, width = trial.size(1)
    return OutOfMemory(
        f"{device} has too little memory to train on one image of {height} x {width} pixels (height x width): take "
        "smaller images (--min-size, --max-size), --precision bf16, or another device"
    )
