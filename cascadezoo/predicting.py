"""Images to results, in the order of the images: of a list in batches, of a stream as its images come.

What is computed is a callable; ``Detector.predict`` says which.
"""

import traceback
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from torch import Tensor

from cascadezoo.detecting import batched
from cascadezoo.errors import CascadezooError, FailedImages, OutOfMemory
from cascadezoo.modeling.compiling import around_compiled, uncompiled
from cascadezoo.threads import Share, in_order

T = TypeVar("T")
P = TypeVar("P")  # an image, prepared
R = TypeVar("R")  # its result


class Plan(NamedTuple, Generic[P, R]):
    """How images become results.

    Attributes:
        read: an image as it was given, prepared; raises what is wrong with it.
        detect: one result for each of some prepared images of equal key.
        key: images of equal key may share a batch.
        batch_size: images that go through the network together.
        share: how the cores are shared by images that are worked on at once, each alone; with batches, by one.
    """

    read: Callable[[Any], P]
    detect: Callable[[Sequence[P]], list[R]]
    key: Callable[[P], Hashable]
    batch_size: int
    share: Share


def several(images: object) -> list[Any] | Iterator[Any] | None:
    """The images of a list, a tuple, a 4-D tensor (N, 3, H, W) or array (N, H, W, 3), as a list; a generator or another
    iterator, as it is; None for one image."""
    if isinstance(images, list | tuple):
        return list(images)
    if isinstance(images, Tensor | np.ndarray) and images.ndim == 4:
        return list(images)
    is_file = hasattr(images, "read")  # an iterator over its lines
    return images if isinstance(images, Iterator) and not is_file else None


@around_compiled
def of_list(plan: Plan[P, R], images: Sequence[Any]) -> list[R | CascadezooError]:
    """The result of each image, or why it could not be read; batches go as they fill up, whatever the images' order."""
    if plan.share.at_once > 1:
        done = in_turn(plan, images)
        return list(done)
    results: dict[int, R | CascadezooError] = {}
    groups = _groups(plan, images, results)
    while group := _next(groups):
        numbers, prepared = zip(*group, strict=True)
        results.update(zip(numbers, plan.detect(prepared), strict=True))
    return list(map(results.__getitem__, range(len(images))))


def in_turn(plan: Plan[P, R], images: Iterable[Any]) -> Generator[R | CascadezooError, None, None]:
    """The same, in turn, for a stream without end: images are taken as they are worked on.

    A batch is made of the next ``batch_size`` images, as far as their keys are equal.
    """
    if plan.batch_size == 1:
        prepared = (_attempted(plan.read, image) for image in images)
        yield from in_order(lambda one: _unless_failed(one, plan.detect), prepared, plan.share)
        return
    for window in windows(images, plan.batch_size):
        yield from of_list(plan, window)


def raising(results: Generator[R | CascadezooError, None, None]) -> Generator[R, None, None]:
    """The results as far as the first error, which is raised."""
    with closing(results):
        for result in results:
            if isinstance(result, CascadezooError):
                raise result
            yield result


def all_or_raise(results: Sequence[R | CascadezooError], collected: bool) -> list[R]:
    """The results where none failed; else raises: what went wrong first, or where ``collected`` what is done too."""
    errors = {index: each for index, each in enumerate(results) if isinstance(each, CascadezooError)}
    found = [each for each in results if not isinstance(each, CascadezooError)]
    if not errors:
        return found
    index, first = next(iter(errors.items()))
    if not collected:
        raise first
    raise FailedImages(
        f"{len(errors)} of {len(results)} images failed, first images[{index}]: {first} (this error's results hold "
        "what was found on the others, its errors why each failed)",
        [None if isinstance(each, CascadezooError) else each for each in results],
        errors,
    ) from first


def windows(images: Iterable[T], size: int) -> Iterator[list[T]]:
    """The images, so many at a time; an error of their source comes after those that came before it."""
    window: list[T] = []
    try:
        for image in images:
            window.append(image)
            if len(window) == size:
                yield window
                window = []
    except Exception:
        if window:
            yield window
        raise
    if window:
        yield window


def _unless_failed(prepared: P | CascadezooError, detect: Callable[[Sequence[P]], list[R]]) -> R | CascadezooError:
    return prepared if isinstance(prepared, CascadezooError) else detect([prepared])[0]


@uncompiled
def _groups(
    plan: Plan[P, R], images: Sequence[Any], failed: dict[int, R | CascadezooError]
) -> Iterator[list[tuple[int, P]]]:
    """The numbered images in groups of equal key; why an image cannot be read goes into ``failed``."""
    readable = _readable(images, plan.read, failed)
    return batched(readable, lambda item: plan.key(item[1]), plan.batch_size, waiting=plan.batch_size)


def _readable(
    images: Iterable[Any], read: Callable[[Any], P], failed: dict[int, R | CascadezooError]
) -> Iterator[tuple[int, P]]:
    for index, image in enumerate(images):
        prepared = _attempted(read, image)
        if isinstance(prepared, CascadezooError):
            failed[index] = prepared
        else:
            yield index, prepared


def _attempted(read: Callable[[T], P], image: T) -> P | CascadezooError:
    """``read`` form of an image, or why it cannot be read."""
    try:
        return read(image)
    except OutOfMemory:  # no fault of the image's
        raise
    except CascadezooError as error:
        for each in (error, error.__cause__):
            if each is not None:
                traceback.clear_frames(each.__traceback__)  # they hold the bytes of a file
        return error


@uncompiled
def _next(groups: Iterator[list[tuple[int, P]]]) -> list[tuple[int, P]]:
    return next(groups, [])
