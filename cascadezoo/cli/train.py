"""``cascadezoo train``: an entry, from scratch or fine-tuned, on a COCO-format data set."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cascadezoo.cli.command import Command
from cascadezoo.cli.parameters import Device, EntryName, InputFile, InputFolder, OutputFolder, WeightsFile
from cascadezoo.cli.terminal import echo
from cascadezoo.environment import is_first_process


class _Described(click.Option):
    """An option of ``TrainingConfig``, whose description and default there are its help."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from cascadezoo.training.config import TrainingConfig

        field = TrainingConfig.model_fields[str(self.name)]
        default = field.default if isinstance(field.default, int | str) and not self.is_flag else None
        self.help = f"{field.description}" + ("" if default is None else f"  [default: {default}]")
        return super().get_help_record(ctx)


@click.command(
    "train",
    cls=Command,
    short_help="Fine-tune an entry on your COCO-format data",
    examples=(
        "cascadezoo train --entry cascade_mask_r50_fpn_1x.mmdet --pretrained \\\n"
        "    --train-json train.json --train-images train --run-dir run",
        "cascadezoo train --entry cascade_r50_fpn_1x.mmdet --train-json train.json \\\n"
        "    --train-images train --run-dir run --check",
        "cascadezoo train --run-dir run --resume",
        "cascadezoo train --run-dir run --extend 24",
    ),
)
@click.option("--entry", metavar="NAME", type=EntryName(), cls=_Described)
@click.option("--pretrained", is_flag=True, cls=_Described)
@click.option("--weights", metavar="FILE", type=WeightsFile(), cls=_Described)
@click.option("--train-json", metavar="FILE", type=InputFile(), cls=_Described)
@click.option("--train-images", metavar="DIR", type=InputFolder(), cls=_Described)
@click.option("--val-json", metavar="FILE", type=InputFile(), cls=_Described)
@click.option("--val-images", metavar="DIR", type=InputFolder(), cls=_Described)
@click.option("--keep-empty", is_flag=True, cls=_Described)
@click.option("--repeat-factor", metavar="PART", type=float, cls=_Described)
@click.option("--classes", metavar="NAME", multiple=True, cls=_Described)
@click.option("--num-classes", metavar="N", default="auto", show_default=True, cls=_Described)
@click.option("--schedule", metavar="1x|2x|20e|3x|N", cls=_Described)
@click.option("--batch-size", metavar="N|auto", cls=_Described)
@click.option("--accumulate", metavar="N", type=int, cls=_Described)
@click.option("--lr", metavar="RATE", type=float, cls=_Described)
@click.option("--precision", type=click.Choice(["fp32", "fp16", "bf16"]), cls=_Described)
@click.option("--ema/--no-ema", default=None, cls=_Described)
@click.option("--clip-grad", metavar="NORM", type=float, cls=_Described)
@click.option("--min-size", metavar="N", type=int, cls=_Described)
@click.option("--max-size", metavar="N", type=int, cls=_Described)
@click.option("--freeze", multiple=True, type=click.Choice(["backbone", "neck", "rpn"]), cls=_Described)
@click.option("--seed", metavar="N", type=int, cls=_Described)
@click.option("--run-dir", metavar="DIR", type=OutputFolder(), required=True, cls=_Described)
@click.option("--resume", is_flag=True, help="Go on with the run in --run-dir; its options need not be given again.")
@click.option(
    "--extend",
    metavar="1x|2x|20e|3x|N",
    help="Go on with the run in --run-dir under another schedule, named as with --schedule, from the step it reached.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Train nothing: look at all data, try a step, and say what the run would be, its time and disk included.",
)
@click.option("--workers", metavar="N", type=int, cls=_Described)
@click.option("--device", type=Device(), cls=_Described)
@click.option("--eval-every", metavar="N", type=int, cls=_Described)
@click.option("--best-by", metavar="FIGURE", cls=_Described)
@click.option("--patience", metavar="N", type=int, cls=_Described)
@click.option("--val-loss", is_flag=True, cls=_Described)
@click.option("--tensorboard", is_flag=True, cls=_Described)
@click.option("--wandb", metavar="[PROJECT]", is_flag=False, flag_value="cascadezoo", cls=_Described)
@click.option("--save-every", metavar="N", type=int, cls=_Described)
@click.option("--log-every", metavar="N", type=int, cls=_Described)
@click.option("--keep", metavar="N", type=int, cls=_Described)
@click.pass_context
def train_command(
    ctx: click.Context,
    /,
    run_dir: Path,
    resume: bool,
    extend: str | None,
    check: bool,
    num_classes: str,
    **options: Any,
) -> None:
    """Train a network on a COCO-format data set; without --pretrained or --weights, from scratch.

    The run's folder receives checkpoints, log.jsonl, pictures of curves and evaluations, best.safetensors and
    final.safetensors; the path of the last goes to stdout.  A run that was stopped goes on with --resume, exactly as if
    it had not been.  With several GPUs or processes: torchrun --nproc-per-node N -m cascadezoo train ...
    """
    from cascadezoo.training.config import TrainingConfig
    from cascadezoo.training.preconditions import require_startable

    given = {name: value for name, value in options.items() if _is_given(ctx, name)}
    if num_classes != "auto":
        given["num_classes"] = num_classes
    if extend is not None:
        if "schedule" in given:
            raise click.UsageError("--extend names the schedule to go on under: give it without --schedule", ctx)
        given["schedule"], resume = extend, True
    if check and resume:
        raise click.UsageError("--check looks at a run that is to begin: give it without --resume and --extend", ctx)
    before = TrainingConfig.read(run_dir).model_dump() if resume else {}
    for name in () if resume else ("entry", "train_json", "train_images"):
        if name not in given:
            raise click.UsageError(f"Missing option '--{name.replace('_', '-')}'.", ctx)
    config = TrainingConfig.of(**{**before, **given, "run_dir": run_dir})
    require_startable(config, resume=resume, extend=extend is not None)
    if check:
        from cascadezoo.cli.train_check import check_run

        check_run(config)
        return
    from cascadezoo.training.loop import train  # and torch, now that there is something to train

    final = train(config, resume=resume, extend=extend is not None)
    if is_first_process():
        echo(str(final))


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
