"""A model to a file or a folder that ``load`` reads.

(Not ``save.py``: the module would hide the function ``cascadezoo.save`` of the same name.)
"""

import os
from pathlib import Path

from torch import nn

from cascadezoo.detector import Detector
from cascadezoo.errors import UsageError, WrongType
from cascadezoo.paths import expanded
from cascadezoo.writing import write_weights

_WRAPPERS = ("_orig_mod", "module")  # of torch.compile; of DataParallel and DistributedDataParallel
_FOREIGN = {".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pdparams", ".onnx"}


def save(model: nn.Module, path: str | os.PathLike[str]) -> Path:
    """Save a model with everything that makes it again, and return the path.

    Args:
        model: a model of ``load`` or ``build``, or one that ``torch.compile`` or a parallel wrapper holds.
        path: ``NAME.safetensors`` for a file, which ``load(entry, weights=path)`` reads; any other name for a folder
            laid out as a repository of the Hub, which ``load("local-dir:folder")`` reads.  What is there is replaced.

    The tensors (in float32), the categories, every number of the network, among them those that ``load`` was told to
    change, and the origin with its licence go with it.  A file appears whole or not at all.

    Raises:
        WrongType: it is no model of this package.
        UsageError: the name is that of a file of another format.
        UnwritableOutput: no such folder, not allowed, disk full.
    """
    detector = bare(model)
    target = expanded(path)
    suffix = target.suffix.lower()
    if suffix == ".safetensors":
        write_weights(target, detector.state_dict(), detector.spec, detector.categories, detector.origin)
    elif suffix in _FOREIGN:
        raise UsageError(
            f"{target}: a model is saved as NAME.safetensors or as a folder; for a publisher's format there is "
            "`cascadezoo export`"
        )
    else:
        detector.save_pretrained(target)
    return target


def bare(model: object) -> Detector:
    """The model itself, out of the modules that wrap it; raises WrongType where there is none."""
    inner = model
    while not isinstance(inner, Detector) and isinstance(inner, nn.Module):
        held = [getattr(inner, name, None) for name in _WRAPPERS]
        inner = next((module for module in held if isinstance(module, nn.Module)), None)
    if not isinstance(inner, Detector):
        raise WrongType(f"model: give a model of cascadezoo.load or cascadezoo.build, not a {type(model).__name__}")
    return inner
