"""Results of many images written as they come: files of each image at once, files of all images at the end."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cascadezoo.coco.categories import Categories
from cascadezoo.detections import Detections
from cascadezoo.errors import CascadezooError, UsageError
from cascadezoo.files import write_json_stream
from cascadezoo.formats.labelme import write_names
from cascadezoo.formats.labels import Notes
from cascadezoo.formats.yolo import write_description
from cascadezoo.outputs.documents import require_arrow, write_annotations, write_csv, write_parquet, write_results
from cascadezoo.outputs.found import Found, Shown, found_in
from cascadezoo.outputs.kinds import ANNOTATIONS, KINDS, OF_MASKS, require_kinds
from cascadezoo.outputs.label_studio import task_of, write_config
from cascadezoo.outputs.labels import write_labelme, write_yolo
from cascadezoo.outputs.pictures import made, write_crops, write_cutouts, write_masks, write_picture
from cascadezoo.outputs.spool import Spool

_PIXELS = {"masks": write_masks, "cutouts": write_cutouts, "crops": write_crops}
_OF_ALL = ("coco", "json", "csv", "parquet")
_FOLDERS = ("masks", "cutouts", "crops", "yolo", "labelme", "labelstudio")  # that files of an image are put into


class Outputs(AbstractContextManager["Outputs"]):
    """Writes detections in the kinds asked for into a folder; docs/outputs.md describes each.

    ``add`` takes images one at a time, in any order and from several threads; ``finish`` writes what is of all of them.

    Attributes:
        folder: of the results.
    """

    def __init__(
        self,
        kinds: Collection[str],
        folder: Path,
        categories: Categories,
        *,
        has_masks: bool = True,
        description: str = "cascadezoo",
        given: Collection[Path] = (),
    ) -> None:
        """Args:
            kinds: of ``KINDS``.
            folder: made where it is missing; what an earlier run left there under the same names is replaced.
            categories: of the detections.
            has_masks: whether the model gives masks.
            description: of the run, for the files that have a place for one.
            given: the images' own files.

        Raises UsageError for a name that is no kind, kinds that are nothing without masks, and where a given file lies
        in a folder that files are written into; MissingResource without a library that a kind needs; UnwritableOutput.
        """
        require_kinds(kinds)
        if not has_masks and (without := [kind for kind in kinds if kind in OF_MASKS]):
            raise UsageError(f"{' and '.join(without)} cannot be saved of a model without masks: leave them out")
        for kind in _FOLDERS:
            inside = (folder / kind).resolve()
            if kind in kinds and (own := next((path for path in given if path.resolve().is_relative_to(inside)), None)):
                raise UsageError(f"{own} lies where {kind} are written: choose another folder for the results")
        if "parquet" in kinds:
            require_arrow()
        self.folder = made(folder)
        self._kinds, self._categories = frozenset(kinds), categories
        self._has_masks, self._description, self._notes = has_masks, description, Notes()
        self._records = Spool(folder) if self._kinds.intersection(_OF_ALL) else None
        self._tasks = Spool(folder) if "labelstudio" in kinds else None

    @property
    def notes(self) -> list[str]:
        """What was left out or changed because a kind has no place for it, a line for each reason."""
        return self._notes.lines()

    def add(self, image: Shown, detections: Detections) -> list[Path]:
        """Write the files of one image; returns them, the picture first.

        Raises UnwritableOutput; then nothing of this image is in the files of all.
        """
        results = detections.to_coco(image.id)
        found = found_in(results, self._categories)
        written = []
        if "picture" in self._kinds:
            written.append(write_picture(self.folder / f"{image.stem}.jpg", detections.plot(image.pixels)))
        for kind, write in _PIXELS.items():
            if kind in self._kinds:
                written += write(self.folder / kind, image, found)
        if "yolo" in self._kinds:
            written += write_yolo(self.folder / "yolo", image, found, self._categories, self._notes)
        if "labelme" in self._kinds:
            written += write_labelme(self.folder / "labelme", image, found, self._notes)
        if self._tasks is not None:
            written += self._add_task(self._tasks, image, found)
        if self._records is not None:
            height, width = detections.image_size
            record = {"id": image.id, "file_name": image.name, "height": height, "width": width}
            self._records.add(image.id, {"image": record, "results": results})
        return written

    def _add_task(self, tasks: Spool, image: Shown, found: Sequence[Found]) -> list[Path]:
        task, written = task_of(self.folder / "labelstudio", image, found, self._description)
        tasks.add(image.id, task)
        return written

    def finish(self, more: Mapping[str, Any] | None = None) -> list[Path]:
        """Write the files of all images, each whole or not at all; returns them, in the order of ``KINDS``.

        ``more``: further members of the COCO annotation file.  Raises the first UnwritableOutput after all of them were
        tried.
        """
        written, failed = [], None
        for kind in KINDS:
            if kind in self._kinds:
                for write in self._writers(kind, more or {}):
                    try:
                        written.append(write())
                    except CascadezooError as error:
                        failed = failed or error
        if failed is not None:
            raise failed
        return written

    def _writers(self, kind: str, more: Mapping[str, Any]) -> list[Callable[[], Path]]:
        """What is left to write of a kind, a file each."""
        folder, categories, records, tasks = self.folder, self._categories, self._records or (), self._tasks or ()
        writers: dict[str, list[Callable[[], Path]]] = {
            "coco": [
                lambda: write_annotations(folder / ANNOTATIONS, records, categories, self._description, more),
            ],
            "json": [lambda: write_results(folder / "results.json", records)],
            "csv": [lambda: write_csv(folder / "detections.csv", records, categories)],
            "parquet": [lambda: write_parquet(folder / "detections.parquet", records, categories)],
            "yolo": [lambda: write_description(made(folder / "yolo"), categories)],
            "labelme": [lambda: write_names(made(folder / "labelme"), categories)],
            "labelstudio": [
                lambda: write_json_stream(made(folder / "labelstudio") / "tasks.json", iter(tasks)),
                lambda: write_config(folder / "labelstudio" / "config.xml", categories, self._has_masks),
            ],
        }
        return writers.get(kind, [])

    def close(self) -> None:
        """Give back the disk's space that records of all images took."""
        for spool in (self._records, self._tasks):
            if spool is not None:
                spool.close()

    def __exit__(self, *_: object) -> None:
        self.close()
