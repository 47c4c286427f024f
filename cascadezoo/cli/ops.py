"""``cascadezoo build-ops``: compiles the operators."""

import click

from cascadezoo.cli.command import Command
from cascadezoo.cli.terminal import echo
from cascadezoo.errors import NoCompiler
from cascadezoo.hub.progress import steps
from cascadezoo.ops import building


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
    for kind in (*building.KINDS, building.SCHEMAS) if cuda else ("cpu", building.SCHEMAS):
        try:
            with steps(f"compiling the operators: {kind}"):
                library = building.build(kind, wanted if kind == "cuda" else (), force)
            echo(str(library))
        except NoCompiler as reason:
            echo(f"not built for {kind}: {reason}", err=True)
