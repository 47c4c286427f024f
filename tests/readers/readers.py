"""Every reader of this package by the public function that people call, and what it may raise."""

import os

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**20))  # before OpenCV is loaded: no input takes long or much

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from readers import small_files
from torch import Tensor

from cascadezoo.benchmarks.reports.schema import read_report
from cascadezoo.coco.categories import Categories
from cascadezoo.coco.checking import check
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.coco.evaluation import read_truth
from cascadezoo.coco.segmentations import bitmap
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.converters.checkpoint import read_checkpoint
from cascadezoo.converters.records import Declared
from cascadezoo.converters.safetensors_file import is_safetensors, open_safetensors
from cascadezoo.errors import CascadezooError
from cascadezoo.formats.conversion import Format, to_coco
from cascadezoo.images import read_image
from cascadezoo.manifest import parse
from cascadezoo.repo_config import read_config
from cascadezoo.training.config import TrainingConfig

_SMALL = 2**16  # pixels of a mask that is worth drawing here


@dataclass(frozen=True)
class Reader:
    """``read`` takes the file and uses what it holds; ``seeds`` are small valid files; ``file`` is the name they go by.

    ``refuses``: what it raises for a bad file, and nothing else is.  The manifest is no input of a user's but a part
    of the package: its documented error is ValueError.
    """

    read: Callable[[Path], object]
    seeds: tuple[Callable[[], bytes], ...]
    file: str
    refuses: type[Exception] = CascadezooError

    def holds(self, path: Path) -> bool:
        """Whether the file is taken; an error other than ``refuses`` escapes."""
        try:
            self.read(path)
        except self.refuses as error:
            str(error)
            return False
        return True


def _use(records: Mapping[str, Declared], tensors: Mapping[str, Tensor]) -> None:
    """Every tensor is what was declared of it."""
    for key, tensor in tensors.items():
        record = records[key]
        assert (tuple(tensor.shape), str(tensor.dtype)) == (record.shape, f"torch.{record.dtype}")
        tensor.clone()


def _checkpoint(path: Path) -> None:
    checkpoint = read_checkpoint(path)
    _use(checkpoint.records, checkpoint.tensors)
    repr(checkpoint)
    str(checkpoint.meta)


def _canonical(path: Path) -> None:
    is_safetensors(path)
    file = open_safetensors(path)
    _use(file.records, file.tensors)
    tensors, metadata = read_canonical(path)
    assert (tensors.keys(), metadata) == (file.records.keys(), file.metadata)
    str(metadata)


def _annotations(path: Path) -> None:
    images = path.parent / "images"
    images.mkdir(exist_ok=True)
    (images / "a.png").write_bytes(small_files.image(size=(4, 6)))
    check(path, images, most=3)
    dataset = CocoDataset(path, images)
    for index in range(min(len(dataset), 10)):
        record = dataset.record(index)
        if record.height * record.width <= _SMALL:
            for segmentation in record.segmentations:
                if segmentation is not None:
                    assert bitmap(segmentation, record.height, record.width).shape == (record.height, record.width)


def _labels(form: Format, place: str, beside: Mapping[str, str]) -> Callable[[Path], object]:
    """Convert a data set in which the file is at ``place``, with these other files and an image."""

    def read(path: Path) -> None:
        root = path.parent / path.stem
        files = {
            **{name: text.encode() for name, text in beside.items()},
            "images/a.png": small_files.image(size=(4, 6)),
            place: path.read_bytes(),
        }
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        to_coco(root, root / "coco.out", form, images=root / "images")

    return read


READERS = {
    "torch_zip": Reader(_checkpoint, (small_files.torch_zip,), "a.pth"),
    "torch_legacy": Reader(_checkpoint, (small_files.torch_legacy,), "a.pth"),
    "pickle": Reader(
        _checkpoint, (small_files.pdparams, small_files.detectron_pickle, small_files.numpy_pickle), "a.pkl"
    ),
    "safetensors": Reader(_canonical, (small_files.safetensors,), "a.safetensors"),
    "manifest": Reader(
        lambda path: parse(path.read_bytes().decode("utf-8", "replace")), (small_files.manifest,), "a.toml", ValueError
    ),
    "repo_config": Reader(lambda path: read_config(path, "org/name").names, (small_files.repo_config,), "config.json"),
    "report": Reader(read_report, (small_files.report,), "report.json"),
    "training_config": Reader(
        lambda path: TrainingConfig.read(path.parent), (small_files.training_config,), "config.json"
    ),
    "categories": Reader(
        lambda path: Categories.from_json(path.read_bytes().decode("utf-8", "replace")),
        (small_files.categories,),
        "categories.json",
    ),
    "annotations": Reader(_annotations, (small_files.annotations,), "instances.json"),
    "evaluation": Reader(read_truth, (small_files.annotations,), "instances.json"),
    "yolo_label": Reader(
        _labels(Format.YOLO, "labels/a.txt", {"data.yaml": small_files.YOLO_YAML}),
        (small_files.YOLO_LABEL.encode,),
        "yolo_label.txt",
    ),
    "yolo_yaml": Reader(
        _labels(Format.YOLO, "data.yaml", {"labels/a.txt": small_files.YOLO_LABEL}),
        (small_files.YOLO_YAML.encode,),
        "yolo_yaml.yaml",
    ),
    "voc": Reader(_labels(Format.VOC, "Annotations/a.xml", {}), (small_files.VOC.encode,), "voc.xml"),
    "labelme": Reader(_labels(Format.LABELME, "a.json", {}), (small_files.labelme,), "labelme.json"),
    "image": Reader(
        read_image,
        (small_files.image, lambda: small_files.image(".jpg"), lambda: small_files.image(".bmp")),
        "a.png",
    ),
}
