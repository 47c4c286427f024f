"""What else comes under the name of a checkpoint, and which file to take instead."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from cascadezoo.files import parse_json

_HEAD = 4096  # bytes that tell what a file is
_MAX_INDEX = 1 << 24  # bytes of a text that is read whole
_SHOWN = 4  # files named in a sentence
_NAME = 100  # characters of a name

_INFERENCE = "take the .pdparams that it was exported from"
_NAMELESS = f"it holds an inference model's parameters of Paddle (.pdiparams), without names: {_INFERENCE}"
_PROGRAM = f"it is an inference model's program of Paddle (.pdmodel), without weights: {_INFERENCE}"
_PARTS = (
    "join its parts with `python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER model.pth`, and take "
    "that file"
)
_DEEPSPEED = "run DeepSpeed's zero_to_fp32.py, and take the file that it writes"
_TENSORFLOW = "it is a checkpoint of TensorFlow: give one of torch, Paddle or Detectron"
_ONNX = "it is an ONNX model: give the checkpoint it was exported from"
_TEXTS: tuple[tuple[bytes, str], ...] = (
    (rb"(<\?xml[^>]*>)?\s*<net\b", "it describes a model of OpenVINO: give the checkpoint it was made from"),
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
    (rb"BZh[1-9]1AY|\xfd7zXZ|\(\xb5/\xfd|7z\xbc\xaf|Rar!", "it is compressed: unpack it first"),
    (rb"(?s).{4}TFL3", "it is a TensorFlow Lite model: give a checkpoint of torch, Paddle or Detectron"),
    (rb"(?s)\x00{16}.{4}\x08", _NAMELESS),
    (rb"(?s)\n.{0,4000}\bfeed\b", _PROGRAM),
    (rb"(?s)\x08[\x03-\x20]\x12.(pytorch|onnx|tf2onnx|paddle)", _ONNX),
    (rb"[\x20-\x7e]{1,1000}\.pth\s*\Z", "it is mmdetection's note of its last checkpoint: give the file that it names"),
    (rb"\x89HDF", "it is an HDF5 file, as Keras writes: give a checkpoint of torch, Paddle or Detectron"),
    (rb"GGUF", "it is a GGUF file of a language model: give a detector's checkpoint"),
    (rb"(ptrt|ftrt)", "it is a TensorRT engine: give the checkpoint it was built from"),
    (rb"\x93NUMPY", "it is a single array of numpy: give the checkpoint itself"),
    (rb"[^{\[<][\t\n\r\x20-\x7e]{7,}\Z", "it is a text, which holds no weights: give the checkpoint itself"),
)  # fmt: skip
_NAMES: tuple[tuple[str, str], ...] = (
    (r"\.distcp\Z|\A\.metadata\Z", f"it is a part of a distributed checkpoint of torch: {_PARTS}"),
    (r"_optim_states\.pt\Z", f"it is an optimizer's state of DeepSpeed: {_DEEPSPEED}"),
    (r"\.pd\w+\.info\Z", "it is a list of names that Paddle writes beside a model: take the .pdparams"),
    (r"\.data-\d{5}-of-\d{5}\Z|\.ckpt-\d+\.(index|meta)\Z|\Asaved_model\.pb\Z", _TENSORFLOW),
)
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


def about_name(path: Path) -> str | None:
    """What to do where a program gives this name only to something else than weights; None where it does not."""
    return next((sentence for pattern, sentence in _NAMES if re.search(pattern, path.name)), None)


def about_archive(members: Iterable[str]) -> str | None:
    """What a zip archive is by its members' names, where it is known and no checkpoint of torch."""
    names = sorted(members)
    if any(name.endswith("archive_format") for name in names):
        return "it is a program of torch.export: give the checkpoint it was made from"
    if names and all(name.endswith(".npy") for name in names):
        return "it is an archive of numpy's arrays: give the checkpoint itself"
    if found := [name for name in names if Path(name).suffix.lower() in _WEIGHTS]:
        return f"it is a zip archive: unpack it, and give one of its files: {_listed(found)}"
    return None


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
    """What a file is by its names, where it is an optimizer's state; None where it is not."""
    if "param_groups" in keys:
        return "it is an optimizer's state of torch: take the weights that were saved beside it"
    endings = ("_moment1_0", "_moment2_0", "_velocity_0", "_beta1_pow_acc_0", "_beta2_pow_acc_0", "_mean_square_0")
    paddles = [key for key in keys if key.endswith(endings) or key == "LR_Scheduler"]
    if 2 * len(paddles) > len(keys):
        return "it is an optimizer's state of Paddle (.pdopt): take the .pdparams of the same name beside it"
    return None


def about_folder(folder: Path) -> str:
    """What a folder is that was given as a checkpoint, and which file of it to take."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and os.access(path, os.R_OK | os.X_OK))
    for inner in (folder, *inside):
        if known := _about_saved(inner):
            return known if inner == folder else f"it is a directory; of its folder {inner.name}: {known}"
    return "it is a directory: give the checkpoint file itself"


def _about_saved(folder: Path) -> str | None:
    names = sorted(path.name for path in folder.iterdir())
    if ".metadata" in names or any(name.endswith(".distcp") for name in names):
        return f"it is a distributed checkpoint of torch: {_PARTS}"
    if "zero_to_fp32.py" in names or any(name.endswith("_optim_states.pt") for name in names):
        return f"it is a checkpoint of DeepSpeed: {_DEEPSPEED}"
    if "saved_model.pb" in names or any(re.search(r"\.ckpt-\d+\.index\Z", name) for name in names):
        return _TENSORFLOW
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
    return None


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
