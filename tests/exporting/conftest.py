"""Tests of exported files: those that run them are collected only where onnx, onnxscript and onnxruntime are installed,
as ``make test-extras`` has them."""

from importlib.util import find_spec

_NEEDED = ("onnx", "onnxscript", "onnxruntime")
collect_ignore_glob = [] if all(map(find_spec, _NEEDED)) else ["test_onnx*.py"]
