"""The model card of a published repository: front matter for the Hub, text for people.  No figure in it is typed.

What comes from a file's metadata or a report may be anyone's: it stands here on one line, without markup of its own.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cascadezoo.benchmarks.reports.markdown import is_web_address, link, one_line, plain, words
from cascadezoo.coco.metrics import METRICS
from cascadezoo.hub.sources import is_repository
from cascadezoo.manifest import ZooEntry
from cascadezoo.publishing.figures import Figures, Row, eval_results
from cascadezoo.publishing.licensing import WeightsLicense
from cascadezoo.repo_config import RepoConfig
from cascadezoo.spec.origin import is_from_scratch

_MODELS = {
    "faster": ("Faster R-CNN", "faster-rcnn"),
    "mask": ("Mask R-CNN", "mask-rcnn"),
    "cascade": ("Cascade R-CNN", "cascade-rcnn"),
    "cascade_mask": ("Cascade Mask R-CNN", "cascade-mask-rcnn"),
}


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The canonical file to publish: its sha256, and its metadata, as the converter or the training wrote it.

    ``of_the_publisher``: converted from the publisher's file; else trained, ``from_scratch`` or from published weights.
    """

    sha256: str
    metadata: Mapping[str, str]

    @property
    def of_the_publisher(self) -> bool:
        metadata = self.metadata
        unchanged = metadata.get("published_digest", "") == metadata.get("content_digest")
        return "source_sha256" in metadata and (unchanged or "categories" not in metadata)

    @property
    def from_scratch(self) -> bool:
        return is_from_scratch(self.metadata)

    @property
    def base_model(self) -> str | None:
        """The repository of the Hub whose weights these were trained from; None where it was none."""
        started = re.match(r"hf-hub:([^@\s]+)@", self.metadata.get("started_from", ""))
        return started[1] if started and is_repository(started[1]) and not self.of_the_publisher else None


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card is made of.

    Attributes:
        repo: ``organisation/repository``.
        entry: the entry whose weights are published.
        config: the repository's config.json.
        weights: the canonical file.
        license: the licence of the weights.
        attribution: whom the weights are by; None for weights that were trained from scratch.
        figures: their accuracy; None where nothing is known of it.
        picture: the name in the repository of a picture of what they find; None: there is none.
    """

    repo: str
    entry: ZooEntry
    config: RepoConfig
    weights: Weights
    license: WeightsLicense
    attribution: str | None
    figures: Figures | None
    picture: str | None = None

    def text(self) -> str:
        """README.md, front matter and all."""
        sections = [self._title(), self._use(), self._accuracy(), self._licence(), self._provenance(), self._citation()]
        return f"---\n{self._front_matter()}\n---\n\n" + "\n\n".join("\n".join(lines) for lines in sections) + "\n"

    def _front_matter(self) -> str:
        from huggingface_hub import ModelCardData

        task = "image-segmentation" if self.config.spec.mask else "object-detection"
        return ModelCardData(
            **self.license.front_matter(),
            library_name="cascadezoo",
            pipeline_tag=task,
            tags=["object-detection", *(["instance-segmentation"] if self.config.spec.mask else []), self._model[1]],
            base_model=self.weights.base_model,
            datasets=["detection-datasets/coco"] if self._is_on_coco else None,
            model_name=words(self.entry.name),
            eval_results=eval_results(self.figures) if self.figures else None,
        ).to_yaml()

    @property
    def _is_on_coco(self) -> bool:
        return self.weights.of_the_publisher and self.entry.data == "coco"

    @property
    def _model(self) -> tuple[str, str]:
        return _MODELS[self.entry.family]

    def _title(self) -> Iterator[str]:
        entry, classes = self.entry, self.config.spec.num_classes
        output = "boxes and masks" if self.config.spec.mask else "boxes"
        yield f"# {plain(entry.name)}"
        yield ""
        network = f"{self._model[0]}, {plain(entry.backbone)}, {plain(entry.schedule)} schedule"
        yield f"{network}; {output} of {classes} categories."
        yield ""
        if self.weights.of_the_publisher:
            author = plain(self.attribution or "their publisher")
            yield f"The weights are those that {author} published, for cascadezoo:"
            yield "one native PyTorch implementation, which computes with them what the publisher's own code computes."
        elif entry.availability == "embedded":
            yield "The weights were trained with cascadezoo."
        else:
            yield "The weights were trained with cascadezoo: the publisher's figures are not theirs."
        if self.picture:
            yield ""
            yield f"![What these weights find on an image]({self.picture})"

    def _use(self) -> Iterator[str]:
        yield "## Use"
        yield ""
        yield "```python"
        yield "import cascadezoo"
        yield ""
        yield f"model = cascadezoo.load({json.dumps(f'hf-hub:{one_line(self.repo)}')})"
        yield 'detections = model.predict("photo.jpg")'
        yield "detections.boxes, detections.scores, detections.labels" + (
            ", detections.masks" if self.config.spec.mask else ""
        )
        yield "```"
        yield ""
        yield f'`"hf-hub:{one_line(self.repo).replace("`", "")}@REVISION"` pins a branch, a tag or a commit.'

    def _accuracy(self) -> Iterator[str]:
        yield "## Accuracy"
        yield ""
        if self.figures is None:
            yield "No report of these weights was given."
            return
        if self.figures.basis == "published":
            how = "**as published**; not measured on these files"
        else:
            how = "**measured** on these files"
        yield f"Average precision in percent on {plain(self.figures.dataset)}, {how}."
        yield f"Source: {link(self.figures.source_name, self.figures.source_url)}."
        yield ""
        yield from _table(self.figures.rows)

    def _licence(self) -> Iterator[str]:
        entry, licence = self.entry, self.license
        yield "## Licence and attribution"
        yield ""
        yield f"- Weights: {link(licence.id, licence.url)}, {self._who_says()}."
        if entry.license_evidence and self.weights.of_the_publisher:
            yield f"- What the publisher's pages say: {plain(entry.license_evidence)}."
        if entry.data_license and not self.weights.from_scratch:
            yield f"- Data that the published weights were trained on: {plain(entry.data_license)}."
        if self.attribution:
            yield f"- Attribution: {plain(self.attribution)}."
        yield "- Changes: " + (
            "tensors were renamed, laid out anew and stored in float32, those that inference never uses were left out; "
            "no value was altered."
            if self.weights.of_the_publisher
            else "the weights were trained with cascadezoo."
        )
        if licence.share_alike:
            yield f"- Share-alike: pass these weights on, changed or not, only under {licence.id}, with this"
            yield "  attribution and a note of what you changed."
        if entry.availability != "embedded":
            yield f"- The publisher's code, of which nothing is here, is under {plain(entry.code_license)}."

    def _who_says(self) -> str:
        if self.license.stated:
            return "as their publisher states"
        if self.attribution is None:
            return "chosen by the owner of this repository"
        return "chosen by the owner of this repository: **the weights' publisher states no licence for them**"

    def _provenance(self) -> Iterator[str]:
        metadata = self.weights.metadata
        yield "## Provenance"
        yield ""
        yield "| | |"
        yield "|---|---|"
        for label, value in (
            ("entry", self.entry.name),
            ("may also be, by its tensors", ", ".join(n for n in _entries(metadata) if n != self.entry.name)),
            ("publisher's file", _addresses(metadata.get("source_url", ""))),
            ("its sha256", metadata.get("source_sha256")),
            ("is that the published hash?", _hash_verdict(metadata)),
            ("converted by", metadata.get("converter")),
            ("key map", metadata.get("key_map")),
            ("training started from", metadata.get("started_from")),
            ("trained on", metadata.get("data")),
            ("trained by", metadata.get("trained_by")),
            ("sha256 of model.safetensors", self.weights.sha256),
            ("content digest of its tensors", self.config.content_digest),
        ):
            if value:
                yield f"| {label} | {plain(value)} |"

    def _citation(self) -> Iterator[str]:
        yield "## Citation"
        yield ""
        for reference in self.entry.citation:
            yield f"- {plain(reference)}"


def _entries(metadata: Mapping[str, str]) -> list[str]:
    return [name for name in metadata.get("entries", "").split(",") if name]


def _addresses(text: str) -> str:
    """The web addresses of a list; what is none is left out."""
    return ",".join(part for part in text.split(",") if is_web_address(part))


def _hash_verdict(metadata: Mapping[str, str]) -> str | None:
    """Whether the file has the published hash, in the converter's verdict."""
    verdicts = {"yes": "yes", "no": "no hash was published for it, or it has another"}
    return verdicts.get(metadata.get("source_is_published", ""))


def _table(rows: tuple[Row, ...]) -> Iterator[str]:
    """Figures as printed at their source; columns that no row fills are left out."""
    columns = [field for field in METRICS if any(field in row.values for row in rows)]
    yield f"| test-time augmentation | {' | '.join(METRICS[field].heading for field in columns)} |"
    yield "|---|" + "---|" * len(columns)
    for row in rows:
        yield f"| {'yes' if row.tta else 'no'} | {' | '.join(str(row.values.get(field, '')) for field in columns)} |"
