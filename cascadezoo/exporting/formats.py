"""The formats of a whole detector: what each can be told, and what writes it.  Without torch, for the command line.

A writer is called with the model, the options and the target; it checks what it has made beside PyTorch before anything
is at the target, and raises ``DepartsFromModel`` where the two differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cascadezoo.errors import MissingResource, UsageError
from cascadezoo.spec.model import PreprocessSpec

if TYPE_CHECKING:
    from cascadezoo.exporting.checking import Check

AXES = ("batch", "height", "width")
PRECISIONS = ("fp32", "fp16", "int8")
OPSETS = range(20, 22)
"""The versions of ONNX's operators that can be asked for: the first has all that is used, the one after the last a
RoiAlign of its own (22), while onnxruntime has that of 16 alone."""

WHAT_TO_GIVE = (
    "give --val-json and --val-images, annotated images that it was trained for, or pass --force to go without"
)
_MEASURING = ("val_json", "val_images")
_ONNX = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Options:
    """What a caller asks of a format; None: not asked, so the format's own default.

    Attributes:
        precision: one of ``PRECISIONS``.
        opset: the version of ONNX's operators.
        preprocess: the graph takes images at network scale, and normalises and pads them itself.
        dynamic: the axes of the input that may differ from call to call, of ``AXES``; the default is all.
        calibration: a folder of images to quantise by.
        val_json, val_images: COCO annotations and their images, on which the cost of fp16 and of int8 is measured.
        force: write a file that the check of its accuracy refuses.
    """

    precision: str | None = None
    opset: int | None = None
    preprocess: bool | None = None
    dynamic: tuple[str, ...] | None = None
    calibration: Path | None = None
    val_json: Path | None = None
    val_images: Path | None = None
    force: bool = False

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that may differ from call to call."""
        return AXES if self.dynamic is None else self.dynamic

    @property
    def is_narrow(self) -> bool:
        """Whether the file holds less than float32, which costs accuracy."""
        return self.precision not in (None, "fp32")

    def given(self) -> dict[str, Any]:
        """What was asked, without ``force``."""
        return {name: value for name, value in vars(self).items() if name != "force" and value is not None}


class Written(NamedTuple):
    """What a writer has written.

    Attributes:
        sha256: of the file; of the largest where there are several.
        check: its detections beside PyTorch's.
        notes: sentences for whoever asked for it.
    """

    sha256: str
    check: "Check"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        writer: "module:function" of ``write(model: Detector, options: Options, target: Path) -> Written``.
        suffix: the ending of its files; of a format that writes a folder none.
        takes: the names of the options that it takes.
        precisions: of those that it can be written in, the default first.
        packages: what has to be installed to write it.
        quantiser: what else in int8.
        second: the file that may lie beside one, by its name.
        pairs: there always is a second one, which is found by the suffix of the first.
    """

    writer: str
    suffix: str
    takes: frozenset[str]
    precisions: tuple[str, ...] = ("fp32",)
    packages: tuple[str, ...] = ()
    quantiser: tuple[str, ...] = ()
    second: Callable[[Path], Path] | None = None
    pairs: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether it writes a folder."""
        return not self.suffix

    def require(self, precision: str | None) -> None:
        """Raise MissingResource where a package is not there that writing it in this precision needs."""
        packages = (*self.packages, *(self.quantiser if precision == "int8" else ()))
        for package in packages:
            try:
                import_module(package)
            except ImportError as error:
                raise MissingResource(f"{package} is not installed: pip install {' '.join(packages)}") from error

    def write(self) -> Callable[..., Written]:
        """The writer, imported."""
        module, function = self.writer.split(":")
        writer: Callable[..., Written] = getattr(import_module(module), function)
        return writer


