"""The published entries as typed records, read from ``cascadezoo/zoo_manifest/<publisher>.toml``.

These are judged on COCO, except our own.  Entries on another data set, whose figures compare with nothing on COCO, are
read from ``<data set>.toml`` and counted apart.

A record keeps what the publisher's table says, digit for digit, beside what is true: where the weights really lie,
figures of later editions, licences.  Figures are ``Decimal``, so that a published 41.0 stays 41.0.  AP is COCO average
precision in percent.  Nothing here imports torch.
"""

import hashlib
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from cascadezoo.notebook import card
from cascadezoo.spec.record import Record

PUBLISHERS = (
    "mmdet",
    "internimage",
    "paddle",
    "detectron",
    "swin",
    "convnext",
    "detectron2",
    "cascadezoo",
)  # a name without publisher means the first that has it

ELSEWHERE = ("nuimages",)  # data sets other than COCO that publishers have entries on
Family = Literal["faster", "mask", "cascade_mask", "cascade"]  # the first that a name begins with
Availability = Literal["published", "moved", "wrong_link", "never_published", "embedded"]

FAMILIES: tuple[Family, ...] = get_args(Family)


def _digits_kept(value: object) -> object:
    if isinstance(value, int | float):
        raise ValueError(f"{value} has lost the digits it was published with: give a decimal or a string")
    return value


Figure = Annotated[Decimal, BeforeValidator(_digits_kept), Field(gt=0)]
AP = Annotated[Figure, Field(lt=100)]
Url = Annotated[str, Field(pattern=r"^(https?://|\./)\S+$")]  # "./": as a table links its own folder
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Md5Prefix = Annotated[str, Field(pattern=r"^[0-9a-f]{6,32}$")]
Sha256Prefix = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]


class Scores(Record):
    """COCO average precision in percent, of boxes and of masks; absent where the source prints none."""

    box_ap: AP | None = Field(default=None, description="box AP at IoU 0.50 to 0.95")
    box_ap50: AP | None = Field(default=None, description="box AP at IoU 0.50")
    box_ap75: AP | None = Field(default=None, description="box AP at IoU 0.75")
    mask_ap: AP | None = Field(default=None, description="mask AP at IoU 0.50 to 0.95")
    mask_ap50: AP | None = Field(default=None, description="mask AP at IoU 0.50")
    mask_ap75: AP | None = Field(default=None, description="mask AP at IoU 0.75")


class Evaluation(Scores):
    """The figures that a re-evaluation on COCO val2017 (minival) must reach."""

    box_ap: AP = Field(description="box AP at IoU 0.50 to 0.95")
    tta: bool = Field(default=False, description="whether the entry's test-time augmentation is on")
    tolerance: Figure = Field(default=Decimal("0.1"), description="allowed difference in AP, percent")
    basis: Literal["table", "later"] = Field(
        default="table", description="the published table, or later figures where the table has none"
    )


class LaterFigures(Scores):
    """Figures of a later edition of the publisher's page: kept beside the table's, never in their place."""

    tta: bool = Field(default=False, description="whether test-time augmentation was on")
    evidence: str = Field(description="where the figures are printed")


class Source(Record):
    """Where the entry was published: links as the table prints them, right or wrong, and facts about the file."""

    table: str = Field(description="the heading above the entry's row")
    config_url: Url | None = Field(default=None, description="link to the configuration")
    checkpoint_url: Url = Field(description="link to the weights; for an embedded entry its file in the package")
    log_url: Url | None = Field(default=None, description="link to the training log")
    boxes_url: Url | None = Field(default=None, description="link to the detected boxes")
    masks_url: Url | None = Field(default=None, description="link to the detected masks")
    sha256: Sha256 | None = Field(default=None, description="SHA-256 of the weights, in hexadecimal")
    sha256_prefix: Sha256Prefix | None = Field(default=None, description="the digits of it in the file's name")
    md5_prefix: Md5Prefix | None = Field(default=None, description="the digits of the weights' MD5 in the file's name")
    md5_url: Url | None = Field(default=None, description="link to a text file with the MD5 of the weights")
    size: int | None = Field(default=None, gt=0, description="size of the weights in bytes")

    @model_validator(mode="after")
    def _hashes_agree(self) -> Self:
        in_name = re.search(r"-([0-9a-f]{8})\.pth$", self.checkpoint_url)
        if in_name and self.sha256_prefix != in_name[1]:
            raise ValueError(f"sha256_prefix {self.sha256_prefix} is not the {in_name[1]} of the file's name")
        in_pickle = re.search(r"_([0-9a-f]{6})\.pkl$", self.checkpoint_url)
        if in_pickle and self.md5_prefix != in_pickle[1]:
            raise ValueError(f"md5_prefix {self.md5_prefix} is not the {in_pickle[1]} of the file's name")
        if self.sha256 and not self.sha256.startswith(self.sha256_prefix or ""):
            raise ValueError(f"sha256 {self.sha256} does not start with {self.sha256_prefix}")
        return self


