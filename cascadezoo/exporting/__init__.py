"""A whole detector as one file that runs without this package: ONNX and what is made from the same graph.

Publishers' checkpoints are not made here but in ``cascadezoo.checkpoints.exporting``; ``dispatch.export`` chooses.
"""