GRAPHS: dict[str, Format] = {
    "onnx": Format(
        "cascadezoo.exporting.to_onnx:write",
        ".onnx",
        frozenset({"precision", "opset", "preprocess", "dynamic", "calibration", *_MEASURING}),
        PRECISIONS,
        _ONNX,
        second=lambda target: target.with_name(f"{target.name}.data"),
    ),
    "openvino": Format(
        "cascadezoo.exporting.to_openvino:write",
        ".xml",
        frozenset({"precision", "preprocess", "dynamic", "calibration", *_MEASURING}),
        PRECISIONS,
        ("openvino", "onnx", "onnxscript"),
        ("nncf",),
        second=lambda target: target.with_suffix(".bin"),
        pairs=True,
    ),
    "pt2": Format("cascadezoo.exporting.packages:write_pt2", ".pt2", frozenset({"precision", "preprocess", "dynamic"})),
    "aoti": Format(
        "cascadezoo.exporting.packages:write_aoti", ".aoti.pt2", frozenset({"precision", "preprocess", "dynamic"})
    ),
    "triton": Format(
        "cascadezoo.exporting.to_triton:write",
        "",
        frozenset({"precision", "opset", "preprocess", "dynamic"}),
        packages=_ONNX,
    ),
}


def check_options(name: str, options: Options) -> None:
    """Raise UsageError where a format is asked for what it cannot do; ``name`` is of ``GRAPHS`` or a publisher's."""
    chosen = GRAPHS.get(name)
    takes = frozenset[str]() if chosen is None else chosen.takes
    if refused := [option for option in options.given() if option not in takes]:
        others = [other for other, one in GRAPHS.items() if refused[0] in one.takes]
        hint = f"; {' and '.join(others)} {'do' if len(others) > 1 else 'does'}" if others else ""
        raise UsageError(f"the format {name} does not take --{refused[0].replace('_', '-')}{hint}")
    if chosen is not None and options.precision not in (None, *chosen.precisions):
        raise UsageError(
            f"the format {name} is not written in {options.precision}: choose {' or '.join(chosen.precisions)}"
        )
    if options.calibration is not None and options.precision != "int8":
        raise UsageError("--calibration is for --precision int8 only")
    if not options.is_narrow and (unused := [option for option in _MEASURING if option in options.given()]):
        raise UsageError(f"--{unused[0].replace('_', '-')} is for --precision fp16 and int8 only")
    if (options.val_json is None) != (options.val_images is None):
        raise UsageError("--val-json and --val-images belong together: give both")
    if options.precision == "int8":
        if options.calibration is None:
            raise UsageError("int8 is calibrated on images: give a folder of some hundred with --calibration")
        if not options.calibration.is_dir():
            raise UsageError(f"no folder of images to calibrate on: {options.calibration}")
    if options.opset is not None and options.opset not in OPSETS:
        raise UsageError(f"--opset {options.opset}: choose one from {OPSETS[0]} to {OPSETS[-1]}")
    if wrong := [axis for axis in options.axes if axis not in AXES]:
        raise UsageError(f"{wrong[0]!r} is no axis of the input: choose of {', '.join(AXES)}")


def unmeasurable(options: Options) -> UsageError:
    """What to say where there are no data to measure the cost of a narrower precision on."""
    return UsageError(f"what {options.precision} costs this model cannot be measured: {WHAT_TO_GIVE}")


def dynamic_axes(spec: PreprocessSpec, options: Options) -> tuple[str, ...]:
    """The axes of a network's input that may differ from call to call: those asked for or, by default, all that can.

    A network that pads every image to one square takes pixels of no other size; images that its graph itself pads may
    have any.  Raises UsageError where it is asked for other pixels, and for fp16 and int8 where height or width are
    fixed, though not by a square: images are as high and wide as the entry resizes them, to calibrate and to measure.
    """
    if spec.square and not options.preprocess:
        if options.dynamic is not None and {"height", "width"} & {*options.dynamic}:
            raise UsageError(
                f"this network pads every image to a square of {spec.square_side} pixels, so that height and width "
                "cannot be dynamic: leave them out, or let the graph pad images of any size (--preprocess)"
            )
        return tuple(axis for axis in options.axes if axis == "batch")
    if options.is_narrow and not {"height", "width"} <= {*options.axes}:
        raise UsageError(
            f"{options.precision} is measured on images of many sizes, so that height and width have to be dynamic: "
            "name both with --dynamic, or leave it out"
        )
    return options.axes
