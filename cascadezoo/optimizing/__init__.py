"""A network prepared for inference: ``lean.py`` makes its lean form, the same detections by fewer operators."""
