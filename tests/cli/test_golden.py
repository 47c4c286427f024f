"""What people see on a terminal of 80 columns, kept whole: the help of every command, `list`, `info` and `doctor`.

After a change that is meant, ``WRITE_GOLDEN=1 python -m pytest tests/cli/test_golden.py`` writes tests/cli/golden anew;
look at the difference.
"""

import os
from pathlib import Path

import pytest
from every_command import EVERY

from cascadezoo.cli import doctor, main

GOLDEN = Path(__file__).with_name("golden")
HELPS = {f"help {' '.join(path)}".strip(): [*path, "--help"] for path, _ in EVERY}
PRINTED = {
    "list": ["list"],
    "list sorted": ["list", "--sort", "mask_ap", "--min-ap", "44", "--available"],
    "list columns": ["list", "*r50*", "--publisher", "paddle", "--columns", "name,ap,params,flops,license"],
    "list csv": ["list", "*shapes*", "--csv"],
    "info published": ["info", "cascade_mask_x101_64x4d_fpn_3x.mmdet"],
    "info wrong link": ["info", "cascade_r50_fpn_1x.detectron"],
    "info never published": ["info", "cascade_x101_64x4d_fpn_1x.detectron"],
    "info weak hash": ["info", "cascade_mask_vitdet_h_75ep"],
    "info moved configuration": ["info", "mask_x101_vd_64x4d_fpn_2x"],
    "info later figures": ["info", "mask_x152_32x8d_in5k_fpn_s1x"],
    "info in the package": ["info", "cascade_mask_r18_fpn_shapes"],
}
CALLS = HELPS | PRINTED
SHEET = "doctor"

FINDINGS = {
    "python": "CPython 3.11.7",
    "system": "Linux-6.1-x86_64-with-glibc2.36",
    "packages": {"cascadezoo": "0.1.0", "torch": "2.10.1", "numpy": None, "opencv-python-headless": "5.0.0.93"},
    "cuda": None,
    "gpus": [],
    "compilers": {"c++": "/usr/bin/c++", "nvcc": "no nvcc of CUDA (none found): install it, or name it in CUDA_HOME"},
    "ops": {
        "CASCADEZOO_OPS": "auto",
        "cpu": {"loaded": False, "state": "not built"},
        "cuda": {"loaded": False, "state": "not built"},
        "cache": "/home/me/.cache/cascadezoo/ops/linux-x86_64-0123456",
    },
    "remedies": {
        "torch": "older than 2.11: run `pip install --upgrade 'torch>=2.11'`",
        "numpy": "run `pip install numpy`",
        "GPUs": "models run on the CPU; for an NVIDIA GPU install torch with CUDA (https://pytorch.org)",
        "ops, cpu": "run `cascadezoo build-ops`",
    },
    "problems": [
        "torch and torchvision do not work together: RuntimeError: operator torchvision::nms does not exist: "
        "run `pip install --upgrade torch torchvision` in one command, so that they fit"
    ],
}


def compare(name: str, text: str) -> None:
    path = GOLDEN / f"{name.replace(' ', '_')}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text
    lines = [] if name == "list csv" else text.splitlines()
    assert not [line for line in lines if len(line) > 80 and "://" not in line]


@pytest.mark.parametrize("name", CALLS)
def test_what_is_shown_on_80_columns(name: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    for _, command in EVERY:  # click keeps the help option that it made for whoever asked first
        monkeypatch.setattr(command, "_help_option", None, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        main(CALLS[name])
    out, err = capsys.readouterr()
    assert end.value.code == 0
    compare(name, out + err)


def test_the_doctors_sheet_on_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    compare(SHEET, "\n".join(doctor._sheet(FINDINGS)) + "\n")


def test_every_file_is_of_a_call() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {name.replace(" ", "_") for name in (*CALLS, SHEET)}
