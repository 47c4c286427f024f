"""How often an image comes in an epoch: images of rare classes more than once.

N images; C classes.  Source: Gupta, Dollár, Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation",
CVPR 2019 (repeat factor sampling); the fraction of a factor is drawn anew each epoch, as detectron2 has it.
"""

import math

import numpy as np
import numpy.typing as npt

_WORD = 2**64
_OWN = 1  # beside seed and epoch: other random numbers than those that order an epoch

Factors = npt.NDArray[np.float64]


def repeat_factors(held: npt.NDArray[np.int64], images: int, threshold: float) -> Factors:
    """How often each image is to come in an epoch on average, (N,), 1 or more.

    With f(c) the part of the images that hold class c, r(c) = max(1, sqrt(threshold / f(c))), and an image comes as
    often as the largest r(c) of its classes says.

    Args:
        held: (P, 2) image 0..N-1 and class 0..C-1, once for each class that an image holds.
        images: N.
        threshold: the part of the images from which on a class is common enough, above 0 to 1.
    """
    factors = np.ones(images)
    if len(held):
        of_class = np.sqrt(threshold * images / np.maximum(np.bincount(held[:, 1]), 1))
        np.maximum.at(factors, held[:, 0], of_class[held[:, 1]])
    return factors


def length_of(factors: Factors) -> int:
    """Images in an epoch, the same for every epoch."""
    return math.ceil(round(math.fsum(factors), 6))  # what sums of roots may miss a whole number by


def turns(factors: Factors, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The images of an epoch, each as often as it comes in it, in the order of the images: ``image + turn * N``.

    The whole part of a factor always comes, and its fraction by chance.
    """
    rng = np.random.default_rng([number % _WORD for number in (seed, epoch, _OWN)])
    whole = np.floor(factors)
    counts = (whole + (rng.random(len(factors)) < factors - whole)).astype(np.int64)
    images = np.repeat(np.arange(len(factors)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    return images + (np.arange(len(images)) - first) * len(factors)
