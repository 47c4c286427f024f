"""What the metadata of mmdetection's checkpoints state: configurations, which are read and never executed.

Source: mmcv 1.x ``Config.text`` and ``pretty_text``, mmengine ``Config.dump``, and their runners' ``meta``.
"""

import json
import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import PurePosixPath

from cascadezoo.converters.converter import Description, are_unread, class_names

_RESNEXT = {"groups": 1, "base_width": 4}  # with the defaults of mmdet/models/backbones/resnext.py
_DIGITS = 4  # of a number that can be a ResNeXt's: Python refuses to read one of 5000
_BLOCKS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3)}

# of a file's metadata, and of a configuration's own lines
_NAMES = ("experiment_name", "exp_name", "config_name", "cfg_name", "config_file", "config_path", "filename")
_NAMED = re.compile(rf"^(?:work_dir|{'|'.join(_NAMES)})\s*=\s*['\"]([^'\"\n]+)", re.MULTILINE)
_FILE = re.compile(r"^(\S+\.py)$", re.MULTILINE)  # mmcv put a configuration's path before its text


def describe(meta: object) -> Description:
    """The ResNet, if it is one, the pixels it takes, the names of the configuration, and those of the classes."""
    if not isinstance(meta, dict):
        return Description()
    configs = texts(meta)
    names = [meta.get(name) for name in _NAMES]
    for text in configs:
        names += [*_NAMED.findall(text), *_FILE.findall(text)[-1:]]
    hooks = meta.get("hook_msgs")
    kept = [hooks.get("best_ckpt"), hooks.get("last_ckpt")] if isinstance(hooks, dict) else []
    names += [str(PurePosixPath(file).parent) for file in kept if isinstance(file, str)]
    stems = [_stem(name) for name in names if isinstance(name, str)]
    data_set = meta.get("dataset_meta")
    lists = [meta.get("CLASSES")]
    if isinstance(data_set, dict):
        lists += [data_set.get("classes"), data_set.get("CLASSES")]
    return Description(
        backbone=next((found for found in map(_backbone, configs) if found), {}),
        pixels=next((found for found in map(_pixels, configs) if found), {}),
        stems=tuple(stem for stem in stems if stem),
        classes=class_names(*lists),
        unread_classes=are_unread(*lists),
    )


