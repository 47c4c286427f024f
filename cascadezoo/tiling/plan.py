"""Images to detections by way of tiles: what ``Detector.predict`` does with ``tiles``."""
