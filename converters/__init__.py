"""Publishers' checkpoints to canonical weights: a file each, beside the readers and the mechanism they share."""

from cascadezoo.converters import mmdet
from cascadezoo.converters.converter import Converter

CONVERTERS: dict[str, Converter] = {"mmdet": mmdet.CONVERTER}
