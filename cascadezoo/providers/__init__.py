"""Publishers: their numerics and networks as data.  The only rooms, with ``converters``, where their names appear."""

from cascadezoo.providers import cascadezoo as own
from cascadezoo.providers import convnext, detectron, detectron2, internimage, mmdet, paddle, swin, vitdet
from cascadezoo.spec.model import ModelSpec

# publisher -> architecture -> network
SPECS: dict[str, dict[str, ModelSpec]] = {
    "mmdet": mmdet.SPECS,
    "internimage": internimage.SPECS,
    "paddle": paddle.SPECS,
    "detectron": detectron.SPECS,
    "swin": swin.SPECS,
    "convnext": convnext.SPECS,
    "detectron2": {**detectron2.SPECS, **vitdet.SPECS},
    "cascadezoo": own.SPECS,
}

# publishers with checkpoints of their own format, read and written by ``cascadezoo.converters``
FORMATS = tuple(publisher for publisher in SPECS if publisher != "cascadezoo")
