"""mmdetection 3: its own configuration, its own test pipeline, its own ``inference_detector``.

Its masks are pasted into one array of the image's size per detection, where ours become run lengths; it pastes them
inside ``predict``, so that both of its spans have them.  No source of mmdetection is copied here: it is called.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

import cascadezoo
from cascadezoo.benchmarks.measure.computing import computing
from cascadezoo.benchmarks.measure.peers.contender import CPU, Contender, Made, Setting, as_pasted
from cascadezoo.benchmarks.measure.ways import Way
from cascadezoo.detections import Detections

_arithmetic = partial(computing, CPU, "fp32")
MODULES = ("mmdet", "mmcv", "mmengine", "mmcv.ops", "mmdet.apis")


def configuration(entry: str) -> Any:
    """The publisher's configuration of an entry, from the installed package; no weights of a backbone are fetched."""
    import mmdet
    from mmengine.config import Config

    published = Path(cascadezoo.info(entry).source.config_url or "")
    folder = Path(mmdet.__file__).parent / ".mim" / "configs" / published.parent.name
    (path,) = (path for path in folder.glob("*.py") if spelt(path.name) == spelt(published.name))
    config = Config.fromfile(path)
    config.model.backbone.init_cfg = None
    return config


def spelt(name: str) -> str:
    """A configuration's name; some changed their spelling from version 2 to 3."""
    return name.replace("-", "_").replace("mstrain", "ms")


def load(setting: Setting) -> Any:
    """The detector with the weights and the threshold of ``setting``."""
    from mmdet.apis import init_detector

    config = configuration(setting.entry)
    config.model.test_cfg.rcnn.score_thr = setting.threshold
    return init_detector(config, str(setting.published), palette="coco", device="cpu")


def make(setting: Setting) -> Made:
    """Network: ``predict`` on prepared pixels.  Whole: ``inference_detector`` on the image, in BGR as it reads them."""
    from mmdet.apis import inference_detector

    model = load(setting)
    batch = prepared(model, setting)
    whole = partial(
        inference_detector, model, _bgr(setting), pipeline(model)
    )  # which it would make anew for each image
    network = partial(model.predict, batch["inputs"], batch["data_samples"])
    return Made(Way("mmdetection", "fp32", _arithmetic, network, whole), lambda: detections(whole()))


def extractor(setting: Setting) -> Callable[[], Sequence[Tensor]]:
    """Backbone and neck: prepared pixels to features."""
    model = load(setting)
    extract: Callable[[], Sequence[Tensor]] = partial(model.extract_feat, prepared(model, setting)["inputs"])
    return extract


def pipeline(model: Any) -> Any:
    """The detector's own test pipeline, for images that are arrays."""
    from mmcv.transforms import Compose
    from mmdet.utils import get_test_pipeline_cfg

    steps = get_test_pipeline_cfg(model.cfg.copy())
    steps[0].type = "mmdet.LoadImageFromNDArray"
    return Compose(steps)


def prepared(model: Any, setting: Setting) -> Any:
    """The image as the network takes it: ``inputs`` (1, 3, H, W) and ``data_samples``."""
    packed = pipeline(model)({"img": _bgr(setting), "img_id": 0})
    return model.data_preprocessor({name: [value] for name, value in packed.items()}, False)


def _bgr(setting: Setting) -> NDArray[np.uint8]:
    return setting.image[..., ::-1].copy()


def detections(sample: Any) -> Detections:
    """What it found on an image."""
    found = sample.pred_instances
    masks = found.masks if "masks" in found else None
    size = sample.ori_shape[0], sample.ori_shape[1]
    return Detections(found.bboxes, found.scores, found.labels, size, mask_probs=masks, paste_method=as_pasted)


CONTENDER = Contender(make, MODULES, "mmdet")
EXTRACTOR = Contender(extractor, MODULES, "mmdet")
