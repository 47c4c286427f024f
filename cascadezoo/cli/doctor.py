"""``cascadezoo doctor``: whether this machine is fit, and what to run where it is not."""

import json
import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

import click

from cascadezoo.cli.command import Command
from cascadezoo.cli.terminal import echo, echo_json, wrapped
from cascadezoo.errors import UnwritableOutput
from cascadezoo.hub.progress import steps
from cascadezoo.ops import building, compilers

_PACKAGES = (
    "cascadezoo", "torch", "torchvision", "safetensors", "numpy", "opencv-python-headless", "pycocotools", "hotcoco",
)  # fmt: skip
_PREBUILT = "cascadezoo-ops"  # of the CPU's operators, and shown where it is installed
# each of them installs the folder cv2
_OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
# the pair is broken where torchvision was built for another torch: its operators are then missing
_PAIR = "import torch, torchvision; torchvision.ops.nms(torch.zeros(1, 4), torch.ones(1), 0.5)"
_OPS = (
    "import json; from cascadezoo.ops.library import MODE, STATUS;"
    "print(json.dumps({'mode': MODE, **{k: [not isinstance(v, str), str(v)] for k, v in STATUS.items()}}))"
)
_GPUS = (
    "import json, torch; print(json.dumps({'cuda': torch.version.cuda, 'gpus': [f'{torch.cuda.get_device_name(i)},"
    ' sm_{"".join(map(str, torch.cuda.get_device_capability(i)))}\' for i in range(torch.cuda.device_count())]}))'
)
_BUILD = {"cpu": "cascadezoo build-ops", "cuda": "cascadezoo build-ops --cuda"}


@click.command(
    "doctor",
    cls=Command,
    short_help="What is installed, compiled, broken",
    examples=("cascadezoo doctor", "cascadezoo doctor --json"),
)
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON.")
def doctor_command(as_json: bool) -> None:
    """Show versions, GPUs, compilers and compiled operators, each with what to do where something is missing; exit code
    1 where something is broken.

    Every check runs in a process of its own, so that a broken library cannot take the doctor along.
    """
    with steps("trying torch, OpenCV and the operators, each in a process of its own"):
        findings = examine()
    if as_json:
        echo_json(json.dumps(findings, indent=2))
    else:
        echo(*_sheet(findings))
    if findings["problems"]:
        raise SystemExit(1)


def examine() -> dict[str, Any]:
    """Everything that the doctor knows, as JSON data; ``problems`` is empty on a healthy machine.

    ``remedies``: what to do, by the label that the sheet has for it.
    """
    packages = {name: _version(name) for name in (*_PACKAGES, _PREBUILT, *_OPENCV[1:])}
    packages = {name: number for name, number in packages.items() if number or name in _PACKAGES}
    problems, remedies = [], _package_remedies(packages)
    with ThreadPoolExecutor() as pool:  # each in a process of its own, all at once
        pair, opencv, ops_said, gpus_said = pool.map(_ask, (_PAIR, "import cv2; cv2.resize", _OPS, _GPUS))
    if pair.returncode:
        remedy = "run `pip install --upgrade torch torchvision` in one command, so that they fit"
        problems.append(f"torch and torchvision do not work together: {_last_line(pair)}: {remedy}")
    if opencv.returncode:
        problems.append(f"OpenCV does not load: {_last_line(opencv)}: {_reinstall_opencv(packages)}")
    ops = _answer(ops_said, "the operators do not load", problems)
    gpus = _answer(gpus_said, "torch does not load", problems)
    kinds = {kind: ops.get(kind, [False, "unknown"]) for kind in building.KINDS}
    for kind, (loaded, state) in kinds.items():
        if not loaded and state != "not built" and ops.get("mode") != "torch" and ops:
            # a cache that is not trusted comes with a remedy of its own
            remedy = "" if "build-ops`" in state else f": run `{_BUILD[kind]} --force`"
            problems.append(f"the compiled operators for {kind} do not load: {state}{remedy}")
    found = compilers.find_compilers()
    remedies |= _build_remedies(kinds, gpus)
    if kinds["cpu"][1] == "not built" and _PREBUILT in packages:
        remedies[_PREBUILT] = "of other sources: install the one that `make wheel-ops` makes in a clone of this version"
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "packages": packages,
        "torch_and_torchvision_work": not pair.returncode,
        "cuda": gpus.get("cuda"),
        "gpus": gpus.get("gpus", []),
        "compilers": found,
        "ops": {
            "CASCADEZOO_OPS": os.environ.get("CASCADEZOO_OPS", "auto"),
            **{kind: {"loaded": loaded, "state": state} for kind, (loaded, state) in kinds.items()},
            "cache": _ops_cache(),
        },
        "remedies": remedies,
        "problems": problems,
    }


