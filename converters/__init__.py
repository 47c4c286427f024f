"""Publishers' checkpoints to canonical weights: a file each, beside the readers and the mechanism they share."""

from cascadezoo.converters import convnext, detectron, internimage, mmdet, paddle, swin
from cascadezoo.converters.converter import Converter

CONVERTERS: dict[str, Converter] = {
    "mmdet": mmdet.CONVERTER,
    "internimage": internimage.CONVERTER,
    "paddle": paddle.CONVERTER,
    "detectron": detectron.CONVERTER,
    "swin": swin.CONVERTER,
    "convnext": convnext.CONVERTER,
}