class Identity(Record):
    """What a model is: its names, its network and its training schedule, in the publisher's own words."""

    name: str = Field(pattern=r"^[a-z0-9_]+\.[a-z][a-z0-9]*$", description="full name: architecture_schedule.publisher")
    publisher: str = Field(description="who published it")
    architecture: str = Field(description="key of the network in cascadezoo.providers; schedules share it")
    family: Family = Field(description="the kind of detector")
    backbone: str = Field(description="the backbone, as the table names it")
    pretraining: str | None = Field(default=None, description="what the backbone was trained on first, as printed")
    style: Literal["caffe", "pytorch"] | None = Field(default=None, description="the ResNet's style, as the table says")
    type: str | None = Field(default=None, description="the detector's type, as the table names it")
    schedule: Literal["1x", "2x", "3x", "4x", "20e", "50ep", "75ep", "100ep", "s1x", "shapes"] = Field(
        description="the training schedule"
    )
    epochs: int | None = Field(default=None, gt=0, description="epochs of training; absent where iterations count")
    im_per_gpu: int | None = Field(default=None, gt=0, description="images per GPU in training")

    @model_validator(mode="after")
    def _name_says_the_same(self) -> Self:
        if not self.name.endswith(f"_{self.schedule}.{self.publisher}"):
            raise ValueError(f"{self.name} does not end with _{self.schedule}.{self.publisher}")
        for slug in (self.name, self.architecture):
            if not slug.startswith(f"{self.family}_") or (
                self.family == "cascade" and slug.startswith("cascade_mask_")
            ):
                raise ValueError(f"{slug} does not belong to family {self.family}")
        return self


