"""The command line: one verb a command, data on stdout, messages and progress on stderr.

Exit codes: 0 ok, 1 a verification failed, 2 usage, 3 data, weights or network missing, 4 a file that cannot be
trusted or read, 130 Ctrl-C.  Commands live in this package's modules and are imported only when called.
"""

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from cascadezoo.cli.command import Group
from cascadezoo.cli.streams import open_streams, output_failed, silence
from cascadezoo.cli.terminal import echo, echo_text, echo_usage_error, messages_shown
from cascadezoo.errors import BuildError, CascadezooError, FileError
from cascadezoo.version import __version__

_COMMANDS = {
    "demo": "cascadezoo.cli.demo:demo_command",
    "list": "cascadezoo.cli.zoo_list:list_command",
    "info": "cascadezoo.cli.zoo:info_command",
    "download": "cascadezoo.cli.download:download_command",
    "convert": "cascadezoo.cli.checkpoints:convert_command",
    "export": "cascadezoo.cli.export:export_command",
    "inspect": "cascadezoo.cli.checkpoints:inspect_command",
    "predict": "cascadezoo.cli.predict:predict_command",
    "serve": "cascadezoo.cli.serve:serve_command",
    "publish": "cascadezoo.cli.publish:publish_command",
    "data": "cascadezoo.cli.data:data_command",
    "train": "cascadezoo.cli.train:train_command",
    "verify": "cascadezoo.cli.verify:verify_command",
    "analyse": "cascadezoo.cli.analyse:analyse_command",
    "bench": "cascadezoo.cli.bench:bench_command",
    "report": "cascadezoo.cli.report:report_command",
    "build-ops": "cascadezoo.cli.ops:build_ops_command",
    "doctor": "cascadezoo.cli.doctor:doctor_command",
    "cache": "cascadezoo.cli.cache:cache_command",
    "lock": "cascadezoo.cli.lock:lock_command",
    "mirror": "cascadezoo.cli.mirror:mirror_command",
    "links": "cascadezoo.cli.links:links_command",
    "shapes": "cascadezoo.cli.shapes:shapes_command",
    "completion": "cascadezoo.cli.completion:completion_command",
}


class _LazyGroup(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    examples=("cascadezoo list '*r50*'", "cascadezoo predict cascade_mask_r18_fpn_shapes photo.jpg"),
)
@click.version_option(__version__, prog_name="cascadezoo")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Published Cascade R-CNN, Mask R-CNN and Faster R-CNN models in one PyTorch implementation."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code; errors are one sentence on stderr."""
    open_streams()
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        with messages_shown():
            code = cli.main(args=args, prog_name="cascadezoo", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        echo_usage_error(error)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        echo("cascadezoo: interrupted", err=True)
        code = 130
    except (BrokenPipeError, SystemExit) as end:
        # the reader of our output has gone, as in `cascadezoo list | head`: click wraps it and exits with 1
        if isinstance(end, SystemExit) and not type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
            raise
        silence(sys.stdout.fileno())
        code = 0
    except Exception as error:
        if args[:1] == ["--debug"]:
            for part in traceback.format_exception(error):  # a frame, or the error itself, whose message is one line
                (echo_text if part.startswith((" ", "\n", "Traceback")) else echo)(part.rstrip("\n"), err=True)
        if output_failed(error):
            silence(sys.stdout.fileno())
        _tell(error)
        code = error.exit_code if isinstance(error, CascadezooError) else FileError.exit_code
    sys.exit(code if isinstance(code, int) else 0)


def _tell(error: Exception) -> None:
    if isinstance(error, BuildError):  # the compiler's own lines follow
        echo_text(f"cascadezoo: {error}", err=True)
    else:
        echo(f"cascadezoo: {_sentence(error)}", err=True)


def _sentence(error: Exception) -> str:
    if isinstance(error, CascadezooError):
        return str(error)
    if isinstance(error, OSError) and output_failed(error):
        return f"standard output cannot be written: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"unexpected {type(error).__name__}: {error} (please report it; --debug shows where)"
