"""A newcomer's first look: a checkpoint in mmdetection's format becomes a model that computes what mmdetection does.

    make demo

The publishers' real weights are hundreds of megabytes each, so a stand-in is made here: every tensor of the real model
with its real name and shape, filled with reproducible numbers, saved as mmdetection saves it.  What mmdetection's own
code found with it on the same image is recorded in this folder.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import cascadezoo
from cascadezoo.errors import CascadezooError

import procedural
from cases import HERE, Case
from compare import load_expected

CASE = Case(HERE / "mmdet" / "cascade_mask_r50_fpn")


def main() -> int:
    """Make, convert, load, detect, compare, draw; 0 when the comparison holds."""
    parser = argparse.ArgumentParser(description="Convert a checkpoint, detect on an image, compare with mmdetection.")
    parser.add_argument("--output", type=Path, default=Path("demo"))
    output: Path = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False, soft_wrap=True)
    case = procedural.load_case(CASE.folder)
    entry = case["entries"][0]
    checkpoint, weights = output / "cascade_mask_r50_fpn_1x_coco.pth", output / f"{entry}.safetensors"

    console.print(f"[bold]1.[/] A checkpoint in mmdetection's own format: {checkpoint}")
    procedural.write_checkpoint(checkpoint, "mmdet", procedural.make_tensors(case))

    console.print(f"[bold]2.[/] cascadezoo convert --from mmdet {checkpoint} --entry {entry} -o {weights} --force")
    start = time.perf_counter()
    report = cascadezoo.convert(checkpoint, source="mmdet", entry=entry, output=weights, force=True)
    seconds = time.perf_counter() - start
    console.print(
        f"   {len(report.mapped)} tensors mapped, {len(report.ignored)} ignored, {len(report.refused)} pickled "
        f"objects refused, {weights.stat().st_size / 2**20:.0f} MiB of safetensors in {seconds:.1f} s"
    )

    console.print(f'[bold]3.[/] model = cascadezoo.load("{entry}", weights="{weights}")')
    model = cascadezoo.load(entry, weights=weights, min_size=case["min_size"], max_size=case["max_size"])
    start = time.perf_counter()
    detections = model.predict(CASE.image)
    seconds = time.perf_counter() - start
    threads = torch.get_num_threads()
    console.print(
        f"   detections = model.predict(image): {len(detections)} in {seconds:.1f} s on {threads} CPU threads"
    )

    found = CASE.compare(detections)
    console.print(_table(found, len(load_expected(CASE.folder)["boxes"])))
    image = output / "detections.png"
    detections[:12].plot(CASE.image).save(image)
    console.print(f"[bold]4.[/] The twelve best detections, drawn: {image}")
    console.print("   (The weights are a stand-in, so the class names mean nothing here; the equality does.)")
    return 0 if found["ok"] else 1


def _table(found: dict, expected: int) -> Table:
    title = "the same checkpoint on the same image: recorded from mmdetection 3.3, and ours"
    table = Table(title=title, title_justify="left")
    for heading in ("", "mmdetection", "cascadezoo", "bound"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row("detections", str(expected), str(found["ours"]), "")
    table.add_row("found by both", "", f"{found['pairs']} ({found['matched']:.0%})", "97%")
    table.add_row("box difference (p95)", "", f"{found['box_p95']:.4f} px", "0.1 px")
    table.add_row("score difference (p95)", "", f"{found['score_p95']:.6f}", "0.001")
    table.add_row("mask IoU (mean)", "", f"{found['mask_iou_mean']:.4f}", "0.995")
    table.add_row("verdict", "", "[green]equal[/]" if found["ok"] else "[red]NOT equal[/]", "")
    return table


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CascadezooError as error:
        sys.exit(f"demo: {error}")
