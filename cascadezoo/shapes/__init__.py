"""The drawn data set of coloured shapes, on which the entry inside the package was trained."""

from cascadezoo.shapes.dataset import SIZES, VERSION, generate, planted, scene

__all__ = ["SIZES", "VERSION", "generate", "planted", "scene"]
