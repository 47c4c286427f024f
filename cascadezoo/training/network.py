"""The network of a run: that of an entry, or one that was given, as it is when training begins."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torchvision.ops import StochasticDepth

from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.detector import Detector
from cascadezoo.errors import UsageError
from cascadezoo.loading import build, load
from cascadezoo.manifest import ZooEntry
from cascadezoo.spec.model import ModelSpec
from cascadezoo.spec.norm import Norm
from cascadezoo.spec.resnet import NormLearning, ResNetSpec
from cascadezoo.training.config import Part, TrainingConfig


def entry_network(config: TrainingConfig, entry: ZooEntry, data: CocoDataset) -> Detector:
    """The network of ``entry`` with as many classes as ``data``, and with the weights that the options name.

    Raises UsageError where ``num_classes`` is another, and what ``load`` raises.
    """
    classes = len(data.categories)
    if config.num_classes not in (None, classes):
        raise UsageError(
            f"num_classes {config.num_classes}: {data.annotations} has {classes} categories, so leave it out"
        )
    model = load(
        entry.name,
        pretrained=config.pretrained,
        weights=config.weights,
        num_classes=classes,
        min_size=config.min_size,
        max_size=config.max_size,
    )
    if config.pretrained or config.weights is not None:
        return model
    spec = all_learning(model.spec)
    if spec == model.spec:
        return model
    free = build(spec)
    free.origin = model.origin
    return free


def all_learning(spec: ModelSpec) -> ModelSpec:
    """The spec for training from scratch: nothing is frozen, and batch norms learn their statistics."""
    if not isinstance(spec.backbone, ResNetSpec):
        return spec
    learned = NormLearning.AFFINE if spec.backbone.norm is Norm.AFFINE else NormLearning.STATISTICS
    free = {"frozen_stages": -1, "norm_learning": learned}
    return spec.model_copy(update={"backbone": spec.backbone.model_copy(update=free)})


def set_drop_path(model: Detector, rate: float) -> None:
    """Drop paths at ``rate`` in the backbone's last block, and less before, in proportion.

    Raises UsageError where its blocks have no paths to drop.
    """
    paths = [module for module in model.backbone.modules() if isinstance(module, StochasticDepth)]
    if rate and not paths:
        raise UsageError(f"drop_path {rate}: a backbone of kind {model.spec.backbone.kind} has no paths to drop")
    for index, path in enumerate(paths):
        path.p = rate * index / max(1, len(paths) - 1)


def freeze(model: Detector, parts: Iterable[Part]) -> None:
    """Leave parts of a network as they are.  Raises UsageError for one that has no weights."""
    for part in parts:
        tensors = list(model.get_submodule(part).parameters())
        if not tensors:
            raise UsageError(f"--freeze {part}: the {part} of this network has no weights")
        for tensor in tensors:
            tensor.requires_grad_(False)


def set_training(model: Detector) -> None:
    """Training mode, except modules whose tensors are all frozen, by whomever: their norms keep their statistics, and
    they drop no paths."""
    model.train()
    for module in model.modules():
        tensors = list(module.parameters())
        if tensors and not any(tensor.requires_grad for tensor in tensors):
            module.eval()


@contextmanager
def evaluating(model: Detector) -> Iterator[None]:
    """The model in evaluation mode; after the block every module is as it was, for what is frozen does not train."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