class ZooEntry(Scores, Identity):
    """One model: 109 published on COCO make the zoo, and one of our own that the package holds.

    Figures are the table's; where the table evaluates twice, they are of its first line.
    """

    data: Literal["coco", "shapes", "nuimages"] = Field(
        default="coco", description="what it was trained and is evaluated on"
    )
    data_license: str | None = Field(
        default=None, description="licence of the data it was trained on, where that restricts what they are used for"
    )
    memory_gb: Figure | None = Field(default=None, description="memory per GPU in training, GB")
    fps: Figure | None = Field(default=None, description="images per second in inference, on fps_device")
    inference_time: str | None = Field(default=None, description="time of inference on fps_device, as printed")
    fps_device: str | None = Field(default=None, description="the device that fps or inference_time was measured on")
    params: str | None = Field(default=None, description="number of parameters, as printed")
    flops: str | None = Field(default=None, description="floating-point operations, as printed")
    train_speed: str | None = Field(default=None, description="training speed, as printed")
    train_time: str | None = Field(default=None, description="training time, as printed")
    evaluations: tuple[Evaluation, ...] = Field(min_length=1, description="figures to verify, plain and with TTA")
    later_figures: tuple[LaterFigures, ...] = Field(default=(), description="figures of later editions of the page")
    availability: Availability = Field(description="whether the published link leads to the weights")
    corrected_url: Url | None = Field(default=None, description="where the weights of a moved or wrong link lie")
    corrected_config_url: Url | None = Field(default=None, description="where the configuration of a moved link lies")
    evidence: str = Field(description="how the availability is known")
    last_checked: date | None = Field(default=None, description="when the links were last tried; None: never")
    page_url: Url | None = Field(default=None, description="link to the page of the publisher that has its row")
    source: Source = Field(description="where it was published")
    code_license: str = Field(description="SPDX identifier of the publisher's code")
    weights_license: str = Field(description="SPDX identifier of the weights; unstated: the publisher names none")
    license_evidence: str | None = Field(default=None, description="what the publisher's pages say of the licences")
    attribution: str = Field(description="whom the weights are by")
    citation: tuple[str, ...] = Field(min_length=1, description="papers to cite")
    aliases: tuple[str, ...] = Field(
        default=(), description="stems of the publisher's files that mean it, some of them another too"
    )
    notes: tuple[str, ...] = Field(default=(), description="remarks for users")

    def __repr__(self) -> str:
        return f"ZooEntry({self.name!r}, {self._judged()}, weights {self.availability.replace('_', ' ')})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        source = self.source
        lines = [
            ("accuracy", self._judged()),
            ("backbone", f"{self.backbone} ({self.style} style)" if self.style else self.backbone),
            ("pretraining", self.pretraining or ""),
            ("architecture", self.architecture),
            ("schedule", self.schedule),
            ("speed as published", self.speed or ""),
            ("weights", f"{self.availability.replace('_', ' ')}: {self.evidence}"),
            ("file", (self.download_url or "") if self.availability != "embedded" else "in the package"),
            ("size", f"{source.size / 1e6:.0f} MB" if source.size else ""),
            ("published by", f'{self.attribution}, under "{source.table}"'),
            ("known by", self.integrity or ""),
            ("licences", f"weights {self.weights_license}, code {self.code_license}"),
            ("said of them", self.license_evidence or ""),
            ("licence of the data", self.data_license or ""),
            *(("cite", paper) for paper in self.citation),
            *(("note", note) for note in self.notes),
        ]
        return card(self.name, lines)

    def _judged(self) -> str:
        """The figures that a verification must reach."""
        first = self.evaluations[0]
        figures = [f"box AP {first.box_ap}"] + [f"mask AP {first.mask_ap}"] * (first.mask_ap is not None)
        figures += ["with test-time augmentation"] * first.tta
        figures += {"coco": [], "shapes": ["on drawn shapes"], "nuimages": ["on nuImages"]}[self.data]
        return ", ".join(figures)

    @property
    def bare_name(self) -> str:
        """The name without its publisher."""
        return self.name.removesuffix(f".{self.publisher}")

    @property
    def has_masks(self) -> bool:
        """Whether the model segments instances as well as boxing them."""
        return self.family in ("mask", "cascade_mask")

    @property
    def download_url(self) -> str | None:
        """Where this entry's own weights lie, as far as is known; None: they were never published."""
        if self.availability == "published":
            return self.source.checkpoint_url
        return self.corrected_url

    @property
    def speed(self) -> str | None:
        """The publisher's figure and device, as a phrase; None: the page prints none."""
        figure = f"{self.fps} images a second" if self.fps else self.inference_time
        return f"{figure} on one {self.fps_device}" if figure else None

    @property
    def integrity(self) -> str | None:
        """How a file is known to be the published one, as a phrase; None: there is no file, or it is in the package.

        Whatever it says, a file also has to be whole, and to hold the tensors of the entry's network.
        """
        if self.download_url is None:
            return None
        source, trusted = self.source, "the first file with the right tensors is trusted, and no other from then on"
        if source.sha256:
            return "its sha256 is published"
        if source.md5_url:
            return "its md5 is published in a file beside it"
        if source.sha256_prefix:
            return f"{len(source.sha256_prefix)} digits of its sha256 are in its name: {trusted}"
        if source.md5_prefix:
            return f"{len(source.md5_prefix)} digits of its md5 are in its name, which is weak: {trusted}"
        return f"no hash of it is published: {trusted}"

    @property
    def has_weights(self) -> bool:
        """Whether weights exist: published somewhere, or inside this package."""
        return self.download_url is not None or self.availability == "embedded"

    @model_validator(mode="before")
    @classmethod
    def _evaluated_as_published(cls, fields: Any) -> Any:
        """One plain evaluation, of the table's own figures, unless the entry lists its evaluations."""
        if isinstance(fields, dict) and "evaluations" not in fields:
            scores = {key: fields[key] for key in Scores.model_fields if key in fields}
            return {**fields, "evaluations": (scores,)}
        return fields

    @model_validator(mode="after")
    def _links_are_settled(self) -> Self:
        must_correct = self.availability in ("moved", "wrong_link")
        if must_correct != (self.corrected_url is not None):
            raise ValueError(f"{self.name}: corrected_url is for moved and wrong_link entries, and they need it")
        if self.corrected_url == self.source.checkpoint_url:
            raise ValueError(f"{self.name}: corrected_url is the published link")
        if self.corrected_config_url and self.corrected_config_url == self.source.config_url:
            raise ValueError(f"{self.name}: corrected_config_url is the published link")
        return self

    @model_validator(mode="after")
    def _figures_agree(self) -> Self:
        if (self.fps is None and self.inference_time is None) != (self.fps_device is None):
            raise ValueError(f"{self.name}: fps_device comes with fps or inference_time, and with nothing else")
        figures: tuple[Scores, ...] = (self, *self.evaluations, *self.later_figures)
        if not self.has_masks and any(scores.mask_ap or scores.mask_ap50 or scores.mask_ap75 for scores in figures):
            raise ValueError(f"{self.name}: mask AP for a model without masks")
        first = self.evaluations[0]
        if first.basis == "table" and any(getattr(self, key) != getattr(first, key) for key in Scores.model_fields):
            raise ValueError(f"{self.name}: the first evaluation is not the table's figures")
        if first.basis == "later" and not self.later_figures:
            raise ValueError(f"{self.name}: evaluated by later figures, of which there are none")
        return self


