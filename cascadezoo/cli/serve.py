"""``cascadezoo serve``: a model behind HTTP."""

import os
from importlib import import_module
from pathlib import Path

import click

from cascadezoo.cli.command import Command
from cascadezoo.cli.parameters import Device, ModelName, Number, WeightsFile
from cascadezoo.cli.terminal import echo, log_shown
from cascadezoo.errors import MissingResource
from cascadezoo.serving.settings import Settings

_MEBIBYTE = 2**20
_NEEDED = ("fastapi", "uvicorn", "python_multipart")  # the last one by forms alone, and then too late to say so
_DEFAULTS = Settings()


@click.command(
    "serve",
    cls=Command,
    short_help="A model behind HTTP",
    examples=(
        "cascadezoo serve cascade_mask_r18_fpn_shapes",
        "cascadezoo serve cascade_mask_r50_fpn_1x.mmdet \\\n"
        "  --host 0.0.0.0 --device cuda --precision fp16 --max-batch 8",
    ),
)
@click.argument("name", type=ModelName())
@click.option(
    "--weights", metavar="FILE", type=WeightsFile(), help="A file of weights, canonical or the publisher's own."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0: on all.")
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="The port to listen on; 0: any free one.",
)
@click.option("--device", type=Device(), help="Such as cpu or cuda:1; default: cuda where there is one.")
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32", show_default=True,
    help="What the network computes in.",
)  # fmt: skip
@click.option(
    "--optimize/--no-optimize", default=None,
    help="Prepare the network for the device first; default: on a CPU.  Scores may differ in their last digits.",
)  # fmt: skip
@click.option(
    "--workers", metavar="N", type=click.IntRange(min=1),
    help="Batches computed on at once, by threads of this process.  On a CPU they share the cores; default: one per "
    "core, at most 4.  With --device cuda they go round the GPUs; default: 1.",
)  # fmt: skip
@click.option(
    "--max-batch", metavar="N", type=click.IntRange(min=1), default=_DEFAULTS.max_batch, show_default=True,
    help="Images at a time, of equal padded size; more is faster on a GPU, and the last digits may differ.",
)  # fmt: skip
@click.option(
    "--max-wait-ms", metavar="MS", type=Number(min=0), default=1000 * _DEFAULTS.max_wait, show_default=True,
    help="How long an image waits for others to share its batch.",
)  # fmt: skip
@click.option(
    "--max-requests", metavar="N", type=click.IntRange(min=1), default=_DEFAULTS.max_requests, show_default=True,
    help="Requests in the server at a time; further ones are answered with 503.",
)  # fmt: skip
@click.option(
    "--max-body-mb", metavar="MB", type=Number(0.001, 2**20), show_default=True,
    default=_DEFAULTS.max_body / _MEBIBYTE, help="Size of a request's body, in MiB.",
)  # fmt: skip
@click.option(
    "--max-pixels", metavar="N", type=click.IntRange(min=1), default=_DEFAULTS.max_pixels, show_default=True,
    help="Pixels of an image, as its header claims.",
)  # fmt: skip
@click.option(
    "--score", metavar="SCORE", type=Number(0, 1), default=_DEFAULTS.score, show_default=True,
    help="Lowest score to answer; below the entry's own (0.05), the network keeps lower scores too.",
)  # fmt: skip
def serve_command(
    name: str,
    weights: Path | None,
    host: str,
    port: int,
    device: str | None,
    precision: str,
    optimize: bool | None,
    workers: int | None,
    max_batch: int,
    max_wait_ms: float,
    max_requests: int,
    max_body_mb: float,
    max_pixels: int,
    score: float,
) -> None:
    """Answer images sent to POST /predict with what the model NAME finds on them.

    The answer is COCO's JSON with run-length encodings or polygons, or the annotated picture.  Further addresses:
    /healthz, /healthz/ready, /metadata, and /docs for a description of all (docs/serving.md).  The log goes to stderr,
    a line for each request.  SIGTERM or Ctrl-C end the server once the requests that it has are answered.

    It has neither passwords nor TLS: put it behind a server that has both before strangers can reach it.
    """
    settings = Settings(
        score=score,
        max_batch=max_batch,
        max_wait=max_wait_ms / 1000,
        max_body=int(max_body_mb * _MEBIBYTE),
        max_pixels=max_pixels,
        max_requests=max_requests,
    )
    # OpenCV reads it when it is loaded: what fails is told by us, in one sentence
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    for package in _NEEDED:
        try:
            import_module(package)
        except ImportError as error:
            needed = "pip install fastapi uvicorn python-multipart"
            raise MissingResource(f"a server cannot be started ({error}): {needed}") from error
    from cascadezoo.hub.progress import steps
    from cascadezoo.serving.app import App
    from cascadezoo.serving.models import Models
    from cascadezoo.serving.server import address, bound, run

    with bound(host, port) as opened:
        with steps(f"loading {name}"):
            models = Models(
                name,
                device=device,
                workers=workers,
                precision=precision,
                optimize=optimize,
                score=score,
                weights=weights,
            )
        places = ", ".join(f"{at} ({threads} thread{'s' * (threads != 1)})" for at, threads in models.workers)
        line = f"serving {name} at {address(opened)}, workers: {places}"
        with log_shown("python_multipart"):  # what it warns of, the client is told
            if run(App(models, settings), opened, lambda: echo(line, err=True)):
                echo("ended: all requests are answered", err=True)
            else:
                echo("ended: requests that were still there are not answered", err=True)
