"""What is compared: a network with weights from a file, in one program."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import cascadezoo
from cascadezoo.benchmarks.measure.ways import Way
from cascadezoo.detections import Detections
from cascadezoo.detector import Detector
from cascadezoo.errors import UsageError
from cascadezoo.ops.mask_paste import Crop

CPU = torch.device("cpu")
Ready = TypeVar("Ready")


class Setting(NamedTuple):
    """What all contenders are given.

    Attributes:
        entry: the full name of the network.
        canonical: its weights in our format.
        published: the same weights in the format of its publisher.
        threshold: scores have to be above it.
        image: (H, W, 3) uint8 RGB.
    """

    entry: str
    canonical: Path
    published: Path
    threshold: float
    image: NDArray[np.uint8]


class Made(NamedTuple):
    """A contender, loaded: how it detects, and what it finds; None where it is another network."""

    way: Way
    found: Callable[[], Detections] | None


class Contender(NamedTuple, Generic[Ready]):
    """One program, or one way of ours.

    Attributes:
        make: loads it; raises UsageError where this machine cannot compute so.
        modules: what it needs to import, those with a version first.
        publishers: whose networks it runs; empty where it runs any, or one of its own.
    """

    make: Callable[[Setting], Ready]
    modules: tuple[str, ...] = ()
    publishers: tuple[str, ...] = ()

    def why_not(self, entry: str) -> str | None:
        """Why it cannot run here, or cannot run this entry; None where it can.  What it needs is imported."""
        publisher = cascadezoo.info(entry).publisher
        if self.publishers and publisher not in self.publishers:
            return f"it runs the networks of {' and '.join(self.publishers)}, and {entry} is one of {publisher}"
        return why_not_importable(self.modules)

    def versions(self) -> dict[str, str]:
        """The versions of what it needs, by the module's name."""
        found = {name: getattr(import_module(name), "__version__", None) for name in self.modules}
        return {name: version for name, version in found.items() if version}


def made(
    contenders: Mapping[str, Contender[Ready]], setting: Setting
) -> tuple[dict[str, Ready], dict[str, dict[str, str]], dict[str, str]]:
    """The contenders that can be made, the versions of what they need, and why the others cannot; all by name."""
    ready: dict[str, Ready] = {}
    versions: dict[str, dict[str, str]] = {}
    missing: dict[str, str] = {}
    for name, contender in contenders.items():
        why = contender.why_not(setting.entry)
        if why is None:
            try:
                ready[name], versions[name] = contender.make(setting), contender.versions()
            except UsageError as error:
                why = str(error)
        if why is not None:
            missing[name] = why
    return ready, versions, missing


def disagreeing(parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Who did not find in float32 what ours finds, and in which part of a report; parts have ``rows``."""
    return [
        f"{row['way']} ({name})"
        for name, part in parts.items()
        for row in part["rows"]
        if row["agrees"] is False and row.get("precision", "fp32") == "fp32"
    ]


def why_not_importable(modules: tuple[str, ...]) -> str | None:
    """Import the modules; what went wrong, or None."""
    for module in modules:
        try:
            import_module(module)
        except Exception as error:  # whatever a foreign package raises: mmdetection asserts that versions fit
            return f"{module}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    return None


def setting(model: Detector, entry: str, image: NDArray[np.uint8], folder: Path) -> Setting:
    """A model's weights in files in ``folder``, with the image."""
    entry = cascadezoo.info(entry).name
    canonical, published = folder / "canonical.safetensors", folder / "published"
    cascadezoo.save(model, canonical)
    cascadezoo.export(entry, cascadezoo.info(entry).publisher, weights=canonical, output=published)
    return Setting(entry, canonical, published, model.spec.conventions.selection.score_thresh, image)


def as_pasted(masks: Tensor, boxes: Tensor, height: int, width: int) -> Iterator[Crop]:
    """A ``PasteMethod`` for masks (N, H, W) that are pixels of the image already."""
    yield from (Crop(0, 0, mask.bool()) for mask in masks)