class ManifestFile(Record):
    """One TOML file."""

    defaults: dict[str, Any] = Field(default_factory=dict, description="fields of all entries that do not set them")
    entry: tuple[dict[str, Any], ...] = Field(description="the entries, in the order of the publisher's table")

    def entries(self) -> tuple[ZooEntry, ...]:
        return tuple(ZooEntry.model_validate({**self.defaults, **fields}) for fields in self.entry)


def parse(text: str) -> tuple[ZooEntry, ...]:
    """The entries of one manifest file; a ValueError (pydantic's ValidationError is one) says what is wrong with it.

    Two entries may share an alias, where the publisher trained both by one configuration.
    """
    try:
        fields = tomllib.loads(text, parse_float=Decimal)
    except RecursionError as error:
        raise ValueError("tables or arrays nested too deeply") from error
    entries = ManifestFile.model_validate(fields).entries()
    repeated = _repeated(entry.bare_name for entry in entries)
    for entry in entries:
        repeated += _repeated((entry.bare_name, *entry.aliases))
        repeated += [alias for alias in entry.aliases if any(alias == other.bare_name for other in entries)]
    if repeated:
        raise ValueError(f"names or aliases given twice: {', '.join(dict.fromkeys(repeated))}")
    return entries


@cache
def load_manifest() -> dict[str, tuple[ZooEntry, ...]]:
    """All entries by publisher, publishers and entries in their published order; read once."""
    manifest = {publisher: parse(_text(publisher)) for publisher in PUBLISHERS}
    for publisher, entries in manifest.items():
        strangers = [entry.name for entry in entries if entry.publisher != publisher]
        if strangers:
            raise ValueError(f"{publisher}.toml holds entries of another publisher: {', '.join(strangers)}")
    return manifest


@cache
def load_elsewhere() -> dict[str, tuple[ZooEntry, ...]]:
    """The entries on other data sets than COCO, by data set, of whatever publisher; read once."""
    found = {data: parse(_text(data)) for data in ELSEWHERE}
    for data, entries in found.items():
        strangers = [entry.name for entry in entries if entry.data != data or entry.publisher not in PUBLISHERS]
        if strangers:
            raise ValueError(f"{data}.toml holds entries on other data or of nobody: {', '.join(strangers)}")
    return found


def digest() -> str:
    """SHA-256 of all manifest files, for reports that rest on them."""
    return hashlib.sha256("".join(map(_text, (*PUBLISHERS, *ELSEWHERE))).encode()).hexdigest()


def schema() -> str:
    """The JSON Schema of a record as it is printed: the text of ``zoo_manifest/schema.json``."""
    return json.dumps(ZooEntry.model_json_schema(mode="serialization"), indent=2) + "\n"


def _text(name: str) -> str:
    return files("cascadezoo.zoo_manifest").joinpath(f"{name}.toml").read_text("utf-8")


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)
