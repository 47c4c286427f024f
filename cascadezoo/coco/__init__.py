"""COCO's formats: categories, annotation files, run-length encodings, data sets and evaluation."""
