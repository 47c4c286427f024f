"""Published Cascade R-CNN detectors in one native PyTorch implementation.

Names are imported on first use, so that listing the zoo never imports torch.
"""

import logging
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascadezoo.text import print_safely
from cascadezoo.version import __version__

if TYPE_CHECKING:
    from cascadezoo.benchmarks.verify.verify import verify
    from cascadezoo.checkpoints.conversion import convert
    from cascadezoo.checkpoints.weights import download
    from cascadezoo.converters.checkpoint import Checkpoint, read_checkpoint
    from cascadezoo.converters.report import ConversionReport, ExportReport
    from cascadezoo.detections import Detections
    from cascadezoo.exporting.dispatch import export
    from cascadezoo.exporting.report import GraphReport
    from cascadezoo.hub.images import fetch_image
    from cascadezoo.loading import build, load
    from cascadezoo.manifest import ZooEntry
    from cascadezoo.modeling.tta import TTASettings
    from cascadezoo.predictor import Predictor
    from cascadezoo.publishing.publish import publish
    from cascadezoo.registry import info, list_models
    from cascadezoo.saving import save
    from cascadezoo.spec.model import ModelSpec
    from cascadezoo.tiling.tiles import Tiles
    from cascadezoo.training.config import TrainingConfig
    from cascadezoo.training.loop import train

# in a clone, converters/, zoo_manifest/, benchmarks/ and csrc/ lie beside this folder; installed, inside it
_BESIDE = Path(__file__).parents[1]
if (_BESIDE / "zoo_manifest" / "__init__.py").is_file():
    __path__.append(str(_BESIDE))

logging.getLogger("cascadezoo").addFilter(print_safely)  # messages name files and what these say

_HOME = {
    "Checkpoint": "cascadezoo.converters.checkpoint",
    "ConversionReport": "cascadezoo.converters.report",
    "Detections": "cascadezoo.detections",
    "ExportReport": "cascadezoo.converters.report",
    "GraphReport": "cascadezoo.exporting.report",
    "ModelSpec": "cascadezoo.spec.model",
    "Predictor": "cascadezoo.predictor",
    "TTASettings": "cascadezoo.modeling.tta",
    "Tiles": "cascadezoo.tiling.tiles",
    "TrainingConfig": "cascadezoo.training.config",
    "ZooEntry": "cascadezoo.manifest",
    "build": "cascadezoo.loading",
    "convert": "cascadezoo.checkpoints.conversion",
    "download": "cascadezoo.checkpoints.weights",
    "export": "cascadezoo.exporting.dispatch",
    "fetch_image": "cascadezoo.hub.images",
    "info": "cascadezoo.registry",
    "list_models": "cascadezoo.registry",
    "load": "cascadezoo.loading",
    "publish": "cascadezoo.publishing.publish",
    "read_checkpoint": "cascadezoo.converters.checkpoint",
    "save": "cascadezoo.saving",
    "verify": "cascadezoo.benchmarks.verify.verify",
    "train": "cascadezoo.training.loop",
}

__all__ = [
    "Checkpoint",
    "ConversionReport",
    "Detections",
    "ExportReport",
    "GraphReport",
    "ModelSpec",
    "Predictor",
    "TTASettings",
    "Tiles",
    "TrainingConfig",
    "ZooEntry",
    "__version__",
    "build",
    "convert",
    "download",
    "export",
    "fetch_image",
    "info",
    "list_models",
    "load",
    "publish",
    "read_checkpoint",
    "save",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cascadezoo' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
