"""Our own ways, and torchvision's Mask R-CNN, which is another network."""

from functools import partial

import cascadezoo
from cascadezoo.benchmarks.measure.latency import torchvision_model
from cascadezoo.benchmarks.measure.peers.contender import CPU, Contender, Made, Setting
from cascadezoo.benchmarks.measure.ways import eager, optimized, torchvisions
from cascadezoo.detector import Detector


def loaded(setting: Setting) -> Detector:
    """The network as it is."""
    return cascadezoo.load(setting.entry, weights=setting.canonical, box_score_thresh=setting.threshold)


def plain(setting: Setting) -> Made:
    """The network as it is."""
    model = loaded(setting)
    return Made(eager(model, "fp32", [setting.image], CPU)._replace(stages=None), lambda: model.predict(setting.image))


def prepared(precision: str, exact: bool, setting: Setting) -> Made:
    """``model.optimize``.  Raises UsageError where this processor does not compute in the precision."""
    ready = loaded(setting).optimize(precision=precision, exact=exact)
    return Made(optimized(ready, precision, [setting.image]), lambda: ready.predict(setting.image))


def torchvision(setting: Setting) -> Made:
    """One box stage and one mask head, where a cascade has three of each."""
    way = torchvisions("fp32", [setting.image], CPU, torchvision_model(setting.image, CPU))
    return Made(way._replace(stages=None), None)


OURS = {
    "plain": Contender(plain),
    "optimized": Contender(partial(prepared, "fp32", False)),
    "optimized, exact": Contender(partial(prepared, "fp32", True)),
    "optimized, bf16": Contender(partial(prepared, "bf16", False)),
}
