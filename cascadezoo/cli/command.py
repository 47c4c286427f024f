"""Commands that show an example of their use."""

from collections.abc import Sequence
from typing import Any

import click


class _WithExamples(click.Command):
    """``examples``: lines as typed into a shell, a long one broken as a shell allows; they end the help."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, each on a line of its own, so that they can be copied."""
        with formatter.section("Examples"):
            for line in "\n".join(self.examples).split("\n"):
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Command(_WithExamples):
    """A command; ``short_help``, of at most 45 characters, is its line in the list of commands."""


class Group(_WithExamples, click.Group):
    """A command with commands of its own."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which they are defined."""
        return list(self.commands)
