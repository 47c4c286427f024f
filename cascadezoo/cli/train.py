"""``cascadezoo train``: an entry, from scratch or fine-tuned, on a COCO-format data set."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

_FILE = click.Path(path_type=Path)


@click.command("train")
@click.option("--entry", metavar="NAME", help="The network, and with it its publisher's recipe.")
@click.option("--pretrained", is_flag=True, help="Start from the entry's published weights.")
@click.option("--weights", type=_FILE, help="Start from this file: canonical, or the publisher's own.")
@click.option("--train-json", type=_FILE, help="COCO annotations to learn from.")
@click.option("--train-images", type=_FILE, help="The folder of their images.")
@click.option("--val-json", type=_FILE, help="COCO annotations to evaluate on.")
@click.option("--val-images", type=_FILE, help="The folder of their images; default: that of --train-images.")
@click.option("--keep-empty", is_flag=True, help="Learn from images without objects too.")
@click.option("--num-classes", default="auto", show_default=True, help="Checked against the data, which decide.")
@click.option("--schedule", metavar="1x|2x|20e|3x|N", help="A publisher's, or epochs; default: the entry's own.")
@click.option("--batch-size", type=int, help="Images a process and pass.  [default: 2]")
@click.option("--accumulate", type=int, help="Passes a step.  [default: 1]")
@click.option("--lr", type=float, help="Learning rate of the whole batch; default: the recipe's, scaled to it.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "bf16"]), help="[default: fp32]")
@click.option("--ema/--no-ema", default=None, help="Average the weights; default: as the recipe.")
@click.option("--clip-grad", type=float, help="Largest norm of the gradients, 0 for none; default: as the recipe.")
@click.option("--min-size", type=int, help="Shorter side of the images, in pixels; default: the entry's own.")
@click.option("--max-size", type=int, help="Longer side of the images, in pixels; default: the entry's own.")
@click.option("--seed", type=int, help="Of all randomness.  [default: 0]")
@click.option("--run-dir", type=_FILE, required=True, help="The folder of the run.")
@click.option("--resume", is_flag=True, help="Go on with the run in --run-dir; its options need not be given again.")
@click.option("--workers", type=int, help="Processes that prepare images.  [default: 2]")
@click.option("--device", help="Such as cpu or cuda:1; default: cuda where there is one.")
@click.option("--eval-every", type=int, help="Epochs between evaluations.  [default: 1]")
@click.option("--save-every", type=int, help="Steps between checkpoints, besides those evaluated.  [default: 1000]")
@click.option("--log-every", type=int, help="Steps between lines of the log.  [default: 10]")
@click.option("--keep", type=int, help="How many checkpoints are kept.  [default: 2]")
@click.pass_context
def train_command(ctx: click.Context, /, run_dir: Path, resume: bool, num_classes: str, **options: Any) -> None:
    """Train a network on a COCO-format data set; without --pretrained or --weights, from scratch.

    The run's folder receives checkpoints, log.jsonl, curves.png, best.safetensors and final.safetensors; the path of
    the last goes to stdout.  A run that was stopped goes on with --resume, exactly as if it had not been.  With
    several GPUs or processes: torchrun --nproc-per-node N -m cascadezoo train ...
    """
    from cascadezoo.environment import is_first_process
    from cascadezoo.training.config import TrainingConfig
    from cascadezoo.training.loop import train

    given = {name: value for name, value in options.items() if _is_given(ctx, name)}
    if num_classes != "auto":
        given["num_classes"] = num_classes
    before = TrainingConfig.read(run_dir).model_dump() if resume else {}
    for name in () if resume else ("entry", "train_json", "train_images"):
        if name not in given:
            raise click.UsageError(f"Missing option '--{name.replace('_', '-')}'.")
    final = train(TrainingConfig.of(**{**before, **given, "run_dir": run_dir}), resume=resume)
    if is_first_process():
        click.echo(final)


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
