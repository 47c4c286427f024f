"""What else comes under the name of a checkpoint, and which file to take instead."""

import re
from pathlib import Path

from cascadezoo.files import parse_json

_HEAD = 4096  # bytes that tell what a file is
_MAX_INDEX = 1 << 24  # bytes of a text that is read whole
_SHOWN = 4  # files named in a sentence
_NAME = 100  # characters of a name

_INFERENCE = "take the .pdparams that it was exported from"
_NAMELESS = f"it holds an inference model's parameters of Paddle (.pdiparams), without names: {_INFERENCE}"
_PROGRAM = f"it is an inference model's program of Paddle (.pdmodel), without weights: {_INFERENCE}"
_ONNX = "it is an ONNX model: give the checkpoint it was exported from"
_TEXTS: tuple[tuple[bytes, str], ...] = (
    (
        rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml)",
        "it is a web page saved under this name: download the file again",
    ),
    (rb"version https://git-lfs", "it is a git-lfs pointer, not the file itself: run `git lfs pull`"),
    (
        rb"(?s).{257}ustar",
        "it is a tar archive, as torch itself wrote before 0.1.10: give the file inside it, or save it again",
    ),
    (rb"\x1f\x8b", "it is compressed with gzip: unpack it first"),
    (rb"(?s)\x00{16}.{4}\x08", _NAMELESS),
    (rb"(?s)\n.{0,4000}\bfeed\b", _PROGRAM),
    (rb"(?s)\x08[\x03-\x20]\x12.(pytorch|onnx|tf2onnx|paddle)", _ONNX),
    (rb"[\x20-\x7e]{1,1000}\.pth\s*\Z", "it is mmdetection's note of its last checkpoint: give the file that it names"),
    (rb"\x89HDF", "it is an HDF5 file, as Keras writes: give a checkpoint of torch, Paddle or Detectron"),
    (rb"GGUF", "it is a GGUF file of a language model: give a detector's checkpoint"),
    (rb"(ptrt|ftrt)", "it is a TensorRT engine: give the checkpoint it was built from"),
)  # fmt: skip
_WEIGHTS = {".safetensors", ".pth", ".pt", ".pdparams", ".pkl", ".bin", ".ckpt"}
_PART = re.compile(r"-(\d{5})-of-(\d{5})\b")


def about_file(path: Path, head: bytes) -> str:
    """What a file is that no reader takes, by its first bytes, and what to do, as the end of a sentence."""
    for pattern, sentence in _TEXTS:
        if re.match(pattern, head[:_HEAD]):
            return sentence
    if head.lstrip()[:1] in (b"{", b"["):
        return _about_json(path)
    return f"it is no checkpoint (it begins with {head[:8]!r})"


def about_part(path: Path) -> str | None:
    """What to do where a file's name says that it is one of several; None where it does not."""
    part = _PART.search(path.name)
    if part is None or int(part[2]) < 2:
        return None
    return (
        f"it is part {int(part[1])} of {int(part[2])} of a sharded checkpoint: load all parts into one model and save "
        "that as a single file"
    )


def about_state(keys: list[str]) -> str | None:
    """What a state dict is by its names, where it is an optimizer's; None where it is not."""
    endings = ("_moment1_0", "_moment2_0", "_velocity_0", "_beta1_pow_acc_0", "_beta2_pow_acc_0", "_mean_square_0")
    if keys and 2 * sum(key.endswith(endings) for key in keys) > len(keys):
        return "it is an optimizer's state of Paddle (.pdopt): take the .pdparams of the same name beside it"
    return None


def about_folder(folder: Path) -> str:
    """What a folder is that was given as a checkpoint, and which file of it to take."""
    names = sorted(path.name for path in folder.iterdir())
    if any(name.endswith(".distcp") for name in names):
        return (
            "it is a distributed checkpoint of torch: join its parts with "
            "`python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER model.pth`, and take that file"
        )
    if "zero_to_fp32.py" in names:
        return "it is a checkpoint of DeepSpeed: run its own zero_to_fp32.py, and take the file that it writes"
    if {"config.json", "model.safetensors"} <= set(names):
        return f"it is a saved model: load it as local-dir:{folder}"
    if indices := [name for name in names if name.endswith(".index.json")]:
        return (
            f"it is a directory, whose {indices[0]} lists the parts of a sharded checkpoint: save them as a single file"
        )
    if found := [name for name in names if Path(name).suffix.lower() in _WEIGHTS]:
        return f"it is a directory: give one of its files: {_listed(found)}"
    if any(name.endswith((".pdiparams", ".pdmodel")) for name in names):
        return f"it is a directory with an inference model of Paddle: {_INFERENCE}"
    return "it is a directory: give the checkpoint file itself"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(name[:_NAME] for name in names[:_SHOWN]) + more


def _about_json(path: Path) -> str:
    try:
        content = parse_json(path.read_bytes()) if path.stat().st_size <= _MAX_INDEX else None
    except ValueError:
        content = None
    parts = content.get("weight_map") if isinstance(content, dict) else None
    if isinstance(parts, dict) and parts:
        files = _listed(sorted({str(name) for name in parts.values()}))
        return (
            f"it is the index of a sharded checkpoint, without weights; these are in {files} beside it: load all parts "
            "into one model and save that as a single file"
        )
    if isinstance(content, dict) and {"base_code", "program"} <= content.keys():
        return _PROGRAM
    return "it is a JSON text, which holds no weights: give the checkpoint itself"
