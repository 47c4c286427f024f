"""``cascadezoo build-ops`` and ``cascadezoo doctor``: what is compiled, and whether this machine is fit."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from cascadezoo.cli.command import Command
from cascadezoo.cli.terminal import echo, echo_json
from cascadezoo.errors import NoCompiler
from cascadezoo.ops import building

_PACKAGES = ("cascadezoo", "torch", "torchvision", "safetensors", "numpy", "opencv-python-headless", "pycocotools")
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


@click.command(
    "build-ops",
    cls=Command,
    short_help="Compile the operators for this machine",
    examples=("cascadezoo build-ops", "cascadezoo build-ops --cuda --archs 80,90"),
)
@click.option("--cuda", is_flag=True, help="Build for GPUs too; needs nvcc of the CUDA that torch was built for.")
@click.option(
    "--archs",
    metavar="LIST",
    help="GPU architectures, such as 80,90; default: this machine's GPUs, or all without one.",
)
@click.option("--force", is_flag=True, help="Build again what is already there.")
def build_ops_command(cuda: bool, archs: str | None, force: bool) -> None:
    """Compile the operators into the cache; they make models faster and change no result.

    Where there is no compiler nothing is built, and the PyTorch operators go on serving.
    """
    if archs and not cuda:
        raise click.UsageError("--archs is for --cuda")
    wanted = [arch.strip().removeprefix("sm_") for arch in archs.split(",")] if archs else []
    for kind in building.KINDS if cuda else ("cpu",):
        try:
            echo(str(building.build(kind, wanted if kind == "cuda" else (), force)))
        except NoCompiler as reason:
            echo(f"not built for {kind}: {reason}", err=True)


@click.command(
    "doctor",
    cls=Command,
    short_help="What is installed, compiled, broken",
    examples=("cascadezoo doctor", "cascadezoo doctor --json"),
)
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON.")
def doctor_command(as_json: bool) -> None:
    """Show versions, GPUs, compilers and compiled operators; exit code 1 where something is broken.

    Every check runs in a process of its own, so that a broken library cannot take the doctor along.
    """
    findings = examine()
    if as_json:
        echo_json(json.dumps(findings, indent=2))
    else:
        echo(*_sheet(findings))
    if findings["problems"]:
        raise SystemExit(1)


def examine() -> dict[str, Any]:
    """Everything that the doctor knows, as JSON data; ``problems`` is empty on a healthy machine."""
    problems: list[str] = []
    pair = _ask(_PAIR)
    if pair.returncode:
        problems.append(f"torch and torchvision do not work together: {_last_line(pair)}")
    ops, gpus = _answer(_OPS, "the operators do not load", problems), _answer(_GPUS, "torch does not load", problems)
    kinds = {kind: ops.get(kind, [False, "unknown"]) for kind in building.KINDS}
    for kind, (loaded, state) in kinds.items():
        if not loaded and state != "not built" and ops.get("mode") != "torch" and ops:
            problems.append(f"the compiled operators for {kind} do not load: {state}")
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "torch_and_torchvision_work": not pair.returncode,
        "cuda": gpus.get("cuda"),
        "gpus": gpus.get("gpus", []),
        "compilers": building.find_compilers(),
        "ops": {
            "CASCADEZOO_OPS": os.environ.get("CASCADEZOO_OPS", "auto"),
            **{kind: {"loaded": loaded, "state": state} for kind, (loaded, state) in kinds.items()},
            "cache": str(building.folder()),
        },
        "problems": problems,
    }


def _ask(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def _answer(code: str, failure: str, problems: list[str]) -> dict[str, Any]:
    done = _ask(code)
    if done.returncode:
        problems.append(f"{failure}: {_last_line(done)}")
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
    ops = findings["ops"]
    rows = [("python", findings["python"]), ("system", findings["system"])]
    rows += [(name, number or "not installed") for name, number in findings["packages"].items()]
    rows += [("torch's CUDA", findings["cuda"] or "none"), ("GPUs", "; ".join(findings["gpus"]) or "none")]
    rows += list(findings["compilers"].items())
    rows += [("CASCADEZOO_OPS", ops["CASCADEZOO_OPS"]), ("ops cache", ops["cache"])]
    rows += [(f"ops, {kind}", ops[kind]["state"]) for kind in building.KINDS]
    width = max(len(label) for label, _ in rows) + 2
    return [
        *(f"{label:{width}}{value}" for label, value in rows),
        *(f"PROBLEM: {problem}" for problem in findings["problems"]),
    ]
