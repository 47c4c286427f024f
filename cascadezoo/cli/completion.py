"""``cascadezoo completion``: a script that teaches a shell the commands, options and names of entries."""

import click
from click.shell_completion import get_completion_class

from cascadezoo.cli.command import Command
from cascadezoo.cli.terminal import echo_text

SHELLS = ("bash", "zsh", "fish")


@click.command(
    "completion",
    cls=Command,
    short_help="Let the tab key complete names and options",
    examples=(
        'eval "$(cascadezoo completion bash)"',
        'eval "$(cascadezoo completion zsh)"',
        "cascadezoo completion fish > ~/.config/fish/completions/cascadezoo.fish",
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print a script for SHELL; where it has run, the tab key completes commands, options and entries' names.

    Put the line for your shell into ~/.bashrc or ~/.zshrc (there after compinit); for fish, run it once.
    """
    complete = get_completion_class(shell)
    assert complete is not None  # click has all of SHELLS
    root = ctx.find_root()
    echo_text(complete(root.command, {}, "cascadezoo", "_CASCADEZOO_COMPLETE").source())
