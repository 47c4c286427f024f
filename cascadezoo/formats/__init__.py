"""Formats of annotations other than COCO's, read and written: YOLO, Pascal VOC, LabelMe."""
