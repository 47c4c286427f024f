"""Detecting on a large image in tiles: overlapping windows, whose detections become one image's."""

from cascadezoo.tiling.tiles import Tiles, Window

__all__ = ["Tiles", "Window"]
