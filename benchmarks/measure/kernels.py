"""What nvcc made of the CUDA kernels, read without a GPU: ``python -m cascadezoo.benchmarks.measure.kernels``.

Builds the library, reads each kernel's registers, stack, where registers are spilled to, and shared memory from it with
the ``cuobjdump`` of Triton's wheel, counts its 64-bit and 128-bit loads, and works out how much of a multiprocessor its
threads can fill.  Ends with exit code 1 where a kernel falls below the bars of ``broken``.
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.errors import MissingResource
from cascadezoo.ops import building

ARCHS = ("80", "90", "100")
WARP = 32


class Limits(NamedTuple):
    """What a multiprocessor holds (CUDA C++ Programming Guide, technical specifications per compute capability)."""

    warps: int
    blocks: int
    registers: int
    shared: int  # bytes
    unreported: int  # bytes of it that each block takes for the system, where cuobjdump does not count them


LIMITS = {
    "sm_80": Limits(64, 32, 65536, 164 << 10, 1024),
    "sm_90": Limits(64, 32, 65536, 228 << 10, 0),
    "sm_100": Limits(64, 32, 65536, 228 << 10, 0),
}


class Launch(NamedTuple):
    """How a detector of the size that ``main`` names launches a kernel."""

    threads: int
    shared: int  # bytes of dynamic shared memory


LAUNCHES = {  # by the beginning of a kernel's name, the first that fits
    "paste_kernel": Launch(256, 0),
    "runs_kernel": Launch(512, 0),
    # as many of InternImage's groups of 16 channels as fill a block: 32 pixels, 9 points, 4 weights and an index each
    "dcnv3_fused_kernel<__half, 8": Launch(320, 5 * 32 * 9 * 20),
    "dcnv3_fused_kernel<__nv_bfloat16, 8": Launch(320, 5 * 32 * 9 * 20),
    "dcnv3_fused_kernel<float, 4": Launch(256, 2 * 32 * 9 * 20),
    "dcnv3_fused_kernel<double, 2": Launch(256, 32 * 9 * 36),
    "dcnv3_fused_kernel<double": Launch(320, 32 * 9 * 36),
    "dcnv3_fused_kernel": Launch(320, 32 * 9 * 20),
    "dcnv3_": Launch(256, 0),
    "preprocess_kernel": Launch(256, 0),
    # weights along both axes of 336 + 4 * 7 cells, and three integers a bin
    "forward_kernel<double": Launch(256, 2 * (364 * 8 + 3 * 7 * 4)),
    "forward_kernel": Launch(256, 2 * (364 * 4 + 3 * 7 * 4)),
    "backward_kernel<double": Launch(256, 2 * (364 * 8 + 3 * 7 * 4)),
    "backward_kernel": Launch(256, 2 * (364 * 4 + 3 * 7 * 4)),
    # of 1000 candidates: 1024 ranks, a box of five numbers each, and which are gone
    "group_kernel<float": Launch(256, 1024 * 8 + 1000 * (5 * 4 + 1)),
    "group_kernel<double": Launch(256, 1024 * 8 + 1000 * (5 * 8 + 1)),
    "merge_kernel": Launch(1024, 8192 * 8),  # ranks of 5 levels of 1000, or of 80 classes of 100
    "rpn_select_kernel": Launch(1024, 1024 * 8),  # ranks of 1000 anchors
}
# they read maps, masks or images: other warps hide the waiting
HALF_FULL = ("dcnv3_", "forward_kernel", "backward_kernel", "paste_kernel", "runs_kernel", "preprocess_kernel")


def occupancy(limits: Limits, registers: int, threads: int, shared: int) -> float:
    """The share of a multiprocessor's warps that blocks of a kernel can fill; ``shared`` bytes a block."""
    warps = threads // WARP
    of_warp = -(-registers * WARP // 256) * 256  # registers are given out by 256
    blocks = min(limits.blocks, limits.warps // warps, limits.registers // of_warp // warps)
    if of_block := shared + limits.unreported:
        blocks = min(blocks, limits.shared // of_block)
    return blocks * warps / limits.warps


def usages(text: str) -> list[dict[str, Any]]:
    """The kernels in ``cuobjdump --dump-resource-usage``'s words, names still mangled."""
    found, arch, name = [], "", ""
    for line in text.splitlines():
        if match := re.search(r"arch = (sm_\d+)", line):
            arch = match[1]
        elif match := re.search(r"Function (\S+):", line):
            name = match[1]
        elif match := re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line):
            registers, stack, shared, local = map(int, match.groups())
            found.append(
                {
                    "kernel": name,
                    "arch": arch,
                    "registers": registers,
                    "stack": stack,
                    "local": local,
                    "static_shared": shared,
                }
            )
    return found


def loads(sass: str, bits: int) -> Counter[str]:
    """Loads of so many bits at once from global memory, by kernel, in ``cuobjdump --dump-sass``'s words."""
    counts: Counter[str] = Counter()
    name = ""
    for line in sass.splitlines():
        if match := re.search(r"Function : (\S+)", line):
            name = match[1]
        counts[name] += bool(re.search(rf"\bLDG\.E\S*\.{bits}\b", line))
    return counts


def plain(name: str) -> str:
    """A demangled name without namespaces, arguments and the words that all kernels share."""
    name = re.sub(r"cascadezoo::|\(anonymous namespace\)::|^void ", "", name)
    depth = 0
    for at, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            return name[:at]
    return name


def described(usage: dict[str, Any], pair_loads: int, wide_loads: int) -> dict[str, Any]:
    """A row of the report: a usage with a plain name, its loads of 64 and of 128 bits, and what follows from it."""
    launch = next(launch for start, launch in LAUNCHES.items() if usage["kernel"].startswith(start))
    limits, registers = LIMITS[usage["arch"]], usage["registers"]
    return {
        **usage,
        "threads": launch.threads,
        "dynamic_shared": launch.shared,
        "pair_loads": pair_loads,
        "wide_loads": wide_loads,
        "occupancy_by_registers": occupancy(limits, registers, launch.threads, 0),
        "occupancy": occupancy(limits, registers, launch.threads, usage["static_shared"] + launch.shared),
    }


def broken(rows: list[dict[str, Any]]) -> list[str]:
    """Where a kernel falls below its bars, a sentence each.

    Kernels of float32 and half types use neither stack nor local memory; those that read maps fill half a
    multiprocessor; those that are given packs of numbers load 128 bits at once, or 64 where four halves are a box's
    deltas.  Kernels of double are reported only.
    """
    found = []
    for row in rows:
        name, where = row["kernel"], f"{row['kernel']} on {row['arch']}"
        if "double" in name:
            continue
        if row["stack"] or row["local"]:
            found.append(f"{where} uses {row['stack']} bytes of stack and {row['local']} of local memory")
        if name.startswith(HALF_FULL) and row["occupancy"] < 0.5:
            found.append(f"{where} fills {row['occupancy']:.0%} of a multiprocessor")
        if (re.search(r", [48](?!\d)", name) or name == "rpn_select_kernel<float>") and not row["wide_loads"]:
            found.append(f"{where} has no 128-bit load")
        if name in ("rpn_select_kernel<__half>", "rpn_select_kernel<__nv_bfloat16>") and not row["pair_loads"]:
            found.append(f"{where} has no 64-bit load")
    return found


def measure(library: Path) -> list[dict[str, Any]]:
    """The rows of a library's kernels.

    Raises:
        MissingResource: Triton's wheel, which has the tool, is not installed.
    """
    spec = find_spec("triton")
    if spec is None or spec.origin is None:
        raise MissingResource("cuobjdump is part of Triton's wheel, which is not installed: install triton")
    tool = Path(spec.origin).parent / "backends/nvidia/bin/cuobjdump"

    def said(*command: str | Path, given: str | None = None) -> str:
        return subprocess.run(command, input=given, check=True, capture_output=True, text=True).stdout

    found = [usage for usage in usages(said(tool, "--dump-resource-usage", library)) if usage["arch"] in LIMITS]
    sass = {arch: said(tool, "--dump-sass", "--gpu-architecture", arch, library) for arch in LIMITS}
    pairs, wide = ({arch: loads(text, bits) for arch, text in sass.items()} for bits in (64, 128))
    names = said("c++filt", given="\n".join(usage["kernel"] for usage in found)).splitlines()
    rows = [
        described({**usage, "kernel": plain(name)}, *(of[usage["arch"]][usage["kernel"]] for of in (pairs, wide)))
        for usage, name in zip(found, names, strict=True)
    ]
    return sorted(rows, key=lambda row: (row["kernel"], int(row["arch"].removeprefix("sm_"))))


def main() -> None:
    """Build, print the table, write the report."""
    parser = argparse.ArgumentParser(description="Registers, stack, shared memory and occupancy of the CUDA kernels.")
    parser.add_argument("--output", type=Path, default=RESULTS / "kernels.json")
    options = parser.parse_args()
    rows = measure(building.build("cuda", ARCHS))
    print(f"{'kernel':72} arch   regs stack local shared 128-bit occupancy")
    for row in rows:
        shared = row["static_shared"] + row["dynamic_shared"]
        print(
            f"{row['kernel'][:72]:72} {row['arch']:6} {row['registers']:4} {row['stack']:5} {row['local']:5}"
            f" {shared:6} {row['wide_loads']:7} {row['occupancy_by_registers']:4.0%} {row['occupancy']:4.0%}"
        )
    write_report(options.output, {"benchmark": "kernels", "size": "800x1344, 1000 boxes, 7x7", "kernels": rows})
    print(f"written to {options.output}")
    if faults := broken(rows):
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