def _ops_cache() -> str:
    try:
        return str(building.folder())
    except UnwritableOutput as error:  # no home folder
        return str(error)


def _package_remedies(packages: dict[str, str | None]) -> dict[str, str]:
    remedies = {}
    for name, least in _least_versions().items():
        number = packages.get(name)
        if name in packages and number and _release(number) < _release(least):
            remedies[name] = f"older than {least}: run `pip install --upgrade '{name}>={least}'`"
    for name, number in packages.items():
        if number is None and name != "opencv-python-headless":
            remedies[name] = f"run `pip install {name}`"
    present = [name for name in _OPENCV if packages.get(name)]
    if not present:
        remedies["opencv-python-headless"] = "run `pip install opencv-python-headless`"
    elif len(present) > 1:
        remedies[present[-1]] = f"{' and '.join(present)} overwrite each other: {_reinstall_opencv(packages)}"
    elif present != ["opencv-python-headless"]:
        remedies["opencv-python-headless"] = f"{present[0]} serves in its place: {_reinstall_opencv(packages)}"
    return remedies


def _reinstall_opencv(packages: dict[str, str | None]) -> str:
    present = [name for name in _OPENCV if packages.get(name)]
    remove = f"pip uninstall --yes {' '.join(present)} && " if present else ""
    return f"run `{remove}pip install opencv-python-headless`"


def _build_remedies(kinds: dict[str, list[Any]], gpus: dict[str, Any]) -> dict[str, str]:
    remedies = {}
    if gpus and gpus["cuda"] is None:
        remedies["GPUs"] = "models run on the CPU; for an NVIDIA GPU install torch with CUDA (https://pytorch.org)"
    elif gpus and not gpus["gpus"]:
        remedies["GPUs"] = "no GPU that it can use; where there is one, `nvidia-smi` says what its driver lacks"
    for kind, (_, state) in kinds.items():
        if state == "not built" and (kind == "cpu" or gpus.get("gpus")):
            remedies[f"ops, {kind}"] = f"run `{_BUILD[kind]}`"
    return remedies


def _least_versions() -> dict[str, str]:
    """The lower bounds of cascadezoo's requirements."""
    try:
        lines = requires("cascadezoo") or []
    except PackageNotFoundError:
        return {}
    found = (re.match(r"([\w.-]+)[^;]*>=\s*([\d.]+)", line) for line in lines if "extra ==" not in line)
    return {match[1]: match[2] for match in found if match}


def _release(number: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[+a-z]", number)[0]))


def _ask(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def _answer(done: subprocess.CompletedProcess[str], failure: str, problems: list[str]) -> dict[str, Any]:
    if done.returncode:
        reason = _last_line(done)
        is_setting = "CASCADEZOO_OPS=" in reason
        remedy = "set it to one of them, or unset it" if is_setting else "run `pip install --upgrade torch torchvision`"
        problems.append(f"{failure}: {reason}: {remedy}")
        return {}
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or [f"the process died with code {done.returncode}"])[-1]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _sheet(findings: dict[str, Any]) -> list[str]:
    ops, remedies = findings["ops"], findings["remedies"]
    rows = [("python", findings["python"]), ("system", findings["system"])]
    rows += [(name, number or "not installed") for name, number in findings["packages"].items()]
    rows += [("torch's CUDA", findings["cuda"] or "none"), ("GPUs", "; ".join(findings["gpus"]) or "none")]
    rows += list(findings["compilers"].items())  # where one lacks, its line says what to do
    rows += [("CASCADEZOO_OPS", ops["CASCADEZOO_OPS"]), ("ops cache", ops["cache"])]
    rows += [(f"ops, {kind}", ops[kind]["state"]) for kind in building.KINDS]
    width = max(len(label) for label, _ in rows) + 2
    lines = [(label, ": ".join(filter(None, (value, remedies.get(label))))) for label, value in rows]
    return [
        *(line for label, text in lines for line in wrapped(text, f"{label:{width}}")),
        *(line for problem in findings["problems"] for line in wrapped(problem, "PROBLEM: ")),
    ]
