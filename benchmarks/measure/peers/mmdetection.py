"""mmdetection 3: its own configuration, its own test pipeline, its own ``inference_detector``.

Its masks are pasted into one array of the image's size per detection, where ours become run lengths; it pastes them
inside ``predict``, so that both of its spans have them.  No source of mmdetection is copied here: it is called.

Of Swin Transformer's networks, whose own code is a fork of mmdetection 2.11 that no longer installs, it has the Mask
R-CNNs.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import cascadezoo
from cascadezoo.benchmarks.measure.computing import computing
from cascadezoo.benchmarks.measure.peers.contender import CPU, Contender, Made, Setting, as_pasted
from cascadezoo.benchmarks.measure.ways import Way
from cascadezoo.detections import Detections
from cascadezoo.errors import UsageError

_arithmetic = partial(computing, CPU, "fp32")
MODULES = ("mmdet", "mmcv", "mmengine", "mmcv.ops", "mmdet.apis")
PUBLISHERS = ("mmdet", "swin")
SWIN = {  # the fork's configurations have other names
    "mask_swin_t_fpn_1x.swin": "mask_rcnn_swin_t_p4_w7_fpn_1x_coco.py",
    "mask_swin_t_fpn_3x.swin": "mask_rcnn_swin_t_p4_w7_fpn_ms_crop_3x_coco.py",
    "mask_swin_s_fpn_3x.swin": "mask_rcnn_swin_s_p4_w7_fpn_amp_ms_crop_3x_coco.py",
}


def configuration(entry: str) -> Any:
    """The configuration of an entry, from the installed package; no weights of a backbone are fetched.

    Raises UsageError where the package has none.
    """
    import mmdet
    from mmengine.config import Config

    published = Path(cascadezoo.info(entry).source.config_url or "")
    name = spelt(SWIN.get(entry, published.name))
    folder = Path(mmdet.__file__).parent / ".mim" / "configs" / published.parent.name
    path = next((path for path in folder.glob("*.py") if spelt(path.name) == name), None)
    if path is None:
        raise UsageError(f"the mmdetection that is installed has no configuration of {entry}")
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
    model = init_detector(config, None, palette="coco", device="cpu")
    model.load_state_dict(state(setting))
    return model


def state(setting: Setting) -> dict[str, Tensor]:
    """The published weights under mmdetection's names, which for Swin Transformer's are given by its own converter."""
    from mmdet.models.backbones.swin import swin_converter

    tensors: dict[str, Tensor] = torch.load(setting.published, map_location="cpu", weights_only=True)["state_dict"]
    if cascadezoo.info(setting.entry).publisher != "swin":
        return tensors
    mark = "backbone."
    backbone = {name.removeprefix(mark): tensor for name, tensor in tensors.items() if name.startswith(mark)}
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(mark)}
    return {**rest, **swin_converter(backbone)}


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


CONTENDER = Contender(make, MODULES, PUBLISHERS)
EXTRACTOR = Contender(extractor, MODULES, PUBLISHERS)
