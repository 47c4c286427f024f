"""The command line: one verb a command, data on stdout, messages and progress on stderr.

Exit codes: 0 ok, 1 a verification failed, 2 usage, 3 data, weights or network missing, 4 a file that cannot be
trusted or read, 130 Ctrl-C.  Commands live in this package's modules and are imported only when called.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn

import click

from cascadezoo.errors import CascadezooError, FileError
from cascadezoo.version import __version__

_COMMANDS = {
    "list": "cascadezoo.cli.zoo:list_command",
    "info": "cascadezoo.cli.zoo:info_command",
    "download": "cascadezoo.cli.download:download_command",
    "convert": "cascadezoo.cli.checkpoints:convert_command",
    "export": "cascadezoo.cli.export:export_command",
    "inspect": "cascadezoo.cli.checkpoints:inspect_command",
    "predict": "cascadezoo.cli.predict:predict_command",
    "publish": "cascadezoo.cli.publish:publish_command",
    "train": "cascadezoo.cli.train:train_command",
    "verify": "cascadezoo.cli.verify:verify_command",
    "bench": "cascadezoo.cli.bench:bench_command",
    "report": "cascadezoo.cli.report:report_command",
    "build-ops": "cascadezoo.cli.ops:build_ops_command",
    "doctor": "cascadezoo.cli.doctor:doctor_command",
    "cache": "cascadezoo.cli.cache:cache_command",
    "links": "cascadezoo.cli.links:links_command",
    "shapes": "cascadezoo.cli.shapes:shapes_command",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cascadezoo")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Every published Cascade R-CNN detector in one PyTorch implementation."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code; errors are one sentence on stderr."""
    _open_streams()
    args = list(sys.argv[1:] if argv is None else argv)
    debug = bool(args) and args[0] == "--debug"
    try:
        code = cli.main(args=args, prog_name="cascadezoo", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("cascadezoo: interrupted", err=True)
        code = 130
    except (BrokenPipeError, SystemExit) as end:
        # the reader of our output has gone, as in `cascadezoo list | head`: click wraps it and exits with 1
        if isinstance(end, SystemExit) and not type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        if debug:
            raise
        click.echo(f"cascadezoo: {_sentence(error)}", err=True)
        code = error.exit_code if isinstance(error, CascadezooError) else FileError.exit_code
    sys.exit(code if isinstance(code, int) else 0)


def _open_streams() -> None:
    """Standard streams that take any text: a closed one goes nowhere, and no terminal's encoding ends a command."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # `>&-`; what is opened next would take its number and the output with it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (for the life of the process)
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _sentence(error: Exception) -> str:
    if isinstance(error, CascadezooError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"unexpected {type(error).__name__}: {error} (please report it; --debug shows where)"