def _stem(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name.removesuffix(".py")


def texts(meta: object) -> list[str]:
    """The configurations in a file's metadata, as their text or as mappings, each as the lines of one in Python.

    Files of early 2020 hold the texts of all those that a configuration inherits from before its own: only its own is
    sure to hold.
    """
    found = (meta.get("cfg"), meta.get("config")) if isinstance(meta, dict) else ()  # 3.x, 2.x
    return [_own(text) for text in map(_text, found) if text is not None]


def _own(text: str) -> str:
    """The last of the texts, after the path of its file."""
    start = text.rfind("\n_base_")
    return text if start < 0 else "\n".join([*_FILE.findall(text[:start])[-1:], text[start + 1 :]])


_PIECES, _NESTED, _LONG = 100_000, 32, 1000  # of a mapping: parts, levels, and characters of a text in it


def _text(config: object) -> str | None:
    if isinstance(config, bytes):
        config = config.decode(errors="replace")
    if isinstance(config, str) and config.lstrip()[:1] == "{":
        try:
            config = json.loads(config)
        except (ValueError, RecursionError):  # not JSON: a mapping as Python prints it, which is read as text
            return str(config)
    if isinstance(config, dict):
        lines = (chain((f"{key} = ",), _parts(value), ("\n",)) for key, value in config.items() if isinstance(key, str))
        return "".join(islice(chain.from_iterable(lines), _PIECES))
    return config if isinstance(config, str) else None


def _parts(value: object, depth: int = _NESTED) -> Iterator[str]:
    """A value in Python's syntax, part by part: values may share theirs, and the whole be far larger than the file."""
    if isinstance(value, dict) and depth:
        yield "{"
        for key, item in value.items():
            yield f"'{key}': " if isinstance(key, str) and len(key) <= _LONG else "'': "
            yield from _parts(item, depth - 1)
            yield ", "
        yield "}"
    elif isinstance(value, list | tuple) and depth:
        yield "["
        for number, item in enumerate(value):
            yield ", " if number else ""
            yield from _parts(item, depth - 1)
        yield "]"
    elif isinstance(value, str | bytes | int | float) and not (isinstance(value, str | bytes) and len(value) > _LONG):
        yield repr(value)
    else:
        yield "None"


def _block(name: str, text: str) -> str:
    """What stands in the brackets of ``name=dict(...)`` or ``'name': {...}``; nothing where there is none."""
    start = re.search(rf"\b{name}['\"]?\s*[=:]\s*(dict\(|\{{)", text)
    return _balanced(text[start.end() :]) if start else ""


def deformable(text: str) -> tuple[str | None, tuple[int, ...]]:
    """The type of a configuration's deformable convolutions, and the stages that have them, counted from 1."""
    block = _block("backbone", text)
    kind = re.search(r"\btype['\"]?\s*[=:]\s*['\"](\w+)", _block("dcn", block))
    stages = re.search(r"\bstage_with_dcn['\"]?\s*[=:]\s*[(\[]([^()\[\]]*)", block)
    if kind is None or stages is None:
        return None, ()
    words = re.findall(r"\w+", stages[1])
    return kind[1], tuple(stage for stage, word in enumerate(words, 1) if word in ("True", "1"))


def _backbone(text: str) -> dict[str, object]:
    """What a configuration, read as text and never executed, says of a ResNet: fields of ``ResNetSpec``."""
    block = _flat(_block("backbone", text))

    def value(key: str, pattern: str) -> str | None:
        found = re.search(rf"\b{key}['\"]?\s*[=:]\s*['\"]?({pattern})\b", block)
        return found[1] if found else None

    kind, depth, style = value("type", r"\w+"), value("depth", "50|101"), value("style", "pytorch|caffe")
    if kind not in (None, "ResNet", "ResNeXt"):
        return {}
    stated: dict[str, object] = {} if depth is None else {"blocks": _BLOCKS[depth]}
    if style is not None:
        stated["stride_in_1x1"] = style == "caffe"
    if kind is None or depth is None or re.search(r"^_base_\s*=", text, re.MULTILINE):
        return stated  # what it leaves out may stand in what it inherits from
    groups, width = 1, 64
    if kind == "ResNeXt":
        sizes = [value(key, r"\d+") or str(default) for key, default in _RESNEXT.items()]
        if any(len(size) > _DIGITS for size in sizes):
            return {}
        groups, width = map(int, sizes)
    return {
        "blocks": _BLOCKS[depth],
        "groups": groups,
        "width_per_group": width,
        "stride_in_1x1": style == "caffe",
        "deformable_stages": deformable(text)[1],
    }


_NUMBER = r"\s*([\d.]{1,12})\s*"
_TRIPLE = rf"['\"]?\s*[=:]\s*[(\[]{_NUMBER},{_NUMBER},{_NUMBER},?\s*[)\]]"


def _pixels(text: str) -> dict[str, tuple[float, float, float]]:
    """The pixel means and deviations that a configuration states, in RGB order; empty where it states none plainly."""
    order = re.search(r"\b(?:bgr_)?to_rgb['\"]?\s*[=:]\s*(True|False)", text)
    stated = {}
    for name in ("mean", "std"):
        match = re.search(rf"\b{name}{_TRIPLE}", text)
        try:
            first, second, third = (float(number) for number in match.groups()) if match else (0, 0, 1)
        except ValueError:  # several points in a number
            continue
        if order is not None and match:
            stated[name] = (first, second, third) if order[1] == "True" else (third, second, first)
        elif first == third:  # in either order
            stated[name] = (first, second, third)
    return stated


def _balanced(text: str) -> str:
    """``text`` up to the bracket that closes the one before it."""
    depth = 1
    for end, character in enumerate(text):
        depth += (character in "({") - (character in ")}")
        if depth == 0:
            return text[:end]
    return text


def _flat(block: str) -> str:
    """``block`` without what stands in brackets of its own."""
    depth, kept = 0, []
    for character in block:
        depth += character in "({["
        if depth == 0:
            kept.append(character)
        depth -= character in ")}]"
    return "".join(kept)
